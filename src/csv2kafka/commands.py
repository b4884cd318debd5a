"""What the commands share: options as they were given, and a load with signals, logs and progress around it.

Heavy imports (Numba, boto3, aiokafka, pydantic) happen inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from csv2kafka.output import Output

if TYPE_CHECKING:
    from csv2kafka.metrics import MetricsSink
    from csv2kafka.metrics.monitor import Monitor
    from csv2kafka.receipt import Receipt
    from csv2kafka.settings import RunSettings, StoreSettings

# Which of the parameters are settings, and under which names.
_NO_SETTINGS = {"bootstrap", "properties", "command_config", "config", "as_json", "quiet", "verbose"}
_SETTINGS = {"checkpoint": "checkpoint_url", "checkpoint_interval": "checkpoint_interval_rows", "schema": "schema_file"}
_SWITCHES = {"accept_new_producer_id", "no_header"}  # which can only be switched on

log = logging.getLogger(__name__)


def given(context: typer.Context, *others: str) -> dict[str, Any]:
    """What was given on the command line, by the settings' names: None where nothing was. `others` are no settings."""
    flags: dict[str, Any] = {}
    for name, value in context.params.items():
        if name not in _NO_SETTINGS and name not in others:
            given = tuple(value) if isinstance(value, list) else value
            flags[_SETTINGS.get(name, name)] = None if (given is False and name in _SWITCHES) or given == () else given
    return flags


def load(
    settings: RunSettings, output: Output, *, quiet: bool, verbose: bool, how: Callable[..., Receipt] | None = None
) -> int:
    """Load, with signals, logs and progress around it; `how` is something else than jobs.run, called like it."""
    from csv2kafka import failpoints, logs, receipt  # noqa: PLC0415
    from csv2kafka.malloc import keep_freed_memory  # noqa: PLC0415
    from csv2kafka.metrics.progress import progress_sink  # noqa: PLC0415
    from csv2kafka.signals import StopSignals  # noqa: PLC0415

    keep_freed_memory()
    failpoints.arm(os.environ)
    logs.set_up(settings.log_format, quiet=quiet, verbose=verbose)
    stop = threading.Event()

    def abandon(message: str, exit_code: int) -> None:
        output.failure(message, "run the same command again to go on", exit_code)

    with StopSignals(stop, announce=log.info, abandon=abandon) as signals:
        monitor = monitor_of(settings)
        from csv2kafka import jobs  # noqa: PLC0415  # seconds, when Numba has to compile: signals count already

        sinks: list[MetricsSink] = [] if quiet else [progress_sink()]
        sinks += [monitor] if monitor else []
        load = how or partial(jobs.run, settings)
        try:
            outcome = load(sinks=sinks, stop=stop, notify=log.info)
        except Exception as error:
            if monitor:
                monitor.failed(error)
            raise
        finally:
            for sink in sinks:
                sink.close()
        if monitor:
            monitor.ended(outcome.status)
        output.result(receipt.as_text(outcome), receipt.as_dict(outcome))
        return signals.exit_code or 0 if outcome.status == "stopped" else 0


def monitor_of(settings: RunSettings) -> Monitor | None:
    """Answers from now on until the process is gone, if anybody wants to look."""
    if settings.metrics_port is None:
        return None
    from csv2kafka.metrics.monitor import Monitor  # noqa: PLC0415

    monitor = Monitor(
        settings.metrics_host,
        settings.metrics_port,
        job_id=settings.job,
        source=settings.source,
        topic=settings.topic,
    )
    log.info("watch this run at %s (Prometheus: %smetrics)", monitor.url, monitor.url)
    return monitor


def reach(context: typer.Context) -> dict[str, Any]:
    """How the cluster is reached, as load_run and load_kafka take it: -b, -X and the files."""
    from csv2kafka.client_properties import split_flag  # noqa: PLC0415

    names = ("bootstrap", "command_config", "config")
    properties = dict(map(split_flag, context.params.get("properties") or ()))
    return {name: context.params.get(name) for name in names} | {"properties": properties}


def store_of(context: typer.Context) -> StoreSettings:
    """The checkpoint store that the options name."""
    from csv2kafka.settings import load_store  # noqa: PLC0415

    flags = given(context)
    names = ("checkpoint_url", "region", "profile")
    return load_store({name: flags.get(name) for name in names}, config=context.params.get("config"))
