"""The walkthrough, walked: `./dev story` types its commands into a real shell beside a real broker and a real browser.

docs/WALKTHROUGH.md is the script: each of its console blocks begins with a command, in the order in which they are
typed here. What the shell answers replaces what stands below, and the pictures are taken anew. Nothing is written
unless every step came out as the text says. The load is braked, so that there is time to look and to kill it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from bench import data, readback
from tests.support.oracle import iter_messages
from tests.support.terminal import CTRL_C, Said, Terminal
from tests.support.until import until

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = DOCS / "images"
# It is seen in the outputs, and the job's name depends on it.
FOLDER = Path("/tmp/load")
ROWS = 3_000_000
JOB = "customers.csv-customers-0-fde376d5"
RUN = "csv2kafka run customers.csv customers --metrics-port 0 --max-bytes-per-s 5000000"


class Walkthrough:
    """The document, whose console blocks are filled one after the other."""

    _BLOCK = re.compile(r"```console\n\$ (.+)\n(?:.*\n)*?```")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = path.read_text()
        self._at = 0

    def fill(self, said: Said, *, pictured: bool = False) -> Said:
        """Put what a command said into its block, which must be the next one; none of it where a picture shows it."""
        block = self._BLOCK.search(self._text, self._at)
        assert block, f"no block for: {said.command}"
        assert block[1] == said.command
        new = "\n".join(["```console", f"$ {said.command}", *(() if pictured else said.lines), "```"])
        self._text = self._text[: block.start()] + new + self._text[block.end() :]
        self._at = block.start() + len(new)
        return said

    def save(self) -> None:
        assert self._BLOCK.search(self._text, self._at) is None, "a block is left over"
        self._path.write_text(self._text)


@pytest.fixture
def folder() -> Iterator[Path]:
    FOLDER.mkdir()  # whoever else has this folder keeps it
    yield FOLDER
    shutil.rmtree(FOLDER)


def percent(terminal: Terminal) -> float:
    """Where the bar stands."""
    shown = re.findall(r"^ *([\d.]+) % ", terminal.so_far().text, re.MULTILINE)
    return float(shown[-1]) if shown else 0.0


def test_the_walkthrough(browser: Browser, folder: Path) -> None:
    text = Walkthrough(DOCS / "WALKTHROUGH.md")
    data.write(folder / "customers.csv", ROWS)
    env = {"XDG_STATE_HOME": str(folder / ".state")}
    with Terminal(folder, env) as kafka, Terminal(folder, env) as shell, Terminal(folder, env) as other:
        kafka.begin("csv2kafka broker | tee broker.txt")
        address = folder / "broker.txt"
        until(lambda: address.exists() and address.read_text(), "the broker", patience_s=120)
        text.fill(kafka.so_far())
        export = "export KAFKA_BOOTSTRAP_SERVERS=$(cat broker.txt)"
        other.run(export)
        text.fill(shell.run(export))
        look_before(text, shell)
        load_and_kill(text, shell, other, browser)
        check_after(text, shell)
        kafka.press(CTRL_C)
        kafka.end()
    text.save()


def look_before(text: Walkthrough, shell: Terminal) -> None:
    text.fill(shell.run("head -4 customers.csv"))
    plan = text.fill(shell.run("csv2kafka plan customers.csv customers"))
    assert plan.exit_code == 0
    assert plan.lines[0] == "ready"
    assert JOB in plan.text


def load_and_kill(text: Walkthrough, shell: Terminal, other: Terminal, browser: Browser) -> None:
    shell.begin(RUN)
    until(lambda: percent(shell) > 0, "the bar")
    address = re.search(r"watch this run at (\S+)", shell.so_far().text)
    assert address
    page = browser.new_page(viewport={"width": 1100, "height": 800}, color_scheme="light", locale="en-GB")
    page.goto(address[1])
    expect(page.locator("#percent")).to_have_text(re.compile(r"^[3-9]\d\.\d"))
    page.screenshot(path=IMAGES / "walkthrough-page.png", full_page=True)
    page.close()
    running = shell.so_far()
    shell.picture(IMAGES / "walkthrough-run.svg", running.first, running.end + 1, "csv2kafka run")
    status = other.run(f"csv2kafka status {JOB}")
    assert "running" in status.text

    until(lambda: percent(shell) > 45, "nearly half of it")
    shell.kill_foreground()
    killed = text.fill(shell.end(), pictured=True)
    assert killed.exit_code == 128 + 9
    assert percent(shell) < 100
    text.fill(status)

    status = text.fill(other.run(f"csv2kafka status {JOB}"))
    assert status.exit_code == 0
    assert "stopped" in status.text

    resumed = text.fill(shell.run(RUN), pictured=True)
    assert resumed.exit_code == 0
    went_on = re.search(r"going on behind row ([\d,]+)", resumed.text)
    assert went_on
    assert 0 < int(went_on[1].replace(",", "")) < ROWS
    assert f"complete: {ROWS:,} rows" in resumed.text
    shell.picture(IMAGES / "walkthrough-resume.svg", killed.first, resumed.end, "run, kill -9, run again")


def check_after(text: Walkthrough, shell: Terminal) -> None:
    verified = text.fill(shell.run(f"csv2kafka verify {JOB}"))
    assert verified.exit_code == 0
    assert f"exact: all {ROWS:,} rows" in verified.text
    again = text.fill(shell.run("csv2kafka run customers.csv customers --json | python3 -m json.tool"))
    receipt = json.loads(again.text[again.text.index("{") :])
    assert receipt["status"] == "already complete"
    assert receipt["rows"] == ROWS
    assert receipt["rows_this_run"] == 0
    fast = text.fill(shell.run("csv2kafka run customers.csv customers-again"))
    assert fast.exit_code == 0
    assert f"complete: {ROWS:,} rows" in fast.text
    bootstrap = (FOLDER / "broker.txt").read_text().strip()
    expected = data.expected_values(FOLDER / "customers.csv")
    read = ([message.value() or b"" for message in batch] for batch in iter_messages(bootstrap, "customers"))
    assert readback.compare(expected, read).is_equal
