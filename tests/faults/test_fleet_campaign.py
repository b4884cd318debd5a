"""The campaign of many files and a huge one: a short one goes well, and one with a row too many fails."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("plant", "duplicates"), [((), 0), (("--plant",), 2)])
def test_a_short_campaign(children: Children, tmp_path: Path, plant: tuple[str, ...], duplicates: int) -> None:
    size = ("--files", "6", "--gigabytes", "0.02", "--kills", "1", "--seed", "5")
    command = [sys.executable, "-m", "bench.fleet_campaign", *size, *plant]
    process = children.start(command, cwd=ROOT, env={"TMPDIR": str(tmp_path)})
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == (1 if plant else 0), (stdout, stderr)
    summary = rf"7 files, [\d,]+ rows, 2 kills, duplicates {duplicates}, gaps 0, \d+ s"
    assert re.fullmatch(summary, stdout.splitlines()[-1]), stdout
    assert stdout.count("DIFFERENT: ") == duplicates
    assert not list(tmp_path.glob("csv2kafka-*"))
