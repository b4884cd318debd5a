"""Every error an operator can meet, with what to do (`hint`) and the process's exit code.

    Csv2KafkaError
    |- UsageError              2   the command line contradicts itself
    |- BadData                65   the file cannot be loaded as it is
    |  |- BadHeader
    |  `- BadRow                   row number, byte range, reason
    |- SourceError            66
    |  |- SourceMissing
    |  `- SourceChanged            the object is no longer the one the job began with
    |- Retryable              75   run the same command again
    |  |- SourceUnavailable
    |  |- KafkaUnavailable
    |  |- CheckpointUnavailable
    |  |- JobHeld                  another instance holds the job's lease
    |  `- Fenced                   another instance took the job over while this one ran
    |- Denied                 77   credentials or permissions
    `- ConfigError            78   an option, the topic, or the job's own past forbids going on
       |- TopicError
       |- JobConflict              the checkpoint and the log (or the options) contradict each other
       `- CheckpointMissing        the checkpoint's table or folder is not there

Any other exception is a bug. Nothing here logs; the command line prints message and hint. `kind` is the name under
which metrics count an error.
"""

from __future__ import annotations

import errno

from csv2kafka.model import Position

KINDS = ("bad_data", "bug", "checkpoint", "config", "denied", "kafka", "lease", "machine", "source", "usage")

_NO_MORE_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_NO_MORE_THREADS = "can't start new thread"  # Python's words, its only sign
# Python's, too, where there was no memory for the exception itself.
_NO_REASON = ("without exception set", "without setting an exception")
# What dynamic loaders say where memory is short, and what llvmlite makes of it.
_CANNOT_MAP = (
    "failed to map segment",
    "cannot map zero-fill",
    "cannot allocate",
    "cannot change memory protections",
    "cannot create shared object descriptor",
    "could not find/load shared object",
)


class Csv2KafkaError(Exception):
    """Base of all operating errors. `hint` says what the user can do now; `exit_code` is the process's."""

    exit_code = 70
    kind = "bug"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(Csv2KafkaError):
    exit_code = 2
    kind = "usage"


class BadData(Csv2KafkaError):
    exit_code = 65
    kind = "bad_data"


class BadHeader(BadData):
    pass


class BadRow(BadData):
    """Row number `start.row + 1` at bytes `start.byte_offset` to `end_byte` (exclusive) cannot become a record.

    The bytes are the row's text without its line end.
    """

    def __init__(self, start: Position, end_byte: int, reason: str, *, hint: str) -> None:
        super().__init__(
            f"row {start.row + 1} (bytes {start.byte_offset} to {end_byte}) {reason}; "
            "the job's rows before it are safe",
            hint=hint,
        )
        self.start = start
        self.end_byte = end_byte
        self.reason = reason


class SourceError(Csv2KafkaError):
    exit_code = 66
    kind = "source"


class SourceMissing(SourceError):
    pass


class SourceChanged(SourceError):
    pass


class Retryable(Csv2KafkaError):
    exit_code = 75
    kind = "machine"  # what is none of the ones below: memory, open files, threads


class SourceUnavailable(Retryable):
    kind = "source"


class KafkaUnavailable(Retryable):
    kind = "kafka"


class CheckpointUnavailable(Retryable):
    kind = "checkpoint"


class JobHeld(Retryable):
    kind = "lease"


class Fenced(Retryable):
    kind = "lease"


class Denied(Csv2KafkaError):
    exit_code = 77
    kind = "denied"


class ConfigError(Csv2KafkaError):
    exit_code = 78
    kind = "config"


class TopicError(ConfigError):
    pass


class JobConflict(ConfigError):
    pass


class CheckpointMissing(ConfigError):
    pass


def operating_error(error: BaseException) -> Csv2KafkaError | None:
    """The error as an operator meets it; None for a bug."""
    return error if isinstance(error, Csv2KafkaError) else machine_limit(error)


def machine_limit(error: BaseException) -> Retryable | None:
    """What this machine refused the process (memory, open files, threads) as an error for its operator; None for
    anything else. What was sent until then is safe.
    """
    again = "then run the same command again: it goes on where this run ended."
    number = error.errno if isinstance(error, OSError) else None
    if number in _NO_MORE_FILES:
        return Retryable("this process may not open more files", hint=f"Raise the limit (ulimit -n), {again}")
    if isinstance(error, RuntimeError) and _NO_MORE_THREADS in str(error):
        return Retryable("no more threads can be started", hint=f"Raise the limit (ulimit -u, ulimit -v), {again}")
    # A library that does not fit into memory cannot be loaded; which is all that the loader says.
    is_unloadable = isinstance(error, OSError | ImportError) and any(word in str(error).lower() for word in _CANNOT_MAP)
    is_untold = isinstance(error, SystemError) and any(word in str(error) for word in _NO_REASON)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or is_unloadable or is_untold:
        reason = f" ({error})" if is_unloadable or is_untold else ""
        return Retryable(
            f"there is not enough memory{reason}", hint=f"Give the process more of it (ulimit -v), {again}"
        )
    return machine_limit(error.__context__) if error.__context__ else None
