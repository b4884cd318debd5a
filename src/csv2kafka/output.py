"""What a command leaves behind: one result on stdout, errors on stderr. No logging, and no decision on exit codes."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from typing import Any, TextIO

from csv2kafka.errors import Csv2KafkaError
from csv2kafka.logs import styled, tell_failure

_RED, _BOLD = "31;1", "1"


class Output:
    """One command's result, as text or (`as_json`) as one JSON object; whoever comes second is not heard."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self._is_told = False

    @property
    def is_told(self) -> bool:
        """Whether the result is out."""
        return self._is_told

    def result(self, text: str, fields: dict[str, Any]) -> None:
        self._tell(json.dumps(fields, ensure_ascii=False) if self._as_json else text)

    def error(self, error: Csv2KafkaError) -> None:
        self.failure(error.message, error.hint, error.exit_code)

    def failure(self, message: str, hint: str, exit_code: int) -> None:
        """Say on stderr what went wrong and what to do; with JSON, say it on stdout as well."""
        if not tell_failure(message, hint, exit_code):
            hint_lines = f"{styled('hint:', _BOLD, sys.stderr)} {hint}\n" if hint else ""
            write(sys.stderr, f"{styled('error:', _RED, sys.stderr)} {message}\n{hint_lines}")
        if self._as_json:
            fields = {"status": "failed", "error": message, "hint": hint, "exit_code": exit_code}
            self._tell(json.dumps(fields, ensure_ascii=False))

    def bug(self, error: BaseException, exit_code: int) -> None:
        """Report an exception that no one expected: a line, then the traceback."""
        hint = "please report it with the lines below; running the same command again is safe"
        self.failure(f"this is a bug: {type(error).__name__}: {error}", hint, exit_code)
        write(sys.stderr, "".join(traceback.format_exception(error)))

    def _tell(self, text: str) -> None:
        with self._lock:
            if not self._is_told:
                self._is_told = True
                write(sys.stdout, text + "\n")


def write(stream: TextIO, text: str) -> None:
    """Write and flush. Nobody listening any more (`| head`) does not change how the job went."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is still buffered goes there at exit
