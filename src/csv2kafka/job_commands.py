"""The commands around a job, before, while and after it runs: plan, verify, status, list, bad-rows, replay, reset.

Heavy imports (Numba, boto3, aiokafka, pydantic) happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from csv2kafka import options
from csv2kafka.commands import given, load, reach, store_of
from csv2kafka.errors import UsageError
from csv2kafka.fleet_command import fleet
from csv2kafka.output import write

_DIFFERENT = 65  # as bad data

Fleet = Annotated[
    str | None, typer.Option("--fleet", metavar="NAME", help="A whole fleet, by its name as its receipt shows it.")
]


def bad_rows(
    context: typer.Context,
    job: options.Job,
    bootstrap: options.Bootstrap = None,
    properties: options.Properties = None,
    command_config: options.CommandConfig = None,
    checkpoint: options.Checkpoint = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each row: where it was, and why.")] = False,
) -> int:
    """Show the rows that a job has set apart: a CSV on stdout, to be mended and loaded with csv2kafka replay."""
    from csv2kafka.settings import load_kafka  # noqa: PLC0415

    store = store_of(context)
    from csv2kafka.replay import QuarantinedJob  # noqa: PLC0415

    quarantined = QuarantinedJob.find(store, job)
    quarantined.write(sys.stdout.buffer, lambda: load_kafka(store, **reach(context)), as_json=as_json)
    return 0


def replay(
    context: typer.Context,
    job: options.Job,
    mended: Annotated[str, typer.Argument(metavar="MENDED", help="The rows as csv2kafka bad-rows shows them, mended.")],
    bootstrap: options.Bootstrap = None,
    properties: options.Properties = None,
    command_config: options.CommandConfig = None,
    compression: options.Compression = None,
    delivery: options.Delivery = None,
    job_id: options.JobId = None,
    checkpoint: options.Checkpoint = None,
    max_bytes_per_s: options.MaxBytesPerS = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    log_format: options.LogFormat = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Load a complete job's bad rows, mended, behind its others: as records like those, each exactly once.

    It is a job of its own (JOB.replay-...), resumed by the same command. Exit codes as of csv2kafka run.
    """
    from csv2kafka.settings import load_run  # noqa: PLC0415

    store = store_of(context)
    from csv2kafka.replay import QuarantinedJob  # noqa: PLC0415

    quarantined = QuarantinedJob.find(store, job)
    flags = {name: value for name, value in given(context, "job", "mended").items() if value is not None}
    settings = load_run({**quarantined.flags(mended), **flags}, **reach(context))
    return load(settings, context.obj, quiet=quiet, verbose=verbose, how=partial(quarantined.load, settings))


def verify(
    context: typer.Context,
    job_or_source: Annotated[str, typer.Argument(metavar="JOB|SOURCE", help="A complete job, or a file.")],
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="With a file: what to compare it with.")] = None,
    bootstrap: options.Bootstrap = None,
    properties: options.Properties = None,
    command_config: options.CommandConfig = None,
    partition: options.Partition = None,
    checkpoint: options.Checkpoint = None,
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
    encoding: options.Encoding = None,
    decompress: options.Decompress = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Read the file and the topic once more and compare them record by record, order included.

    Of a JOB all is known: its file, options, and what in the topic is its own. With SOURCE and TOPIC the options of the
    load are needed, and all that lies in the topic counts. Exit codes: 0 the same, 65 different, others as of run.
    """
    from csv2kafka import logs  # noqa: PLC0415
    from csv2kafka.metrics.progress import progress_sink  # noqa: PLC0415
    from csv2kafka.settings import load_kafka, load_run  # noqa: PLC0415

    logs.set_up(os.environ.get("CSV2KAFKA_LOG_FORMAT") or logs.AUTO, quiet=quiet)
    if topic is None:
        store = store_of(context)
        find: dict[str, Any] = {
            "store": store,
            "job_id": job_or_source,
            "kafka": load_kafka(store, **reach(context)),
        }
    else:
        find = {"settings": load_run({**given(context, "job_or_source"), "source": job_or_source}, **reach(context))}
    from csv2kafka.verify import as_dict, as_words, verify_job, verify_topic  # noqa: PLC0415

    sinks = [] if quiet else [progress_sink()]
    try:
        outcome = (verify_job if topic is None else verify_topic)(**find, sinks=sinks)
    finally:
        for sink in sinks:
            sink.close()
    context.obj.result(as_words(outcome), as_dict(outcome))
    return 0 if outcome.is_exact else _DIFFERENT


def reset(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="The job's name, as a run shows it.")] = None,
    fleet: Fleet = None,
    checkpoint: options.Checkpoint = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
) -> int:
    """Forget a job, so that its next run begins at row 1. What it sent stays in the topic.

    With --fleet: all jobs of a fleet, and the list of its files; refused while one of them is held.
    """
    _refuse_both(job, fleet)
    store = store_of(context)
    if fleet is not None:
        from csv2kafka.fleet import standing  # noqa: PLC0415

        write(sys.stdout, standing.reset(store, fleet) + "\n")
        return 0
    if job is None:
        raise UsageError("Missing argument 'JOB', or --fleet NAME", hint="see csv2kafka reset --help")
    from csv2kafka import jobs  # noqa: PLC0415

    write(sys.stdout, jobs.reset(store.checkpoint_url, job, store.region, store.profile) + "\n")
    return 0


def _refuse_both(job: str | None, fleet: str | None) -> None:
    if job is not None and fleet is not None:
        raise UsageError("JOB and --fleet contradict each other", hint="keep one of them")


def status(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="All jobs unless given.")] = None,
    fleet: Fleet = None,
    checkpoint: options.Checkpoint = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> int:
    """Say where a job stands, who holds it, how fast it is and how it last ended: from the checkpoint store alone.

    With --fleet: a whole fleet's files and how far they are together.
    """
    _refuse_both(job, fleet)
    store = store_of(context)
    if fleet is not None:
        from csv2kafka.fleet import standing as standings_of_fleets  # noqa: PLC0415

        whole = standings_of_fleets.standing(store, fleet)
        context.obj.result(standings_of_fleets.as_text(whole), standings_of_fleets.as_dict(whole))
        return 0
    from csv2kafka import status as standing  # noqa: PLC0415

    found = standing.standings(store, job)
    text = standing.as_table(found) if job is None else standing.as_text(found[0])
    fields = [standing.as_dict(one) for one in found]
    context.obj.result(text, {"jobs": fields} if job is None else fields[0])
    return 0


def list_jobs(
    context: typer.Context,
    checkpoint: options.Checkpoint = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> int:
    """List all jobs of a checkpoint store."""
    return status(context, None)


def plan(
    context: typer.Context,
    source: options.Source = None,
    topic: options.Topic = None,
    bootstrap: options.Bootstrap = None,
    properties: options.Properties = None,
    command_config: options.CommandConfig = None,
    partition: options.Partition = None,
    compression: options.Compression = None,
    create_topic: options.CreateTopic = None,
    delivery: options.Delivery = None,
    accept_new_producer_id: options.AcceptNewProducerId = False,
    job_id: options.JobId = None,
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
    """Say what a run with the same options would do and what stands in its way. Nothing is sent or created.

    Exit codes: 0 ready; otherwise the one with which the run would end.
    """
    from csv2kafka.settings import load_run  # noqa: PLC0415

    settings = load_run(given(context), **reach(context))
    from csv2kafka import preflight  # noqa: PLC0415

    found = preflight.plan(settings)
    context.obj.result(preflight.as_words(found), preflight.as_dict(found))
    return found.exit_code


ALL: dict[str, Callable[..., int]] = {
    "plan": plan,
    "fleet": fleet,
    "verify": verify,
    "status": status,
    "list": list_jobs,
    "bad-rows": bad_rows,
    "replay": replay,
    "reset": reset,
}
