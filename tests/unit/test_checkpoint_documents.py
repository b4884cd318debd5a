"""Documents beside the checkpoints, asked of every store: kept once for ever, whole, and never taken for a job."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from csv2kafka.checkpoints import CheckpointStore
from csv2kafka.checkpoints.item import document_key
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.model import Checkpoint
from tests.support.checkpoints import DynamoTable, Wire

NAME = "nightly/ü → orders"
LARGE = os.urandom(1_200_000)  # an item of DynamoDB's holds 400 KB

Stores = Callable[[], CheckpointStore]


def new_table() -> DynamoTable:
    """One that no other test has."""
    return DynamoTable(f"documents-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module", params=["sqlite", "moto", "DynamoDBLocal"])
def place(request: pytest.FixtureRequest) -> Iterator[DynamoTable | None]:
    """A table in the mock or in Amazon's own server; None where the store is SQLite."""
    if request.param == "sqlite":
        yield None
    elif request.param == "moto":
        with mock_aws():
            yield new_table()
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("dynamodb_local"))
            yield new_table()


@pytest.fixture
def stores(place: DynamoTable | None, tmp_path: Path) -> Stores:
    """Makes stores of one place, empty at first."""
    if place is None:
        return lambda: SqliteStore(tmp_path / "checkpoints.db")
    table = place
    table.clear()
    return lambda: table.store("-")


def test_there_is_none_at_first(stores: Stores) -> None:
    assert stores().kept(NAME) is None


@pytest.mark.parametrize("body", [b"", b"list\0\xff", LARGE], ids=["empty", "small", "large"])
def test_what_is_kept_is_read_by_all(stores: Stores, body: bytes) -> None:
    assert stores().keep(NAME, body)
    assert stores().kept(NAME) == body
    assert stores().kept(f"{NAME}2") is None


def test_it_is_kept_once_for_ever(stores: Stores) -> None:
    assert stores().keep(NAME, LARGE)
    assert not stores().keep(NAME, b"another")
    assert stores().kept(NAME) == LARGE


def test_two_at_once_agree(stores: Stores) -> None:
    together = threading.Barrier(2)
    bodies = (LARGE, LARGE[::-1])

    def keep(name: str, body: bytes) -> tuple[bool, bytes | None]:
        store = stores()
        together.wait()
        return store.keep(name, body), store.kept(name)

    with ThreadPoolExecutor(2) as both:
        for number in range(3):
            (first, one), (second, other) = both.map(keep, [f"{NAME} {number}"] * 2, bodies)
            assert first != second
            assert one == other == bodies[second]


def test_what_is_discarded_is_gone_and_can_be_kept_anew(stores: Stores) -> None:
    stores().keep(NAME, LARGE)
    stores().keep("another", b"list")
    for _ in range(2):
        stores().discard(NAME)
        assert stores().kept(NAME) is None
    assert stores().kept("another") == b"list"
    assert stores().keep(NAME, b"new")
    assert stores().kept(NAME) == b"new"


def test_no_document_is_a_job(stores: Stores) -> None:
    store = stores()
    store.keep(NAME, LARGE)
    assert store.look() == []
    assert store.load(NAME) is None
    store.acquire(NAME)
    store.save(Checkpoint(NAME, 1, 1))
    store.release()
    assert [item["job_id"] for item in store.look()] == [NAME]
    store.forget(NAME)
    assert store.kept(NAME) == LARGE


class TestPages:
    """What only a store that keeps a document in several items can suffer."""

    @pytest.fixture
    def table(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoTable]:
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        with mock_aws():
            yield new_table()

    def test_one_who_is_overtaken_leaves_the_others_list_whole(
        self, table: DynamoTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = table.store("-")
        wire = Wire(slow, monkeypatch)

        def be_overtaken(request: dict[str, Any]) -> None:
            assert table.store("-").keep(NAME, LARGE[::-1])
            slow.table.put_item(**request)

        wire.during_next_put(be_overtaken)
        assert not slow.keep(NAME, LARGE)
        assert slow.kept(NAME) == LARGE[::-1]

    def test_an_answer_that_got_lost_is_no_refusal(self, table: DynamoTable, monkeypatch: pytest.MonkeyPatch) -> None:
        store = table.store("-")
        wire = Wire(store, monkeypatch)

        def then_the_head(request: dict[str, Any]) -> None:
            store.table.put_item(**request)
            wire.during_next_put(wire.repeat)

        wire.during_next_put(then_the_head)
        assert store.keep(NAME, b"list")
        assert store.kept(NAME) == b"list"

    def test_one_half_discarded_is_none(self, table: DynamoTable) -> None:
        store = table.store("-")
        store.keep(NAME, LARGE)
        page = next(item["job_id"] for item in table.table.scan()["Items"] if item["job_id"] != document_key(NAME))
        table.table.delete_item(Key={"job_id": page})
        assert store.kept(NAME) is None

    def test_discarding_leaves_no_page(self, table: DynamoTable) -> None:
        store = table.store("-")
        store.keep(NAME, LARGE)
        store.discard(NAME)
        assert table.table.scan()["Items"] == []
