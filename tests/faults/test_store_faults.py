"""A checkpoint store that fails, checkpoints that are old or edited: exactly, or a clear stop, never a wrong topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import ROWS, SMALL_BATCHES, CliLoad
from tests.support.http_proxy import (
    Fault,
    HttpProxy,
    Request,
    answer,
    asks,
    cut_request,
    drop_response,
    held,
    throttled,
)
from tests.support.job_stores import ATTEMPTS, DynamoTable, JobStore, SqliteFile
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

TRY_AGAIN, CONFIGURATION = 75, 78

each_store = pytest.mark.parametrize("store", ["sqlite", "dynamodb"], indirect=True)


@pytest.fixture
def proxy(dynamodb_local: str) -> Iterator[HttpProxy]:
    with HttpProxy(dynamodb_local) as running:
        yield running


@pytest.fixture
def table(dynamodb_local: str, proxy: HttpProxy) -> DynamoTable:
    return DynamoTable(dynamodb_local, proxy)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> JobStore:
    found: JobStore = SqliteFile(tmp_path) if request.param == "sqlite" else request.getfixturevalue("table")
    return found


@pytest.fixture
def start(
    broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path
) -> Callable[[JobStore], CliLoad]:
    def start(store: JobStore) -> CliLoad:
        topic = make_topic(config=SMALL_BATCHES)
        return CliLoad(children, broker.bootstrap, topic, tmp_path, checkpoint=store.url, env=store.env)

    return start


def is_put(number: int) -> Callable[[Request], bool]:
    """The job's writes from this one on (1: the lease is taken, 2: a producer id, 3: the take-over, then progress)."""
    seen: set[str] = set()  # boto3 gives each call an id, which its repetitions share

    def when(request: Request) -> bool:
        if request.operation == "PutItem":
            seen.add(request.headers["amz-sdk-invocation-id"])
        return request.operation == "PutItem" and len(seen) >= number

    return when


@pytest.mark.parametrize(
    "fault",
    [throttled(), throttled("RequestLimitExceeded"), answer(500), cut_request()],
    ids=["throughput", "requests", "500", "cut"],
)
def test_calls_that_fail_are_repeated(table: DynamoTable, start: Callable[..., CliLoad], fault: Fault) -> None:
    """By boto3, and when that gives up, by the loader itself."""
    load = start(table)
    table.proxy.next(fault, when=asks("GetItem"))
    table.proxy.next(fault, times=ATTEMPTS + 1, when=is_put(2))
    load.assert_goes_on()
    assert table.proxy.played[fault.name] == ATTEMPTS + 2
    assert table.item()["status"] == "COMPLETED"


def test_a_table_that_cannot_be_read_at_the_start(table: DynamoTable, start: Callable[..., CliLoad]) -> None:
    load = start(table)
    table.proxy.next(throttled(), times=ATTEMPTS)
    load.run().assert_failed(TRY_AGAIN, table.url.rpartition("/")[2], "does not answer", "run the same command again")
    assert load.assert_prefix() == 0
    load.assert_goes_on()


def test_every_writes_first_answer_is_lost(table: DynamoTable, start: Callable[..., CliLoad]) -> None:
    """The repetition is refused, because the first was applied: the loader must see that it was its own."""
    load = start(table)

    def lost(request: Request) -> Fault | None:
        is_first = request.headers["amz-sdk-request"].startswith("attempt=1")
        return drop_response() if request.operation == "PutItem" and is_first else None

    table.proxy.rule = lost
    load.crash_at("batch_acked", 10)
    load.assert_goes_on()
    assert table.proxy.played["drop_response"] >= 6
    assert table.item()["status"] == "COMPLETED"
    assert "lease_owner" not in table.item()


@pytest.mark.parametrize("number", [2, 3, 4])
def test_all_answers_to_a_write_are_lost(table: DynamoTable, start: Callable[..., CliLoad], number: int) -> None:
    """The loader's next write must go on from the one that it had to give up."""
    load = start(table)
    table.proxy.next(drop_response(), times=ATTEMPTS, when=is_put(number))
    load.assert_goes_on()
    assert table.proxy.played["drop_response"] == ATTEMPTS
    assert (table.item()["status"], table.item()["last_line"]) == ("COMPLETED", ROWS)


def test_all_answers_to_the_first_write_are_lost(table: DynamoTable, start: Callable[..., CliLoad]) -> None:
    """The lease is held by a process that does not know it and ends: the next one sees that it is gone."""
    load = start(table)
    table.proxy.next(drop_response(), times=ATTEMPTS, when=asks("PutItem"))
    load.run().assert_failed(TRY_AGAIN, "does not answer")
    assert table.item()["lease_owner"]
    load.assert_goes_on()


def test_a_dead_loaders_write_that_comes_late_is_refused(table: DynamoTable, start: Callable[..., CliLoad]) -> None:
    load = start(table)
    table.proxy.next(held(), when=is_put(4))
    process = load.start()
    table.proxy.wait_for(lambda: table.proxy.played["held"] == 1)
    process.kill()
    load.wait()
    load.assert_goes_on()
    done = table.item()
    answered = len(table.proxy.answers)
    table.proxy.release()
    table.proxy.wait_for(lambda: len(table.proxy.answers) > answered)
    assert b"ConditionalCheckFailed" in table.proxy.answers[answered].body
    assert table.item() == done
    assert load.run().receipt["status"] == "already complete"
    load.assert_exact()


@each_store
def test_an_older_checkpoint_put_back_mid_way(store: JobStore, start: Callable[..., CliLoad]) -> None:
    """What was written since then lies in the log, and is proven against the file."""
    load = start(store)
    load.crash_at("takeover_saved")
    oldest = store.item()
    load.crash_at("batch_acked", 7)
    old = store.item()
    load.crash_at("batch_acked", 7)
    store.put(oldest)
    load.crash_at("tail_proven")
    store.put(old)
    load.assert_goes_on()


@each_store
def test_an_older_checkpoint_put_back_when_all_was_done(store: JobStore, start: Callable[..., CliLoad]) -> None:
    load = start(store)
    load.crash_at("batch_acked", 7)
    old = store.item()
    load.assert_goes_on()
    store.put(old)
    again = load.run()
    assert (again.returncode, again.receipt["rows_this_run"]) == (0, 0)
    load.assert_exact()
    assert store.item()["status"] == "COMPLETED"


EDITS: dict[str, Callable[[Any], object]] = {
    "last_line": lambda value: int(value) + 1,
    "byte_offset": lambda value: int(value) + len("9999,name 999\n"),
    "kafka_next_offset": lambda value: int(value) - 1,
    "producer_ids": lambda _: "12345",
    "status": lambda _: "COMPLETED",
}


@pytest.mark.parametrize(
    ("store", "name"),
    [
        ("sqlite", "byte_offset"),
        ("dynamodb", "byte_offset"),
        *(pytest.param("sqlite", name, marks=pytest.mark.slow) for name in EDITS if name != "byte_offset"),
    ],
    indirect=["store"],
)
def test_a_checkpoint_edited_by_hand_is_refused(store: JobStore, start: Callable[..., CliLoad], name: str) -> None:
    """Slow only because there are so many values."""
    load = start(store)
    load.crash_at("batch_acked", 7)
    original = store.item()
    store.put({**original, name: EDITS[name](original[name])})
    sent = load.assert_prefix(at_least=1)
    load.run().assert_failed(CONFIGURATION, "was changed by something else than csv2kafka", "csv2kafka reset job")
    assert load.assert_prefix() == sent
    store.put(original)
    load.assert_goes_on()


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("byte_offset", len("1000,name 919\n"), "are not rows"),
        ("kafka_next_offset", 1, "at offset"),
        pytest.param("byte_offset", -len("1000,name 919\n"), "are not rows", marks=pytest.mark.slow),
        pytest.param("kafka_next_offset", -1, "at offset", marks=pytest.mark.slow),
        pytest.param("producer_ids", "12345", "--accept-new-producer-id", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_without_its_checksum(
    start: Callable[..., CliLoad], tmp_path: Path, name: str, change: int | str, complaint: str
) -> None:
    """Its values are believed, as another program's are, until log and file contradict them. Slow: so many values."""
    store = SqliteFile(tmp_path)
    load = start(store)
    load.crash_at("batch_acked", 5)
    load.crash_at("batch_acked", 7)  # begins with a checkpoint behind the 5; of the 7, it lacks the last at least
    original = {field: value for field, value in store.item().items() if field != "checksum"}
    assert original["last_line"] > 0
    store.put({**original, name: change if isinstance(change, str) else original[name] + change})
    load.run().assert_failed(CONFIGURATION, complaint)
    assert 0 < load.assert_prefix(at_least=1) < ROWS
    store.put(original)
    load.assert_goes_on()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change"), [("last_line", 1), ("last_line", -1), ("byte_offset", 1)])
def test_a_value_without_its_checksum_that_does_no_harm(
    start: Callable[..., CliLoad], tmp_path: Path, name: str, change: int
) -> None:
    """A row's number is only shown, and a place inside a row is found right again behind the rows in the log.

    Slow only because there are so many values.
    """
    store = SqliteFile(tmp_path)
    load = start(store)
    load.crash_at("batch_acked", 5)
    load.crash_at("batch_acked", 7)
    forged = {field: value for field, value in store.item().items() if field != "checksum"}
    store.put({**forged, name: forged[name] + change})
    load.assert_goes_on()
