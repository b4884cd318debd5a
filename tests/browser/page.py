"""The page of the metrics port in a real browser, over a real load into a real broker: `./dev page`.

Needs Chromium (Debian: apt-get install chromium). Writes what it saw to docs/images. A proxy stands before the broker:
it makes it far, so that there is time to look, and stands still when a test wants the load to.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.far_broker import far_broker
from tests.support.processes import Children
from tests.support.tcp_proxy import TcpProxy

IMAGES = Path(__file__).parents[2] / "docs" / "images"
FILE = "customers-2026.csv"
EVIL_FILE = "<img src=x onerror=document.title='owned'><b>orders & co.csv"
COLUMN = "<i>amount</i>"
ROWS = 400_000
NUMBERS = itertools.count(1)
Scheme = Literal["light", "dark"]
WIDTHS = {"phone": 360, "desk": 1280}


@pytest.fixture(scope="module")
def far(kafka_version: str) -> Iterator[tuple[Broker, TcpProxy, str]]:
    with far_broker(version=kafka_version) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Load:
    """A load under way, some of whose rows are bad, and where it shows itself."""

    process: subprocess.Popen[str]
    url: str
    proxy: TcpProxy

    def end(self, exit_code: int = 0) -> dict[str, object]:
        self.proxy.release()
        stdout, stderr = self.process.communicate(timeout=120)
        assert self.process.returncode == exit_code, stderr
        return json.loads(stdout)  # type: ignore[no-any-return]


@pytest.fixture
def load(
    request: pytest.FixtureRequest, children: Children, far: tuple[Broker, TcpProxy, str], tmp_path: Path
) -> Iterator[Load]:
    """Of FILE, or of a file that a test names."""
    broker, proxy, bootstrap = far
    proxy.release()
    proxy.delay(up_s=0.04, down_s=0.04)
    path, schema = tmp_path / getattr(request, "param", FILE), tmp_path / "schema.json"
    topic = create_topic(broker.bootstrap, f"customers-{next(NUMBERS)}", config={"max.message.bytes": "20000"})
    amounts = ("x" if row % 5_000 == 11 else str(row * 7919 % 100_000) for row in range(ROWS))
    rows = (f"{row},customer {row},{amount}" for row, amount in enumerate(amounts))
    path.write_text(f"id,name,{COLUMN}\n" + "\n".join(rows) + "\nshort\n")
    schema.write_text(json.dumps({"columns": {COLUMN: {"type": "int"}}}))
    yield start(
        children, proxy, tmp_path, "run", path.name, topic, "-b", bootstrap, "--job-id", "nightly", "--schema", schema,
        "--bad-rows", "quarantine",
    )  # fmt: skip
    proxy.release()


@pytest.fixture
def fleet(children: Children, far: tuple[Broker, TcpProxy, str], tmp_path: Path) -> Iterator[Load]:
    """Of a folder with three files, and one that fails at its first row."""
    broker, proxy, bootstrap = far
    proxy.release()
    topic = create_topic(
        broker.bootstrap, f"orders-{next(NUMBERS)}", partitions=4, config={"max.message.bytes": "20000"}
    )
    folder = tmp_path / "2026"
    folder.mkdir()
    text = "id,name\n" + "".join(f"{row},customer {row}\n" for row in range(ROWS))
    for number in (1, 2, 4):
        (folder / f"orders-{number:02}.csv").write_text(text)
    (folder / "orders-03.csv").write_text("id,name\nshort\n" + text)  # the largest comes first
    proxy.delay(up_s=0.02, down_s=0.02)
    yield start(children, proxy, tmp_path, "fleet", "2026/", topic, "-b", bootstrap, "--local", "2", "--name", "orders")
    proxy.release()


def start(children: Children, proxy: TcpProxy, folder: Path, *arguments: str | Path) -> Load:
    """A load under way, as soon as it says where it shows itself."""
    process = children.start_cli(
        *arguments,
        "--checkpoint",
        f"sqlite:///{folder / 'checkpoints.db'}",
        "--metrics-port",
        "0",
        "--json",
        cwd=folder,
    )
    assert process.stderr is not None
    told = ""
    while not (found := re.search(r"watch this run at (\S+)", told)):
        line = process.stderr.readline()
        assert line, told
        told += line
    return Load(process, found[1], proxy)


@pytest.fixture
def open_page(load: Load, pages: Callable[..., Page]) -> Callable[..., Page]:
    """`open_page(width, scheme)`: the load's page, once it shows figures."""
    return partial(pages, load.url)


@pytest.fixture
def pages(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`pages(url, width, scheme)`: a page, once it shows figures. Whatever the browser complains of fails."""
    complaints: list[str] = []
    contexts = []

    def open_page(url: str, width: int = WIDTHS["desk"], scheme: Scheme = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en-GB")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        expect(page.locator("#state")).to_have_text("Running")
        expect(page.locator("#rate")).to_have_text(re.compile(r"\d"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    unexpected = [text for text in complaints if "ERR_CONNECTION" not in text and "ERR_EMPTY_RESPONSE" not in text]
    assert unexpected == []


def has_room(page: Page) -> bool:
    """Nothing is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_figures_of_a_load(load: Load, open_page: Callable[..., Page]) -> None:
    page = open_page()
    expect(page.locator("#reasons")).to_contain_text(f"has no int in column '{COLUMN}'")
    expect(page.locator("#percent")).to_have_text(re.compile(r"^\d+\.\d\s%$"))
    expect(page.locator("#eta")).to_have_text(re.compile(r"left$"))
    expect(page.locator("#rows")).to_have_text(re.compile(r"^[\d,]+ of about [\d.]+\s[kM] rows$"))
    expect(page.locator("#ack")).to_have_text(re.compile(r"^\d+\sms$|^\d\.\d\ss$"))
    expect(page.locator("#age-note")).to_have_text(re.compile(r"^\d+ checkpoints? saved by this run$"))
    expect(page.locator("#takeovers")).to_have_text("1")
    expect(page.locator("#job")).to_have_text("job nightly")
    expect(page.locator("#curve")).to_have_attribute("d", re.compile(r"^M0 [\d.]+L"))
    before = page.locator("#rows").inner_text()
    expect(page.locator("#rows")).not_to_have_text(before)  # live

    load.proxy.hold("down")
    expect(page.locator("#since")).to_have_text(re.compile(r"^no row acknowledged for 0:\d\d$"))
    expect(page.locator("#state")).to_have_text("Running")
    load.proxy.release()
    expect(page.locator("#since")).to_have_text(re.compile(r"^as of \d\d:\d\d:\d\d$"))

    assert load.end()["status"] == "complete"
    expect(page.locator("#state")).to_have_text("Complete")
    expect(page.locator("#rows")).to_have_text("400,001 rows")
    expect(page.locator("#percent")).to_have_text("100.0\u00a0%")
    expect(page.locator("#since")).to_have_text(
        re.compile(r"^last seen \d\d:\d\d:\d\d, 0:\d\d ago: the process has ended$")
    )
    page.screenshot(path=IMAGES / "page-ended.png", full_page=True)


@pytest.mark.parametrize("load", [EVIL_FILE], indirect=True)
def test_names_from_outside_are_text(load: Load, open_page: Callable[..., Page]) -> None:
    page = open_page(WIDTHS["phone"])
    expect(page.locator("#file")).to_have_text(EVIL_FILE)
    expect(page.locator("#source")).to_contain_text(EVIL_FILE)
    expect(page.locator("#reasons")).to_contain_text(COLUMN)
    assert page.locator("img, b, i").count() == 0
    assert page.title().endswith(f"{EVIL_FILE} · csv2kafka")
    assert has_room(page)


def test_it_fits_and_reads_in_every_light(load: Load, open_page: Callable[..., Page]) -> None:
    IMAGES.mkdir(exist_ok=True)
    pages: dict[tuple[str, Scheme], Page] = {}
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for name, width in WIDTHS.items():
        for scheme in schemes:
            pages[name, scheme] = open_page(width, scheme)
    for page in pages.values():
        expect(page.locator("#percent")).to_have_text(re.compile(r"^[2-9]\d\.\d"))
        expect(page.locator("#reasons")).to_contain_text(COLUMN)
    papers = {page.evaluate("getComputedStyle(document.documentElement).backgroundColor") for page in pages.values()}
    assert len(papers) == len(schemes)
    for (name, scheme), page in pages.items():
        assert has_room(page), (name, scheme)
        assert contrasts(page) >= 4.5
        page.screenshot(path=IMAGES / f"page-{name}-{scheme}.png", full_page=True)


def test_nothing_jumps_when_figures_change(load: Load, open_page: Callable[..., Page]) -> None:
    page = open_page(WIDTHS["phone"])
    expect(page.locator("#reasons")).to_contain_text(COLUMN)
    places = (
        "Array.from(document.querySelectorAll('section, dl div, footer'), part => part.getBoundingClientRect().top)"
    )
    before, rows = page.evaluate(places), page.locator("#rows").inner_text()
    expect(page.locator("#rows")).not_to_have_text(rows)
    assert page.evaluate(places) == before


def test_a_failure_says_what_to_do(load: Load, open_page: Callable[..., Page]) -> None:
    page = open_page()
    load.process.send_signal(signal.SIGKILL)
    expect(page.locator("#state")).to_have_text("No answer")
    expect(page.locator("#since")).to_contain_text("the process has ended, or cannot be reached")
    known = page.evaluate("seen")
    error = {"kind": "kafka", "message": "<b>no broker</b> answers", "hint": "run the same command again"}
    page.route("**/status.json", lambda route: route.fulfill(json={**known, "state": "failed", "error": error}))
    expect(page.locator("#state")).to_have_text("Failed")
    expect(page.get_by_role("alert")).to_contain_text(error["message"])
    expect(page.get_by_role("alert")).to_contain_text(error["hint"])
    page.screenshot(path=IMAGES / "page-failed.png", full_page=True)


def test_a_fleet_shows_its_files(fleet: Load, pages: Callable[..., Page]) -> None:
    schemes: tuple[tuple[str, Scheme], ...] = (("desk", "light"), ("phone", "dark"))
    opened = {name: pages(fleet.url, WIDTHS[name], scheme) for name, scheme in schemes}
    expect(opened["desk"].locator("#percent")).to_have_text(re.compile(r"^[1-9]\d\.\d"))
    fleet.proxy.hold("down")
    for name, page in opened.items():
        expect(page.locator("#file")).to_have_text("2026")
        expect(page.locator("#failed")).to_have_text(re.compile("^orders-03.csv.*has 1 field where the header has 2"))
        expect(page.locator("#files")).to_contain_text("0 of 4 files complete · 1 waiting · 2 running · 1 failed")
        expect(page.locator("#running tr")).to_have_count(2)
        under_way = re.compile(r"^(orders-0[124]\.csv\d+\s%[\d,]+ rows127\.0\.0\.1:\d+){2}$")
        expect(page.locator("#running")).to_have_text(under_way)
        expect(page.locator("#dashboard")).to_have_attribute("href", re.compile(r"^http://127\.0\.0\.1:\d+/status$"))
        assert has_room(page)
        assert contrasts(page) >= 4.5
        page.screenshot(path=IMAGES / ("page-fleet.png" if name == "desk" else "page-fleet-phone.png"), full_page=True)
    page = opened["desk"]
    known = page.evaluate("seen")
    opened["phone"].close()  # the process waits until one page has seen the end
    assert fleet.end(exit_code=65)["failures"] == 1
    expect(page.locator("#files")).to_contain_text("3 of 4 files complete · 1 failed")
    expect(page.locator("#running-section")).to_be_hidden()
    expect(page.locator("#dashboard")).to_be_hidden()
    known["fleet"] |= {"dashboard": "javascript:alert(1)", "failed": [{"file": EVIL_FILE, "error": "<b>none</b>"}]}
    known["fleet"]["running"][0]["file"] = EVIL_FILE
    page.route("**/status.json", lambda route: route.fulfill(json=known))
    expect(page.locator("#state")).to_have_text("Running")
    expect(page.locator("#running")).to_contain_text(EVIL_FILE)
    expect(page.locator("#failed")).to_have_text(f"{EVIL_FILE}<b>none</b>")
    expect(page.locator("#dashboard")).to_be_hidden()
    assert page.locator("img, b, i").count() == 0


def contrasts(page: Page) -> float:
    """The lowest ratio, as WCAG has it, between a text's colour and the paper."""
    return float(
        page.evaluate(
            """() => {
              const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
                .map(part => part / 255).map(part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
                .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
              const paper = light(getComputedStyle(document.documentElement).backgroundColor);
              const texts = document.querySelectorAll('p, h1, h2, dt, dd, td, a, strong, span');
              return Math.min(...Array.from(texts, part => {
                const ink = light(getComputedStyle(part).color);
                return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
              }));
            }"""
        )
    )
