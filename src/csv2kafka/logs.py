"""What goes to stderr while a job runs: set-up of logging, for people who operate it. No message is written here."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

NAME = "csv2kafka"
EXTRA = "fields"  # attribute of a record: what else its line of JSON says
_REPEAT_AFTER_S = 30.0
_RED, _YELLOW, _DIM = "31", "33", "2"

AUTO, TEXT, JSON = "auto", "text", "json"
# What each line of JSON says as well, as far as it is known: job, row and offset (the last one acknowledged).
whereabouts: dict[str, str | int] = {}


def set_up(log_format: str = AUTO, *, quiet: bool = False, verbose: bool = False) -> None:
    """Send log records to whatever is stderr when they come. `quiet`: warnings only; `verbose`: details as well.

    log_format: text, json, or auto: text on a terminal, lines of JSON elsewhere.
    """
    handler = _StderrHandler()
    is_terminal = sys.stderr.isatty()
    is_json = log_format == JSON or (log_format == AUTO and not is_terminal)
    handler.setFormatter(_Json() if is_json else _Terminal() if is_terminal else _Plain())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger(NAME).setLevel(level)
    # Never below INFO: there aiokafka logs whole requests, and botocore whole signatures.
    kafka = logging.getLogger("aiokafka")
    kafka.setLevel(logging.INFO if verbose else logging.WARNING)
    handler.addFilter(_ChatterFilter())
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # "connection pool is full": harmless


@functools.cache
def warn_once(origin: logging.Logger, message: str) -> None:
    """Once a process: one that loads many files would say it for each."""
    origin.warning("%s", message)


def styled(text: str, code: str, stream: TextIO) -> str:
    """`text` in an ANSI style, or as it is where colour is not wanted: no terminal, NO_COLOR, a dumb terminal."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


class _StderrHandler(logging.Handler):
    """Looks sys.stderr up for each record: a progress bar puts itself there. A closed stderr fails no job."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class _ChatterFilter(logging.Filter):
    """The Kafka client repeats itself while a broker is away, and calls ERROR what is retried: once in a while, as a
    warning, is what an operator needs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last_shown: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        message = record.getMessage()
        if record.created - self._last_shown.get(message, float("-inf")) < _REPEAT_AFTER_S:
            return False
        self._last_shown[message] = record.created
        return True


class _Terminal(logging.Formatter):
    """Bare messages; only what is not plain information is marked."""

    def format(self, record: logging.LogRecord) -> str:
        origin = _origin(record)
        text = super().format(record) if origin == NAME else f"{origin}: {super().format(record)}"
        if record.levelno >= logging.ERROR:
            return styled("error: ", _RED, sys.stderr) + text
        if record.levelno >= logging.WARNING:
            return styled("warning: ", _YELLOW, sys.stderr) + text
        return text if record.levelno >= logging.INFO else styled(text, _DIM, sys.stderr)


class _Plain(logging.Formatter):
    """Time (UTC), level and origin before each message, for a container's log."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return f"{moment} {record.levelname:<7} {_origin(record)}: {super().format(record)}"


class _Json(logging.Formatter):
    """One object a line, for who collects logs."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": moment, "level": record.levelname, "logger": _origin(record), "message": record.getMessage()}
        said |= getattr(record, EXTRA, {})
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said | whereabouts, ensure_ascii=False)


def tell_failure(message: str, hint: str, exit_code: int) -> bool:
    """Log an error as a line of JSON, if that is what is written. False: it is for the terminal."""
    handlers = logging.getLogger().handlers
    if not any(isinstance(handler.formatter, _Json) for handler in handlers):
        return False
    logging.getLogger(NAME).error(message, extra={EXTRA: {"hint": hint, "exit_code": exit_code}})
    return True


def _origin(record: logging.LogRecord) -> str:
    """Which program speaks: modules are for its developers."""
    return record.name.partition(".")[0]
