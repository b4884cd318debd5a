"""The coverage goals, per component, over coverage.json; exit code 1 when one is missed.

A class is measured where it is implemented: itself and those of its bases that are ours, wherever `processor` took
it from. A component that cannot be found is a goal missed.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processor

ROOT = Path(__file__).resolve().parent.parent
GOALS_PERCENT = {"CheckpointManager": 90, "MetricsEmitter": 85, "CSVToKafkaProcessor": 80}
HELPERS_GOAL_PERCENT = 90
OVERALL_GOAL_PERCENT = 80
HELPER_FILES = ("src/processor.py", "src/csv2kafka/eta.py")


def main() -> int:
    report = json.loads((ROOT / "coverage.json").read_text())
    measured = [(name, goal, percent(class_regions(report, name))) for name, goal in GOALS_PERCENT.items()]
    measured.append(("helper functions", HELPERS_GOAL_PERCENT, percent(helper_regions(report))))
    measured.append(("overall", OVERALL_GOAL_PERCENT, percent(iter([report["totals"]]))))
    print(f"{'component':<22}{'goal':>6}{'covered':>10}")
    missed = 0
    for name, goal, covered in measured:
        is_met = covered is not None and covered >= goal
        missed += not is_met
        shown = "not found" if covered is None else f"{covered:.1f} %"
        print(f"{name:<22}{goal:>4} %{shown:>10}{'' if is_met else '  MISSED'}")
    return 1 if missed else 0


def class_regions(report: dict[str, Any], name: str) -> Iterator[dict[str, int]]:
    for implementation in getattr(processor, name, object).__mro__:
        if implementation.__module__.split(".")[0] not in ("csv2kafka", "processor"):
            continue
        path = Path(inspect.getfile(implementation)).resolve().relative_to(ROOT)
        found = report["files"].get(str(path), {}).get("classes", {}).get(implementation.__qualname__)
        if found:
            yield found["summary"]


def helper_regions(report: dict[str, Any]) -> Iterator[dict[str, int]]:
    """The functions of a module's own; "" is the code outside all of them, a dot a method or an inner function."""
    for path in HELPER_FILES:
        for name, region in report["files"].get(path, {}).get("functions", {}).items():
            if name and "." not in name:
                yield region["summary"]


def percent(regions: Iterator[dict[str, int]]) -> float | None:
    """Covered lines and branches of all regions together, in percent; None when there are none to cover."""
    covered = total = 0
    for region in regions:
        covered += region["covered_lines"] + region["covered_branches"]
        total += region["num_statements"] + region["num_branches"]
    return 100 * covered / total if total else None


if __name__ == "__main__":
    sys.exit(main())
