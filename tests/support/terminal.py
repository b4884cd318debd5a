"""A shell in a terminal of its own, as somebody sits before it: what is typed, what stands there, pictures of it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyte  # type: ignore[import-untyped]
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.support.until import until

COLUMNS, LINES = 122, 500  # as many lines as a whole session has: nothing scrolls away
CTRL_C = b"\x03"
_PATIENCE_S = 120.0
_PROMPT = "$ "
# With each prompt the shell tells, in the terminal's title, how many commands have ended, and the last one's exit code.
_TELL_END = r'printf "\033]2;%d %d\007" $((ended++)) $?'
_COLOURS = {"brown": "yellow"}
_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """A command and what stands below it; its own line is the terminal's `first`, that of the cursor `end`."""

    command: str
    lines: tuple[str, ...]
    exit_code: int
    first: int
    end: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Terminal:
    """Bash in `folder`, with its output painted as a terminal paints it. For use in `with`; ends with it."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._command, self._first, self._ended_before = "", 0, 0
        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        own = {"TERM": "xterm-256color", "PS1": _PROMPT, "PROMPT_COMMAND": _TELL_END, "INPUTRC": os.devnull}
        # A new session's leader gets the first terminal that it opens as its own.
        take_terminal = 'exec bash --norc --noprofile -i <>"$0" >&0 2>&0'
        self._shell = subprocess.Popen(
            ["sh", "-c", take_terminal, os.ttyname(inner)],
            cwd=folder,
            env={**os.environ, **own, **env},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: self._ended == 0, "the shell's first prompt")
        os.close(inner)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.kill()  # whose terminal hangs up on all that still runs in it
        self._shell.wait()
        self._reader.join()

    def run(self, command: str) -> Said:
        self.begin(command)
        return self.end()

    def begin(self, command: str) -> None:
        """Type a command, without waiting for its end."""
        with self._lock:
            self._command, self._first = command, int(self._screen.cursor.y)
            self._ended_before = self._ended
        os.write(self._fd, command.encode() + b"\n")

    def so_far(self) -> Said:
        """Of a command that still runs, which has no exit code yet (-1)."""
        with self._lock:
            end = int(self._screen.cursor.y)
            lines = [line.rstrip() for line in self._screen.display[self._first : end + 1]]
            has_ended = self._ended > self._ended_before
            exit_code = int(self._screen.title.split()[1]) if has_ended else -1
        typed_lines = 1 + (len(_PROMPT) + len(self._command)) // COLUMNS  # a long command goes on in the next line
        below = lines[typed_lines:-1] if has_ended or not lines[-1] else lines[typed_lines:]
        return Said(self._command, tuple(below), exit_code, self._first, end)

    def end(self) -> Said:
        """Wait for the end of the command that was begun last."""
        until(lambda: self.so_far().exit_code >= 0, f"the end of: {self._command}", patience_s=_PATIENCE_S)
        return self.so_far()

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def kill_foreground(self) -> None:
        """kill -9 of what runs in the foreground."""
        group = os.tcgetpgrp(self._fd)
        assert group != self._shell.pid, "nothing runs"
        os.killpg(group, signal.SIGKILL)

    def picture(self, path: Path, first: int, end: int, title: str) -> None:
        """An SVG of some lines in their colours. It names no font from elsewhere."""
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        with self._lock:
            for number in range(first, end):
                console.print(self._styled(number), no_wrap=True, overflow="crop")
        svg = console.export_svg(title=title, unique_id=path.stem)
        path.write_text(_FONTS.sub("", svg))

    def _styled(self, number: int) -> Text:
        cells = [self._screen.buffer[number][column] for column in range(COLUMNS)]
        line = Text()
        for (colour, is_bold), alike in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
            line.append("".join(cell.data for cell in alike), Style(color=_rich_colour(colour), bold=is_bold))
        line.rstrip()
        return line

    @property
    def _ended(self) -> int:
        return int((self._screen.title or "-1 0").split()[0])

    def _read(self) -> None:
        try:
            while piece := os.read(self._fd, 1 << 16):
                with self._lock:
                    self._stream.feed(piece)
        except OSError:
            pass  # how a terminal says that nobody is at its other end any more
        finally:
            os.close(self._fd)


def _rich_colour(name: str) -> str | None:
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else _COLOURS.get(name, name)
