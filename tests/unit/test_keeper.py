"""Keeping lease and checkpoint beside the sending: what is saved when, and what an outage does to whom.

No store is real here, and the clock moves only when told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from csv2kafka import keeper as module
from csv2kafka.checkpoints import CheckpointStore
from csv2kafka.errors import CheckpointUnavailable, Fenced
from csv2kafka.keeper import FRESH_S, Keeper
from csv2kafka.model import Checkpoint

PATIENCE_S = 120.0


class Store(CheckpointStore):
    """Counts calls; raises `error` while there is one. `asked` is set by every call."""

    def __init__(self) -> None:
        self.saved: list[int] = []
        self.renewals = 0
        self.error: Exception | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        if self.error:
            raise self.error
        self.saved.append(checkpoint.last_line)

    def renew(self) -> None:
        if self.error:
            raise self.error
        self.renewals += 1


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.001)
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0.001)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(store: Store, clock: Clock) -> Keeper:
    return Keeper(store, None, patience_s=PATIENCE_S, clock_s=clock)


def at(row: int) -> Checkpoint:
    return Checkpoint("job", last_line=row)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the store knows no event loop
            await asyncio.sleep(0.001)


async def never_within_turns(waiting: asyncio.Task[None], turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not waiting.done()


def test_what_is_offered_is_saved_once_and_then_only_renewed(keeper: Keeper, store: Store) -> None:
    async def main() -> None:
        async with keeper:
            keeper.offer(at(5))
            await until(lambda: store.renewals >= 2)

    asyncio.run(main())
    assert store.saved == [5]
    assert (keeper.saved, keeper.saves) == (at(5), 1)


def test_a_checkpoint_ages_from_when_the_store_was_last_asked_and_answered(
    keeper: Keeper, store: Store, clock: Clock
) -> None:
    async def main() -> None:
        clock.now_s += 5
        assert keeper.age_s == 5
        await keeper.save(at(5))
        assert keeper.age_s == 0
        clock.now_s += 3
        store.error = CheckpointUnavailable("away")
        async with keeper:
            await until(lambda: keeper.failures >= 2)
            assert keeper.age_s == 3
            store.error = None
            await until(lambda: keeper.age_s == 0)
        assert keeper.saves == 1

    asyncio.run(main())


def test_the_newest_offer_wins(keeper: Keeper, store: Store) -> None:
    async def main() -> None:
        keeper.offer(at(5))
        await keeper.save(at(7))

    asyncio.run(main())
    assert store.saved == [7]


def test_at_once_does_not_wait_for_the_second(keeper: Keeper, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY_S", 3600)

    async def main() -> None:
        async with keeper:
            keeper.offer(at(1))
            await asyncio.sleep(0)
            assert store.saved == []
            keeper.offer(at(2), at_once=True)
            await until(lambda: store.saved)

    asyncio.run(main())
    assert store.saved == [2]


def test_nobody_may_send_once_the_lease_may_be_anothers(keeper: Keeper, store: Store, clock: Clock) -> None:
    store.error = CheckpointUnavailable("away")

    async def main() -> None:
        async with keeper:
            clock.now_s += FRESH_S - 0.1
            await keeper.held()
            clock.now_s += 0.2
            waiting = asyncio.create_task(keeper.held())
            await never_within_turns(waiting)
            store.error = None
            await waiting

    asyncio.run(main())


def test_an_answer_counts_from_when_it_was_asked_for(keeper: Keeper, store: Store, clock: Clock) -> None:
    """A renewal that took ten seconds tells nothing about now."""

    def slow() -> None:
        clock.now_s += FRESH_S + 1

    store.renew = slow  # type: ignore[method-assign]

    async def main() -> None:
        await keeper.confirm()
        await never_within_turns(asyncio.create_task(keeper.held()))

    asyncio.run(main())


def test_a_short_outage_is_sat_out(keeper: Keeper, store: Store, clock: Clock) -> None:
    store.error = CheckpointUnavailable("away")

    async def main() -> None:
        saving = asyncio.create_task(keeper.save(at(3)))
        clock.now_s += PATIENCE_S - 1
        await never_within_turns(saving)
        store.error = None
        await saving

    asyncio.run(main())
    assert store.saved == [3]


def test_a_long_outage_is_raised(keeper: Keeper, store: Store, clock: Clock) -> None:
    store.error = CheckpointUnavailable("away")

    async def main() -> None:
        async with keeper:
            clock.now_s += PATIENCE_S + 1
            with pytest.raises(CheckpointUnavailable):
                await keeper.keeping

    asyncio.run(main())


def test_a_lost_lease_is_raised_and_saved_over_no_more(keeper: Keeper, store: Store) -> None:
    store.error = Fenced("taken")

    async def main() -> None:
        async with keeper:
            with pytest.raises(Fenced):
                await keeper.keeping
        with pytest.raises(Fenced):
            await keeper.confirm()

    asyncio.run(main())
    assert store.saved == []
