"""The command line: arguments in, exit code out. What a command does is in jobs.py, devbroker.py and their like.

Heavy imports (Numba, boto3, aiokafka, pydantic) happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from csv2kafka import __version__, job_commands, options
from csv2kafka.commands import given, load, reach
from csv2kafka.errors import Csv2KafkaError, UsageError, machine_limit
from csv2kafka.output import Output, write

_BUG = 70  # EX_SOFTWARE


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
    """Load a CSV into a topic. The same command again resumes, or says that the job is complete.

    Exit codes: 0 done, 2 usage, 65 bad data, 66 source missing or changed, 75 try again, 77 denied, 78 configuration,
    130 interrupted, 143 stopped after a checkpoint. Metrics for CloudWatch: ENABLE_METRICS=true.
    """
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other", hint="keep one of them")
    from csv2kafka.settings import load_run  # noqa: PLC0415

    settings = load_run(given(context), **reach(context))
    return load(settings, context.obj, quiet=quiet, verbose=verbose)


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

    settings = load_schema(given(context), config=config)
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

    logs.set_up(logs.TEXT)
    logging.getLogger(__name__).info(
        "starting Apache Kafka (the first start downloads it, about 44 MB); Ctrl-C stops it"
    )
    serve(port, data_dir)
    return 0


for name, command in job_commands.ALL.items():
    app.command(name)(command)
