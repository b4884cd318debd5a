"""A fleet's manifest: what is kept is read again, nonsense and another fleet's options are refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from csv2kafka.errors import JobConflict
from csv2kafka.fleet.manifest import Entry, Manifest, from_bytes, job_id, refuse_other, to_bytes
from csv2kafka.model import Part, SourceIdentity

FILE = SourceIdentity("s3://bucket/in/2026-01-01.csv", 1_000, '"9b2cf5"', "v7")
MANIFEST = Manifest(
    "nightly",
    "s3://bucket/in/",
    "orders",
    "hash",
    "2026-01-16T00:00:00+00:00",
    (Entry(0, FILE, 3), Entry(1, replace(FILE, uri="s3://bucket/in/ü\udcff", version_id=None), 0)),
)
PARTED = replace(
    MANIFEST,
    placement="round-robin",
    entries=(Entry(0, FILE, 0, Part(0, 10, 400)), Entry(1, FILE, 1, Part(17, 400, 1_000))),
)


@pytest.mark.parametrize("manifest", [MANIFEST, PARTED, replace(MANIFEST, entries=())])
def test_what_is_kept_is_read_again(manifest: Manifest) -> None:
    assert from_bytes(to_bytes(manifest)) == manifest


def test_sizes_and_names() -> None:
    assert [entry.size_bytes for entry in PARTED.entries] == [390, 600]
    assert (PARTED.size_bytes, MANIFEST.size_bytes) == (990, 2_000)
    assert (PARTED.is_split, MANIFEST.is_split) == (True, False)
    assert MANIFEST.entries[0].label == FILE.uri
    assert PARTED.entries[1].label == f"{FILE.uri} from row 18"
    assert [PARTED.job_id(entry) for entry in PARTED.entries] == ["nightly/00000", "nightly/00001"]


def test_names_sort_as_the_entries_do() -> None:
    names = [job_id("nightly", index) for index in (0, 9, 10, 11_111, 99_999)]
    assert names == sorted(names)


def test_ten_thousand_files_are_small() -> None:
    entries = tuple(
        Entry(
            n, SourceIdentity(f"s3://bucket/in/part-{n:05}.csv", n * 7_919, f'"{n * 0x9E3779B97F4A7C15:032x}"'), n % 8
        )
        for n in range(10_000)
    )
    body = to_bytes(replace(MANIFEST, entries=entries))
    assert len(body) < 1_000_000
    assert from_bytes(body).entries == entries


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(zlib.decompress(to_bytes(MANIFEST)))
    change(fields)
    return zlib.compress(json.dumps(fields).encode())


NONSENSE = (
    b"",
    b"{}",
    zlib.compress(b"{"),
    zlib.compress(b"[]"),
    zlib.compress(b"7"),
    to_bytes(MANIFEST)[:-9],
    edited(lambda fields: fields.update(version=99)),
    edited(lambda fields: fields.pop("version")),
    edited(lambda fields: fields.pop("topic")),
    edited(lambda fields: fields.update(owner="ann")),
    edited(lambda fields: fields.update(entries=7)),
    edited(lambda fields: fields["entries"].append("file.csv")),
    edited(lambda fields: fields["entries"][0].pop("source")),
    edited(lambda fields: fields["entries"][0]["source"].pop("etag")),
    edited(lambda fields: fields["entries"][0].update(part={"first_row": 1})),
)


@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(JobConflict, match="the fleet's manifest makes no sense") as refused:
        from_bytes(body)
    assert "csv2kafka reset --fleet NAME" in refused.value.hint


def test_the_same_is_not_refused() -> None:
    refuse_other(MANIFEST, "s3://bucket/in/", "orders", "hash", None)
    refuse_other(MANIFEST, "s3://bucket/in/", "orders", None, None)
    refuse_other(PARTED, "s3://bucket/in/", "orders", None, 7)  # the number of parts is settled


@pytest.mark.parametrize(
    ("kept", "asked", "difference"),
    [
        (
            MANIFEST,
            ("s3://bucket/out/", "orders", None, None),
            "SOURCE: 's3://bucket/in/' then, 's3://bucket/out/' now",
        ),
        (MANIFEST, ("s3://bucket/in/", "sales", None, None), "TOPIC: 'orders' then, 'sales' now"),
        (MANIFEST, ("s3://bucket/in/", "orders", "single", None), "--placement: 'hash' then, 'single' now"),
        (MANIFEST, ("s3://bucket/in/", "orders", None, 3), "--split: False then, True now"),
        (PARTED, ("s3://bucket/in/", "orders", None, None), "--split: True then, False now"),
    ],
)
def test_something_else_is_refused(kept: Manifest, asked: tuple[Any, ...], difference: str) -> None:
    with pytest.raises(JobConflict) as refused:
        refuse_other(kept, *asked)
    assert refused.value.message == f"fleet nightly was begun with something else ({difference})"
    assert "--name NEW" in refused.value.hint


def test_all_differences_are_named_at_once() -> None:
    with pytest.raises(JobConflict, match=r"SOURCE: .*; TOPIC: .*; --placement: "):
        refuse_other(MANIFEST, "elsewhere/", "sales", "single", None)
