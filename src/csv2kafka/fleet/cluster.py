"""Dask: the only file that speaks to it. Work is handed to its workers, and what they tell comes back.

A scheduler of Dask's runs elsewhere, or with its workers on this machine, as processes of one thread each. What is
handed out is pickled; what a worker tells while it works goes through Dask's events.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from csv2kafka.errors import ConfigError, Retryable, UsageError

try:
    import dask
    from distributed import Client, KilledWorker, LocalCluster, Worker, WorkerPlugin, get_worker, wait
    from distributed.comm.core import CommClosedError
    from distributed.core import Status
except ModuleNotFoundError as missing:
    raise ConfigError(
        f"a fleet runs on Dask, which is not installed ({missing.name})", hint="pip install 'csv2kafka[fleet]'"
    ) from None

_CONNECT_S = 30
_ENDING = (Status.closing, Status.closed, Status.failed)
# Where Dask's own configuration says nothing else.
_LOCAL = {
    "distributed": {
        "scheduler": {
            "allowed-failures": 100,  # a file whose worker died is none the worse for it
            "worker-ttl": "60s",  # a worker that stands still is taken for dead
        },
        "logging": {"distributed": "error", "bokeh": "error", "tornado": "error"},
    }
}

Argument = TypeVar("Argument")
Handle = Any  # Dask's future of a piece of work
Telling = dict[str, Any]  # msgpack's types


class ClusterLost(Retryable):
    """The scheduler is gone; each file's job is where its checkpoint says."""

    kind = "machine"


class WorkerLost(Exception):
    """Workers died, one after the other, over this piece of work."""


class Cluster:
    """A connection to a scheduler, or (`scheduler` None) to one made here with `local_workers` processes.

    Raises Retryable where the scheduler cannot be reached, UsageError for an address that is none.
    """

    def __init__(self, scheduler: str | None, local_workers: int) -> None:
        self._local: LocalCluster | None = None
        self._local_workers = local_workers
        for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they tell with tracebacks is raised as well
        if scheduler is None:
            self._local = _local_cluster(local_workers)
        try:
            self._client = Client(self._local or scheduler, timeout=_CONNECT_S, set_as_default=False, name="csv2kafka")
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"--scheduler {scheduler}: {error}", hint="write tcp://HOST:8786 or tls://HOST:8786"
            ) from None
        except (OSError, TimeoutError) as error:
            raise ClusterLost(
                f"no Dask scheduler answers at {scheduler}: {error}",
                hint="See that it runs (`dask scheduler`), and that it speaks as the address says (tcp:// or tls://).",
            ) from error
        if self._local is not None:
            self._client.register_plugin(_Deaf())

    def listen(self, topic: str, told: Callable[[Telling], None]) -> None:
        """Have `told` called with each telling under `topic`, in a thread of Dask's."""
        self._client.subscribe_topic(topic, lambda event: told(event[1]))

    @property
    def dashboard_url(self) -> str:
        return str(self._client.dashboard_link)

    def worker_threads(self) -> int:
        """How many pieces of work can be under way at once, as the scheduler knows now. Raises ClusterLost."""
        self._confirm()
        with _losing():
            threads: int = sum(self._client.nthreads().values())
        if self._local is not None and threads < self._local_workers:
            self._replace_lost(self._local)
        return threads

    def submit(self, work: Callable[[Argument], object], argument: Argument, *, name: str) -> Handle:
        """Hand out a piece of work; `name` (unique) is what Dask's dashboard shows. Raises ClusterLost."""
        self._confirm()
        with _losing():
            return self._client.submit(work, argument, key=name, pure=False)

    def first_done(self, futures: Collection[Handle], timeout_s: float) -> set[Handle]:
        """Those that are done, as soon as there are any; none after the timeout. Raises ClusterLost."""
        # Cancelled are all futures of a scheduler that is gone, and those that somebody cancelled there.
        with suppress(TimeoutError, CancelledError), _losing(), self._client.as_current():
            wait(list(futures), timeout=timeout_s, return_when="FIRST_COMPLETED")
        self._confirm()
        return {future for future in futures if future.done()}

    def result(self, future: Handle) -> Any:
        """Of a piece of work that is done. Raises WorkerLost, ClusterLost, and what the work raised."""
        if future.cancelled():
            raise WorkerLost("it was cancelled on the cluster")
        try:
            return future.result()
        except KilledWorker as error:
            raise WorkerLost(str(error)) from error

    def on_all_workers(self, action: Callable[[str], None], argument: str) -> None:
        """Have it called once on each worker that answers. Does not wait, least of all for one that stands still."""

        def call() -> None:
            with suppress(Exception):
                self._client.run(action, argument, on_error="ignore")

        threading.Thread(target=call, name="csv2kafka-workers", daemon=True).start()

    def close(self) -> None:
        """Leave; end what was made here."""
        with suppress(Exception):
            self._client.close(timeout=1)
        if self._local is not None:
            with suppress(Exception):
                self._end_local_workers(self._local)
            with suppress(Exception):
                self._local.close(timeout=10)

    @staticmethod
    def _end_local_workers(local: LocalCluster) -> None:
        """Their own way out takes seconds, which one who is told to stop has not; they hold nothing of use any more."""
        for nanny in local.workers.values():
            if nanny.pid:
                os.kill(nanny.pid, signal.SIGTERM)

    def _replace_lost(self, local: LocalCluster) -> None:
        """A nanny whose worker dies while it starts gives it up for good."""
        for name, nanny in list(local.workers.items()):
            if nanny.status in (Status.failed, Status.closed):
                local.workers.pop(name, None)
        local.scale(self._local_workers)  # starts those that are missing

    def _confirm(self) -> None:
        if self._client.status != "running":
            raise _lost("it closed the connection")


class _Deaf(WorkerPlugin):
    """A terminal's Ctrl-C reaches the workers on its machine, too: what to do then is for who handed the work out."""

    def setup(self, worker: Worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def tell(topic: str, telling: Telling) -> None:
    """On a worker, in any of its threads: pass something on to whoever listens."""
    get_worker().log_event(topic, telling)


def worker_name() -> str:
    """On a worker: its address."""
    return str(get_worker().address)


def watch_current() -> Callable[[], bool]:
    """On a worker, in the thread of a piece of work: a function that tells anywhere whether it is still waited for.

    Dask ends no thread: work whose driver or scheduler is gone has to see so itself.
    """
    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status not in _ENDING and task is not None and task.state == "executing"

    return is_wanted


@contextmanager
def _losing() -> Iterator[None]:
    """Turns what Dask raises where its scheduler is gone into ours."""
    try:
        yield
    except TimeoutError:
        raise
    except (CommClosedError, OSError) as error:
        raise _lost(str(error)) from error


def _lost(why: str) -> ClusterLost:
    return ClusterLost(
        f"the Dask scheduler is gone: {why}",
        hint="Run the same command again, here or on another machine: each file goes on behind its last checkpoint.",
    )


def _local_cluster(workers: int) -> LocalCluster:
    dask.config.update_defaults(_LOCAL)
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # a load holds some 400 MB, whatever the file
            silence_logs=logging.CRITICAL,
        )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise ConfigError(
            f"{workers} worker processes cannot be started here: {error}", hint="Take a smaller --local N."
        ) from error
