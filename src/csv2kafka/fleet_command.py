"""`csv2kafka fleet`: many files, or one huge file in parts, on Dask's workers, or one of them in this process.

Heavy imports (Dask, Numba, boto3) happen inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csv2kafka import options
from csv2kafka.commands import Result, Work, attend, given, load, reach
from csv2kafka.errors import UsageError
from csv2kafka.output import Output

if TYPE_CHECKING:
    from csv2kafka.fleet.freezing import Options
    from csv2kafka.metrics.monitor import Monitor
    from csv2kafka.settings import RunSettings

_OWN = ("scheduler", "local", "name", "placement", "split", "per_broker", "dry_run", "freeze", "index")
_PLACEMENTS = ("round-robin", "hash", "single")

log = logging.getLogger(__name__)


def _placement(value: str | None) -> str | None:
    if value not in (None, *_PLACEMENTS):
        raise typer.BadParameter(f"{value!r} is not among {', '.join(_PLACEMENTS)}")
    return value


Files = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="s3://BUCKET/PREFIX/, a folder, a pattern (* ? [...]), a list of files (.txt, .manifest: one a line), or "
        "one file.",
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler, as tcp://HOST:8786 or tls://HOST:8786.")
]
Local = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Without --scheduler: N processes on this machine; by default one a core."),
]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="The fleet's name; made from source and topic by default.")
]
PlacementOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        callback=_placement,
        help="Which partition a file goes to: round-robin (default), hash (of its name), or single: all into one, one "
        "after the other.",
    ),
]
Split = Annotated[
    int | None,
    typer.Option(metavar="N", min=2, help="Cut one huge plain CSV into about N parts, each for its own partition."),
]
PerBroker = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="At most N loads at a time into partitions of one broker.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be loaded and where to; keep nothing.")]
Freeze = Annotated[bool, typer.Option("--freeze", help="Keep the list of files, say how many they are, send nothing.")]
Index = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        envvar="AWS_BATCH_JOB_ARRAY_INDEX",
        help="Load only the list's file N (from 0), in this process, without Dask: for array jobs.",
    ),
]


def fleet(
    context: typer.Context,
    source: Files = None,
    topic: options.Topic = None,
    bootstrap: options.Bootstrap = None,
    properties: options.Properties = None,
    command_config: options.CommandConfig = None,
    scheduler: Scheduler = None,
    local: Local = None,
    name: Name = None,
    placement: PlacementOption = None,
    split: Split = None,
    per_broker: PerBroker = None,
    dry_run: DryRun = False,
    freeze: Freeze = False,
    index: Index = None,
    compression: options.Compression = None,
    create_topic: options.CreateTopic = None,
    delivery: options.Delivery = None,
    checkpoint: options.Checkpoint = None,
    checkpoint_interval: options.CheckpointInterval = None,
    max_bytes_per_s: options.MaxBytesPerS = None,
    delimiter: options.Delimiter = None,
    quote: options.Quote = None,
    escape: options.Escape = None,
    no_header: options.NoHeader = False,
    columns: options.Columns = None,
    skip_lines: options.SkipLines = None,
    null_value: options.NullValue = None,
    schema: options.Schema = None,
    value_format: options.Format = None,
    key: options.Key = None,
    headers: options.Headers = None,
    header: options.HeaderPair = None,
    bad_rows: options.BadRows = None,
    bad_rows_to: options.BadRowsTo = None,
    max_bad_rows: options.MaxBadRows = None,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = None,
    encoding: options.Encoding = None,
    decompress: options.Decompress = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    log_format: options.LogFormat = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Load many files, or one huge one in parts: each exactly once and in order in its partition, on many machines.

    What is loaded is frozen first; the same command again, from any machine, loads what is left. Exit codes as of
    csv2kafka run: that of the first file that failed, 75 where trying again may help all of them.
    """
    return _do(context)


def _do(context: typer.Context) -> int:
    from csv2kafka import logs  # noqa: PLC0415
    from csv2kafka.settings import load_run  # noqa: PLC0415

    asked = context.params
    settings = load_run(given(context, *_OWN) | {"job_id": asked["name"]}, **reach(context))
    own, output = _options(asked), context.obj
    logs.set_up(settings.log_format, quiet=asked["quiet"], verbose=asked["verbose"])
    if asked["index"] is not None:
        return _load_one(settings, own, asked["index"], output, quiet=asked["quiet"], verbose=asked["verbose"])
    if asked["dry_run"] or asked["freeze"]:
        return _show(settings, own, output, keep=not asked["dry_run"])
    return _load_all(settings, own, output, quiet=asked["quiet"], verbose=asked["verbose"])


def _options(asked: Mapping[str, Any]) -> Options:
    if asked["scheduler"] is not None and asked["local"] is not None:
        raise UsageError("--scheduler and --local contradict each other", hint="keep one of them")
    from csv2kafka.fleet.freezing import Options  # noqa: PLC0415

    local_workers = asked["local"] or os.cpu_count() or 1
    return Options(asked["scheduler"], local_workers, asked["placement"], asked["split"], asked["per_broker"])


def _show(settings: RunSettings, own: Options, output: Output, *, keep: bool) -> int:
    from csv2kafka.fleet import freezing, report  # noqa: PLC0415

    manifest = freezing.freeze(settings, own, threading.Event(), keep=keep)
    output.result(report.manifest_text(manifest, is_kept=keep), report.manifest_dict(manifest))
    return 0


def _load_one(settings: RunSettings, own: Options, index: int, output: Output, *, quiet: bool, verbose: bool) -> int:
    from csv2kafka.fleet import freezing, work  # noqa: PLC0415

    manifest = freezing.freeze(settings, own, threading.Event(), look=False)
    if index >= len(manifest.entries):
        raise UsageError(
            f"--index {index}: fleet {manifest.name} has {len(manifest.entries)} files, counted from 0",
            hint="Make the array as large as the list (csv2kafka fleet ... --freeze says how large).",
        )
    freezing.refuse_too_early(freezing.store_of(settings), manifest, manifest.entries[index])
    one = work.assignment_of(manifest, manifest.entries[index], settings, work.schema_of(settings), run_id="")
    return load(one.settings, output, quiet=quiet, verbose=verbose, how=partial(work.load, one))


def _load_all(settings: RunSettings, own: Options, output: Output, *, quiet: bool, verbose: bool) -> int:
    from csv2kafka.fleet import launch, report  # noqa: PLC0415

    def work_of(monitor: Monitor | None) -> Work:
        def work(**around: Any) -> Result:
            done = launch.run(settings, own, attach=monitor.attach if monitor else None, **around)
            return Result(done.status, report.as_text(done), report.as_dict(done), done.exit_code)

        return work

    return attend(settings, output, work_of, quiet=quiet, verbose=verbose)
