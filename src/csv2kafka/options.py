"""How the command line's options are written and explained; in brackets the environment variables that do the same.

Declarations only: what a value may be is settings.py's business, all but what the parser itself can tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _refuse_secrets(arguments: list[str] | None) -> list[str] | None:
    """While the parser runs: a secret that lost its key must not end up in the parser's own error message."""
    if arguments:
        from csv2kafka.client_properties import split_flag  # noqa: PLC0415

        for argument in arguments:
            split_flag(argument)
    return arguments


Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="s3://BUCKET/KEY or a path. (S3_BUCKET and S3_KEY, CSV2KAFKA_SOURCE)",
    ),
]
Topic = Annotated[
    str | None,
    typer.Argument(metavar="TOPIC", show_default=False, help="The topic to load into. (KAFKA_TOPIC)"),
]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "-b",
        "--bootstrap-server",
        "--brokers",
        metavar="HOST:PORT,...",
        help="Brokers to begin with. (KAFKA_BOOTSTRAP_SERVERS)",
    ),
]
Properties = Annotated[
    list[str] | None,
    typer.Option(
        "-X",
        metavar="KEY=VALUE",
        callback=_refuse_secrets,
        help="A client property under its Java name, such as security.protocol=SSL; may be repeated. No secrets "
        "here. (KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_PASSWORD ...)",
    ),
]
CommandConfig = Annotated[
    Path | None,
    typer.Option(
        metavar="PROPERTIES",
        help="A file with client properties, secrets included. (CSV2KAFKA_COMMAND_CONFIG)",
    ),
]
Partition = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="The partition; needed where the topic has several. (CSV2KAFKA_PARTITION)"),
]
Compression = Annotated[
    str | None,
    typer.Option(
        metavar="CODEC",
        help="Of the batches: lz4 (default), zstd, gzip, snappy or none. (CSV2KAFKA_COMPRESSION)",
    ),
]
CreateTopic = Annotated[
    bool | None,
    typer.Option(
        "--create-topic/--no-create-topic",
        show_default=False,
        help="Create a missing topic, with one partition: yes by default. (CSV2KAFKA_CREATE_TOPIC)",
    ),
]
Delivery = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        help="fenced (default), or lease-only for clusters that deny transactional ids: weaker, the README says how. "
        "(CSV2KAFKA_DELIVERY)",
    ),
]
AcceptNewProducerId = Annotated[
    bool,
    typer.Option(
        "--accept-new-producer-id",
        help="Go on although Kafka has forgotten the job's producer id; only when no other instance of the job "
        "can still be running. (CSV2KAFKA_ACCEPT_NEW_PRODUCER_ID)",
    ),
]
JobId = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The job's name; made from source, topic and partition by default. (JOB_ID)"),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where the job's position is kept: sqlite:///PATH or dynamodb://TABLE; a file in the user's state "
        "folder by default. (DYNAMODB_TABLE, CSV2KAFKA_CHECKPOINT)",
    ),
]
CheckpointInterval = Annotated[
    int | None,
    typer.Option(
        metavar="ROWS",
        min=1,
        help="Checkpoint after so many rows, too, not only every second. (CSV2KAFKA_CHECKPOINT_INTERVAL)",
    ),
]
MaxBytesPerS = Annotated[
    int | None,
    typer.Option(
        "--max-bytes-per-s",
        metavar="BYTES",
        min=1,
        help="Send no faster, counted as batches go to the brokers (compressed). (CSV2KAFKA_MAX_BYTES_PER_S)",
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="text or json; by default text on a terminal, a JSON object a line elsewhere. (CSV2KAFKA_LOG_FORMAT)",
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(metavar="CHAR", help="Between fields; a comma by default, \\t is a tab. (CSV2KAFKA_DELIMITER)"),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of the text: utf-8, latin-1, cp1252, utf-16 (-le, -be); as a byte-order mark tells by default, or UTF-8. "
        "(CSV2KAFKA_ENCODING)",
    ),
]
Decompress = Annotated[
    str | None,
    typer.Option(
        metavar="CODEC",
        help="gzip, zstd, bz2, xz, lz4 or none; by default what the file's first bytes tell. (CSV2KAFKA_DECOMPRESS)",
    ),
]
Quote = Annotated[
    str | None,
    typer.Option(metavar="CHAR", help="Around fields; a double quote by default. (CSV2KAFKA_QUOTE)"),
]
Escape = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        help="Takes the character behind it as text, often \\; none by default: a doubled quote needs none. "
        "(CSV2KAFKA_ESCAPE)",
    ),
]
NoHeader = Annotated[
    bool,
    typer.Option(
        "--no-header", help="The first record is a row: columns are c1, c2 ... or --columns. (CSV2KAFKA_NO_HEADER)"
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="The columns' names, instead of the header's. (CSV2KAFKA_COLUMNS)"),
]
SkipLines = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Lines before the header that are not read. (CSV2KAFKA_SKIP_LINES)"),
]
NullValue = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="A field of this text, quoted or not, is null. (CSV2KAFKA_NULL_VALUE)"),
]
Key = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="The record's key, spread over all partitions as Java's producer does; repeated: a JSON array. "
        "(CSV2KAFKA_KEY)",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Of values: json (default), csv (encoded anew), raw (the row's bytes as they are). (CSV2KAFKA_FORMAT)",
    ),
]
Schema = Annotated[
    Path | None,
    typer.Option(
        metavar="JSON",
        help="Of the columns: types, names, what to drop; csv2kafka schema proposes such a file. (CSV2KAFKA_SCHEMA)",
    ),
]
Headers = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        help="provenance: file.name, file.offset (in the text) and csv.row on each record; none by default. "
        "(CSV2KAFKA_HEADERS)",
    ),
]
HeaderPair = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="NAME=VALUE", help="A header on each record; may be repeated. (CSV2KAFKA_HEADER)"),
]
BadRows = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="fail (default): the first row that cannot become a record ends the job; quarantine: such rows are set "
        "apart, each once. (CSV2KAFKA_BAD_ROWS)",
    ),
]
BadRowsTo = Annotated[
    str | None,
    typer.Option(
        metavar="TOPIC|PATH",
        help="Where they are set apart: a topic, TOPIC.bad by default, or a file (./NAME). (CSV2KAFKA_BAD_ROWS_TO)",
    ),
]
MaxBadRows = Annotated[
    str | None,
    typer.Option(metavar="N|P%", help="How many are borne; any number by default. (CSV2KAFKA_MAX_BAD_ROWS)"),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=65535,
        help="Show the run at http://METRICS_HOST:N/: a page, and /metrics for Prometheus; 0 takes a free port. "
        "(CSV2KAFKA_METRICS_PORT)",
    ),
]
MetricsHost = Annotated[
    str | None,
    typer.Option(
        metavar="HOST",
        help="The address of that port; 127.0.0.1 by default. Whoever reaches it may look. (CSV2KAFKA_METRICS_HOST)",
    ),
]
FileSource = Annotated[
    str | None, typer.Argument(metavar="SOURCE", show_default=False, help="s3://BUCKET/KEY or a path.")
]
Region = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The AWS region. (CSV2KAFKA_REGION, AWS_DEFAULT_REGION)"),
]
Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The AWS profile. (CSV2KAFKA_PROFILE, AWS_PROFILE)"),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="TOML",
        help="A file with options under their long names and client properties in [client]. (CSV2KAFKA_CONFIG)",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for errors too.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Details on stderr.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's name, as a run shows it.")]
Port = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=65535, help="On 127.0.0.1; a free one by default.", show_default=False),
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep the data in this folder; thrown away by default.", show_default=False),
]
