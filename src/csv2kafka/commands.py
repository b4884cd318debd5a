"""What the commands share: options as they were given, and a load with signals, logs and progress around it.

Heavy imports (Numba, boto3, aiokafka, pydantic) happen inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Result:
    """What came of something that takes long, as people and machines read it."""

    status: str
    text: str
    fields: dict[str, Any]
    exit_code: int = 0


Work = Callable[..., Result]  # of sinks, stop and notify, as jobs.run takes them


def load(
    settings: RunSettings, output: Output, *, quiet: bool, verbose: bool, how: Callable[..., Receipt] | None = None
) -> int:
    """Load a file; `how` is something else than jobs.run, called like it."""
    from csv2kafka import failpoints, receipt  # noqa: PLC0415
    from csv2kafka.malloc import keep_freed_memory  # noqa: PLC0415

    keep_freed_memory()
    failpoints.arm(os.environ)

    def work(**around: Any) -> Result:
        from csv2kafka import jobs  # noqa: PLC0415  # seconds, when Numba has to compile: signals count already

        done = (how or partial(jobs.run, settings))(**around)
        return Result(done.status, receipt.as_text(done), receipt.as_dict(done))

    return attend(settings, output, lambda _: work, quiet=quiet, verbose=verbose)


def attend(
    settings: RunSettings,
    output: Output,
    work_of: Callable[[Monitor | None], Work],
    *,
    quiet: bool,
    verbose: bool,
) -> int:
    """Do what takes long, with signals, logs, progress and the metrics port around it; the exit code."""
    from csv2kafka import logs  # noqa: PLC0415
    from csv2kafka.metrics.progress import progress_sink  # noqa: PLC0415
    from csv2kafka.signals import StopSignals  # noqa: PLC0415

    logs.set_up(settings.log_format, quiet=quiet, verbose=verbose)
    stop = threading.Event()

    def abandon(message: str, exit_code: int) -> None:
        if not output.is_told:  # what keeps the process now is nobody's concern
            output.failure(message, "run the same command again to go on", exit_code)

    with StopSignals(stop, announce=log.info, abandon=abandon) as signals:
        monitor = _monitor(settings)
        sinks: list[MetricsSink] = [] if quiet else [progress_sink()]
        sinks += [monitor] if monitor else []
        try:
            result = work_of(monitor)(sinks=sinks, stop=stop, notify=log.info)
        except Exception as error:
            if monitor:
                monitor.failed(error)
            raise
        finally:
            for sink in sinks:
                sink.close()
        if monitor:
            monitor.ended(result.status)
        output.result(result.text, result.fields)
        return signals.exit_code or 0 if result.status == "stopped" else result.exit_code


def _monitor(settings: RunSettings) -> Monitor | None:
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
