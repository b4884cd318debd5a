"""The sender against a scripted broker: order, identical bytes, deadlines, fail-stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from csv2kafka import recordbatch
from csv2kafka.errors import Csv2KafkaError, Fenced, JobConflict, TopicError
from csv2kafka.kafka.client import Partition, is_retriable
from csv2kafka.kafka.fence import ProducerEpoch
from csv2kafka.kafka.sender import RENEW_AFTER_S, RESEND_LIMIT_S, Footing, Sender, TakeOverAgain
from csv2kafka.model import Batch

TIMED_OUT, NOT_LEADER, TOO_LARGE, OUT_OF_ORDER, OLD_EPOCH = 7, 6, 10, 45, 47
ROWS = 10


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class ScriptedClient:
    """Answers Produce requests with the given (error code, base offset) pairs and keeps what was sent.

    `persist` repeats without pauses; how the real one waits is not the sender's business.
    """

    settings = SimpleNamespace(request_timeout_ms=1000)

    def __init__(self, answers: Sequence[tuple[int, int] | Exception], clock: Clock, *, step_s: float = 0.0) -> None:
        self._answers = list(answers)
        self._clock = clock
        self._step_s = step_s
        self.sent: list[bytes] = []
        self.throttle_ms = 0
        self.log_start_offset = 0

    async def ask_leader(self, _: Partition, request: Any) -> Any:
        await asyncio.sleep(0)
        self._clock.now_s += self._step_s
        self.sent.append(request.prepare({0: (3, 13)}).batch)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        code, base_offset = answer
        return SimpleNamespace(
            throttle_time_ms=self.throttle_ms, topics=[("t", [(0, code, base_offset, -1, self.log_start_offset)])]
        )

    async def confirm(self, _: Partition) -> None:
        pass

    async def persist(self, ask: Callable[[], Awaitable[int]], _: str) -> int:
        while True:
            try:
                return await ask()
            except Exception as error:
                if not is_retriable(error):
                    raise


def batch(number: int) -> Batch:
    return Batch(0, ROWS, 0, b"records %d" % number, 9)


def footing(next_offset: int = 1) -> Footing:
    return Footing(Partition("t", "id", 0), ProducerEpoch(5, 2), next_offset, 1_700_000_000_000, 0.0)


def run(
    answers: Sequence[tuple[int, int] | Exception], batches: int, *, step_s: float = 0.0, next_offset: int = 1
) -> tuple[list[int | BaseException], ScriptedClient, Sender]:
    async def main() -> tuple[list[int | BaseException], ScriptedClient, Sender]:
        clock = Clock()
        client = ScriptedClient(answers, clock, step_s=step_s)
        sender = Sender(client, footing(next_offset), clock_s=clock)  # type: ignore[arg-type]
        outcomes = await asyncio.gather(*(sender.send(batch(n)) for n in range(batches)), return_exceptions=True)
        return outcomes, client, sender

    return asyncio.run(main())


def headers_of(client: ScriptedClient) -> list[recordbatch.BatchHeader]:
    return [next(recordbatch.headers(sent))[0] for sent in client.sent]


def test_batches_go_in_order_with_chained_sequences() -> None:
    outcomes, client, sender = run([(0, 1), (0, 11), (0, 21)], 3)
    assert outcomes == [1, 11, 21]
    assert [header.base_sequence for header in headers_of(client)] == [0, 10, 20]
    assert {(header.producer_id, header.producer_epoch) for header in headers_of(client)} == {(5, 2)}
    assert sender.next_offset == 31


@pytest.mark.parametrize("failure", [(TIMED_OUT, -1), (NOT_LEADER, -1), (20, -1), (3, -1), ConnectionResetError()])
def test_a_retriable_failure_leads_to_the_same_bytes_again(failure: tuple[int, int] | Exception) -> None:
    outcomes, client, sender = run([failure, failure, (0, 1), (0, 11)], 2)
    assert outcomes == [1, 11]
    assert client.sent[0] == client.sent[1] == client.sent[2] != client.sent[3]
    assert sender.retries == 2
    assert len(sender.ack_latencies_s) == 2, "one for each acknowledged request, whatever came before"


@pytest.mark.parametrize(
    ("code", "error"),
    [(OLD_EPOCH, Fenced), (90, Fenced), (TOO_LARGE, TopicError), (OUT_OF_ORDER, TakeOverAgain), (59, TakeOverAgain)],
)
def test_the_first_fatal_failure_stops_everything_behind_it(code: int, error: type[Csv2KafkaError]) -> None:
    outcomes, client, _ = run([(0, 1), (code, -1)], 4)
    assert outcomes[0] == 1
    assert all(isinstance(outcome, error) for outcome in outcomes[1:])
    assert len(client.sent) == 2, "a later batch that went through would be a silent gap"


def test_an_offset_that_was_given_away_already_is_fatal() -> None:
    outcomes, client, _ = run([(0, 1), (0, 5), (0, 15)], 3)
    assert isinstance(outcomes[1], JobConflict)
    assert len(client.sent) == 2


def test_other_writers_between_the_batches_are_no_failure() -> None:
    outcomes, _, sender = run([(0, 4), (0, 20)], 2)
    assert outcomes == [4, 20]
    assert sender.next_offset == 30
    assert sender.foreign_records == 3 + 6


def test_what_was_acknowledged_must_still_be_there() -> None:
    """The first batch finds its marker (offset 0) in the log, the second finds that even the first batch is gone."""

    async def main() -> list[int | BaseException]:
        client = ScriptedClient([(0, 1), (0, 11)], Clock())
        sender = Sender(client, footing(), clock_s=Clock())  # type: ignore[arg-type]
        first = await sender.send(batch(0))
        client.log_start_offset = 11
        return [first, *await asyncio.gather(sender.send(batch(1)), return_exceptions=True)]

    first, second = asyncio.run(main())
    assert first == 1
    assert isinstance(second, JobConflict)
    assert "purged" in second.message


def test_old_bytes_are_not_sent_again() -> None:
    outcomes, client, _ = run([(TIMED_OUT, -1)] * 9, 1, step_s=RESEND_LIMIT_S / 4)
    assert isinstance(outcomes[0], TakeOverAgain)
    assert len(client.sent) == 5


def test_times_are_the_markers_and_what_passed_since() -> None:
    async def main() -> recordbatch.BatchHeader:
        clock = Clock()
        client = ScriptedClient([(0, 1)], clock)
        sender = Sender(client, footing(), clock_s=clock)  # type: ignore[arg-type]
        clock.now_s = 12.5
        await sender.send(batch(0))
        return headers_of(client)[0]

    assert asyncio.run(main()).max_timestamp_ms == 1_700_000_012_500


def test_an_epoch_is_given_up_when_old_or_used_up() -> None:
    async def main() -> None:
        clock = Clock()
        sender = Sender(ScriptedClient([], clock), footing(), clock_s=clock)  # type: ignore[arg-type]
        huge = Batch(0, 2**31 - 1, 0, b"", 0)
        assert sender.can_send(huge)
        assert not sender.can_send(Batch(0, 2**31, 0, b"", 0))
        clock.now_s = RENEW_AFTER_S
        assert not sender.can_send(batch(0))

    asyncio.run(main())


def test_the_brokers_quota_is_waited_for() -> None:
    """And counted while it is, as a pause may take minutes."""

    async def main() -> tuple[list[float], list[float], float]:
        clock = Clock()
        client = ScriptedClient([(0, 1), (0, 11)], clock)
        client.throttle_ms = 40
        sender = Sender(client, footing(), clock_s=clock)  # type: ignore[arg-type]
        waited: list[float] = []
        told: list[float] = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)
            clock.now_s += seconds / 2
            if seconds:
                told.append(sender.throttled_s)
            clock.now_s += seconds / 2

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("csv2kafka.kafka.sender.asyncio.sleep", sleep)
            await sender.send(batch(0))
            assert sender.throttled_s == 0, "nothing is held back yet"
            await sender.send(batch(1))
        return [seconds for seconds in waited if seconds], told, sender.throttled_s

    waited, told, throttled_s = asyncio.run(main())
    assert (waited, told) == (pytest.approx([0.04]), pytest.approx([0.02]))
    assert throttled_s == pytest.approx(0.04)


def test_a_closed_sender_sends_nothing() -> None:
    async def main() -> int:
        clock = Clock()
        client = ScriptedClient([(0, 1)], clock)
        sender = Sender(client, footing(), clock_s=clock)  # type: ignore[arg-type]
        sender.close()
        with pytest.raises(TakeOverAgain):
            await sender.send(batch(0))
        return len(client.sent)

    assert asyncio.run(main()) == 0
