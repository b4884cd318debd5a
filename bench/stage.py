"""Where the demonstration shows itself: live on a terminal, as plain lines elsewhere. It knows steps, not Kafka."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_REFRESHES_PER_S = 8
_LINE_EVERY_S = 5.0
_SCREEN_LINES = 4
_FRAME_COLUMNS = 4  # around the loader's terminal
_TITLE_COLUMNS = 36
_MIN_COLUMNS, _MAX_COLUMNS = 70, 110


@dataclass(slots=True)
class Gauge:
    """A quantity on its way to `total`."""

    name: str
    total: int
    done: int = 0


class Screen:
    """The last lines of a program's terminal: as much of one as a progress bar needs that paints itself anew."""

    _TOKENS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)|\x1b")

    def __init__(self) -> None:
        self._lines = [""]
        self._at = 0
        self._overwrites = False

    def feed(self, text: str) -> None:
        for count, command, is_return, is_newline, plain in self._TOKENS.findall(text):
            if is_newline:
                self._at += 1
                if self._at == len(self._lines):
                    self._lines.append("")
            elif is_return:
                self._overwrites = True
                continue
            elif command == "A":
                self._at = max(0, self._at - int(count or 1))
            elif command == "K":
                self._lines[self._at] = ""
            elif command == "m":
                self._lines[self._at] += f"\x1b[{count}m"
                continue
            elif plain:
                self._lines[self._at] = plain if self._overwrites else self._lines[self._at] + plain
            self._overwrites = False

    @property
    def text(self) -> Text:
        lines = [line for line in self._lines if line][-_SCREEN_LINES:]
        return Text("\n").join(Text.from_ansi(line) for line in lines)


@dataclass(slots=True)
class Step:
    """One step as it goes on: whoever works at it sets these, the stage shows them. `result` is its last word."""

    title: str
    command: str = ""
    result: str = ""
    gauges: list[Gauge] = field(default_factory=list)
    screen: Screen = field(default_factory=Screen)
    began_s: float = field(default_factory=time.monotonic)
    took_s: float | None = None
    failed: bool = False

    def gauge(self, name: str, total: int) -> Gauge:
        self.gauges.append(Gauge(name, total))
        return self.gauges[-1]


class Stage:
    """Steps one after the other, what the loader writes to its terminal in between, and a closing word."""

    terminal_columns: int | None = None  # of the terminal that the loader may paint on; None: there is none

    @contextmanager
    def step(self, title: str, command: str = "") -> Iterator[Step]:
        """`command`: what runs in this step, for people; its terminal is shown with it."""
        step = Step(title, command)
        self.begin(step)
        try:
            yield step
        except BaseException:
            step.failed = True
            raise
        finally:
            step.took_s = time.monotonic() - step.began_s
            self.end(step)

    def begin(self, step: Step) -> None:
        raise NotImplementedError

    def end(self, step: Step) -> None:
        raise NotImplementedError

    def hear(self, step: Step, text: str) -> None:
        """What the loader wrote to its terminal. May come from another thread."""
        raise NotImplementedError

    def measure(self, step: Step, gauge: Gauge, done: int) -> None:
        gauge.done = done

    def finish(self, title: str, facts: dict[str, str], *, good: bool) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class PlainStage(Stage):
    """Lines, each of them whole, for files and for eyes that read later."""

    def __init__(self) -> None:
        self._number = 0
        self._told_s = 0.0
        self._unfinished = ""

    def begin(self, step: Step) -> None:
        self._number += 1
        self._told_s = time.monotonic()
        _print(f"{self._number}. {step.title}")
        if step.command:
            _print(f"   $ {step.command}")

    def end(self, step: Step) -> None:
        _print(f"   {'failed' if step.failed else step.result} ({step.took_s:.1f} s)")

    def hear(self, step: Step, text: str) -> None:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            _print(f"   | {line}")

    def measure(self, step: Step, gauge: Gauge, done: int) -> None:
        super().measure(step, gauge, done)
        if time.monotonic() - self._told_s >= _LINE_EVERY_S:
            self._told_s = time.monotonic()
            known = ", ".join(f"{each.name} {each.done:,} of {each.total:,}" for each in step.gauges)
            _print(f"   {known}")

    def finish(self, title: str, facts: dict[str, str], *, good: bool) -> None:
        _print(title)
        width = max(map(len, facts))
        for name, value in facts.items():
            _print(f"  {name:<{width}}  {value}")


class LiveStage(Stage):
    """All steps in sight, the present one moving."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[Step] = []
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_S)
        self._columns = max(_MIN_COLUMNS, min(console.width, _MAX_COLUMNS))
        self.terminal_columns = self._columns - _FRAME_COLUMNS

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, step: Step) -> None:
        self._steps.append(step)

    def end(self, step: Step) -> None:
        self._live.refresh()

    def hear(self, step: Step, text: str) -> None:
        step.screen.feed(text)

    def finish(self, title: str, facts: dict[str, str], *, good: bool) -> None:
        self._live.stop()
        table = Table.grid(padding=(0, 3))
        for name, value in facts.items():
            table.add_row(Text(name, style="dim"), Text(value, style="bold"))
        style = "green" if good else "red"
        self._console.print(Panel(table, title=f"[bold]{title}[/]", border_style=style, padding=(1, 3), expand=False))

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = []
        for step in self._steps:
            parts.append(self._headline(step))
            if step.took_s is None or step.failed:
                parts += self._details(step)
        return Group(*parts)

    def _headline(self, step: Step) -> RenderableType:
        mark: RenderableType = self._spinner
        if step.took_s is not None:
            mark = Text("✗", style="bold red") if step.failed else Text("✓", style="bold green")
        seconds = step.took_s if step.took_s is not None else time.monotonic() - step.began_s
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=_TITLE_COLUMNS)
        line.add_column(width=self._columns - _TITLE_COLUMNS - 12, no_wrap=True, overflow="ellipsis")
        line.add_column(width=7, justify="right", style="dim")
        line.add_row(mark, Text(step.title, style="bold"), step.result, f"{seconds:.1f} s")
        return line

    def _details(self, step: Step) -> list[RenderableType]:
        parts: list[RenderableType] = []
        gauges = Table.grid(padding=(0, 1))
        for gauge in step.gauges:
            bar = ProgressBar(total=gauge.total, completed=gauge.done, width=40)
            gauges.add_row("   ", gauge.name, bar, f"{gauge.done:,}")
        if step.command:
            title = Text(f"$ {step.command}", style="dim")
            title.truncate(self._columns - 8, overflow="ellipsis")
            parts.append(Panel(step.screen.text, title=title, title_align="left", width=self._columns, style="dim"))
        if step.gauges:
            parts.append(gauges)
        return parts


def open_stage() -> Stage:
    """The stage that suits what stdout is now."""
    console = Console(highlight=False)
    return LiveStage(console) if console.is_terminal and not console.is_dumb_terminal else PlainStage()


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
