"""The command line: arguments in, exit code out. What a command does is in jobs.py, devbroker.py and their like.

Heavy imports (Numba, boto3, aiokafka, pydantic) happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from csv2kafka import __version__, options
from csv2kafka.errors import Csv2KafkaError, UsageError, machine_limit
from csv2kafka.output import Output, write

if TYPE_CHECKING:
    from csv2kafka.replay import QuarantinedJob
    from csv2kafka.settings import RunSettings

_BUG = 70  # EX_SOFTWARE
# Which of the parameters are settings, and under which names.
_NO_SETTINGS = {"bootstrap", "properties", "command_config", "config", "as_json", "quiet", "verbose"}
_SETTINGS = {"checkpoint": "checkpoint_url", "checkpoint_interval": "checkpoint_interval_rows", "schema": "schema_file"}
_SWITCHES = {"accept_new_producer_id", "no_header"}  # which can only be switched on

log = logging.getLogger(__name__)


class _Program(TyperGroup):
    """Every way a command can end becomes an exit code here, and each error one line with a hint."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        args = list(sys.argv[1:] if args is None else args)
        output = Output(as_json="--json" in args)  # known before parsing, which may fail
        sys.exit(self._exit_code(args, prog_name, output))

    def _exit_code(self, args: list[str], prog_name: str | None, output: Output) -> int:
        try:
            code = super().main(args, prog_name, standalone_mode=False, obj=output)
        except Csv2KafkaError as error:
            output.error(error)
            return error.exit_code
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "csv2kafka"
            output.failure(error.format_message(), f"see {command} --help", error.exit_code)
            return error.exit_code
        except KeyboardInterrupt:
            return 130
        except Exception as error:  # noqa: BLE001  # the last line of defence: whatever it is, it is our mistake
            limit = machine_limit(error)
            if limit is not None:
                output.error(limit)
                return limit.exit_code
            output.bug(error, _BUG)
            return _BUG
        return code if isinstance(code, int) else 0


app = typer.Typer(
    cls=_Program,
    help="One huge CSV into a Kafka topic: every row exactly once, in file order, resumable at any moment.",
    epilog="Flags beat environment variables, which beat files (--config, --command-config).",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut long option names off at 80 columns
)


def main() -> None:
    app(prog_name="csv2kafka")


def _show_version(wanted: bool) -> None:
    if wanted:
        write(sys.stdout, f"csv2kafka {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        raise UsageError("no command given", hint="see csv2kafka --help; the main one is csv2kafka run")


@app.command()
def run(
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
    encoding: options.Encoding = None,
    decompress: options.Decompress = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Load a CSV into a topic. The same command again resumes, or says that the job is complete.

    Exit codes: 0 done, 2 usage, 65 bad data, 66 source missing or changed, 75 try again, 77 denied, 78 configuration,
    130 interrupted, 143 stopped after a checkpoint. Metrics for CloudWatch: ENABLE_METRICS=true.
    """
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other", hint="keep one of them")
    from csv2kafka.client_properties import split_flag  # noqa: PLC0415
    from csv2kafka.settings import load_run  # noqa: PLC0415

    settings = load_run(
        _flags(context),
        bootstrap=bootstrap,
        properties=dict(map(split_flag, properties or [])),
        command_config=command_config,
        config=config,
    )
    return _run(settings, context.obj, quiet=quiet, verbose=verbose)


def _flags(context: typer.Context) -> dict[str, Any]:
    """What was given on the command line, by the settings' names: None where nothing was."""
    flags: dict[str, Any] = {}
    for name, value in context.params.items():
        if name not in _NO_SETTINGS:
            given = tuple(value) if isinstance(value, list) else value
            flags[_SETTINGS.get(name, name)] = None if (given is False and name in _SWITCHES) or given == () else given
    return flags


def _run(
    settings: RunSettings, output: Output, *, quiet: bool, verbose: bool, mended: QuarantinedJob | None = None
) -> int:
    """Load, with signals, logs and progress around it; the file may be `mended` rows of another job."""
    from csv2kafka import failpoints, logs, receipt  # noqa: PLC0415
    from csv2kafka.malloc import keep_freed_memory  # noqa: PLC0415
    from csv2kafka.metrics.progress import progress_sink  # noqa: PLC0415
    from csv2kafka.signals import StopSignals  # noqa: PLC0415

    keep_freed_memory()
    failpoints.arm(os.environ)
    logs.set_up(quiet=quiet, verbose=verbose)
    stop = threading.Event()

    def abandon(message: str, exit_code: int) -> None:
        output.failure(message, "run the same command again to go on", exit_code)

    with StopSignals(stop, announce=log.info, abandon=abandon) as signals:
        from csv2kafka import jobs  # noqa: PLC0415  # seconds, when Numba has to compile: signals count already

        sinks = [] if quiet else [progress_sink()]
        load = mended.load if mended else jobs.run
        try:
            outcome = load(settings, sinks=sinks, stop=stop, notify=log.info)
        finally:
            for sink in sinks:
                sink.close()
        output.result(receipt.as_text(outcome), receipt.as_dict(outcome))
        return signals.exit_code or 0 if outcome.status == "stopped" else 0


@app.command()
def bad_rows(
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
    from csv2kafka.client_properties import split_flag  # noqa: PLC0415
    from csv2kafka.settings import KafkaSettings, load_kafka, load_store  # noqa: PLC0415

    store = load_store({"checkpoint_url": checkpoint, "region": region, "profile": profile}, config=config)

    def kafka() -> KafkaSettings:
        given = dict(map(split_flag, properties or []))
        return load_kafka(bootstrap=bootstrap, properties=given, command_config=command_config, config=config)

    from csv2kafka.replay import QuarantinedJob  # noqa: PLC0415

    QuarantinedJob.find(store, job).write(sys.stdout.buffer, kafka, as_json=as_json)
    return 0


@app.command()
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
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Load a complete job's bad rows, mended, behind its others: as records like those, each exactly once.

    It is a job of its own (JOB.replay-...), resumed by the same command. Exit codes as of csv2kafka run.
    """
    from csv2kafka.client_properties import split_flag  # noqa: PLC0415
    from csv2kafka.settings import load_run, load_store  # noqa: PLC0415

    flags = {name: value for name, value in _flags(context).items() if name not in ("job", "mended")}
    store = load_store({"checkpoint_url": checkpoint, "region": region, "profile": profile}, config=config)
    from csv2kafka.replay import QuarantinedJob  # noqa: PLC0415

    quarantined = QuarantinedJob.find(store, job)
    settings = load_run(
        {**quarantined.flags(mended), **{name: value for name, value in flags.items() if value is not None}},
        bootstrap=bootstrap,
        properties=dict(map(split_flag, properties or [])),
        command_config=command_config,
        config=config,
    )
    return _run(settings, context.obj, quiet=quiet, verbose=verbose, mended=quarantined)


@app.command()
def reset(
    job: options.Job,
    checkpoint: options.Checkpoint = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
) -> int:
    """Forget a job, so that its next run begins at row 1. What it sent stays in the topic."""
    from csv2kafka.settings import load_store  # noqa: PLC0415

    store = load_store({"checkpoint_url": checkpoint, "region": region, "profile": profile}, config=config)
    from csv2kafka import jobs  # noqa: PLC0415

    write(sys.stdout, jobs.reset(store.checkpoint_url, job, store.region, store.profile) + "\n")
    return 0


@app.command()
def schema(
    context: typer.Context,
    source: options.FileSource = None,
    delimiter: options.Delimiter = None,
    quote: options.Quote = None,
    escape: options.Escape = None,
    no_header: options.NoHeader = False,
    columns: options.Columns = None,
    skip_lines: options.SkipLines = None,
    null_value: options.NullValue = None,
    encoding: options.Encoding = None,
    decompress: options.Decompress = None,
    region: options.Region = None,
    profile: options.Profile = None,
    config: options.Config = None,
) -> int:
    """Propose a schema for a file, from samples all over it: JSON on stdout, how sure it is on stderr.

    Types: string, int, float, decimal, bool, date, timestamp, json. Nothing is ever converted: a number is written as
    it stands in the file, and a value that is not of its type (leading zeros, NaN, 1e400) is a bad row.
    """
    from csv2kafka.settings import load_schema  # noqa: PLC0415

    settings = load_schema(_flags(context), config=config)
    from csv2kafka.proposal import propose  # noqa: PLC0415

    proposal = propose(settings)
    write(sys.stderr, proposal.confidence + "\n")
    write(sys.stdout, proposal.as_json() + "\n")
    return 0


@app.command()
def broker(port: options.Port = None, data_dir: options.DataDir = None) -> int:
    """Run a real Apache Kafka on this machine until Ctrl-C.

    Its address goes to stdout once it is ready.
    """
    from csv2kafka import logs  # noqa: PLC0415
    from csv2kafka.devbroker import serve  # noqa: PLC0415

    logs.set_up()
    log.info("starting Apache Kafka (the first start downloads it, about 44 MB); Ctrl-C stops it")
    serve(port, data_dir)
    return 0
