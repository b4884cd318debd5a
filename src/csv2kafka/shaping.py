"""Options and the file's columns -> the shape of its records."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from csv2kafka.errors import UsageError
from csv2kafka.input_settings import InputSettings, RecordSettings
from csv2kafka.model import Dialect, Field, Header, Kind, Naming, Part, Position, RecordShape, TextFormat
from csv2kafka.schema import Schema
from csv2kafka.schema import load as load_schema
from csv2kafka.sources import Source, open_source
from csv2kafka.sources.text import as_text
from csv2kafka.splitter import read_header


def dialect_of(settings: InputSettings) -> Dialect:
    return Dialect(settings.delimiter, settings.quote, settings.escape)


@contextmanager
def opened(
    settings: InputSettings, *, region: str | None, profile: str | None
) -> Iterator[tuple[Source, TextFormat, Header]]:
    """The newest version of the file as text, what that took, and its header. Raises what opening and reading raise."""
    with open_source(settings.source, region=region, profile=profile) as raw:
        source, text = as_text(raw, codec=settings.decompress, encoding=settings.encoding)
        with source:
            yield source, text, header_of(settings, source, text.encoding)


def header_of(settings: InputSettings, source: Source, encoding: str) -> Header:
    """The file's columns and where its rows begin. Raises BadHeader."""
    naming = Naming(settings.skip_lines, not settings.no_header, settings.columns)
    with closing(source.read_from(0)) as chunks:
        return read_header(chunks, dialect_of(settings), naming, encoding=encoding)


def shape_of(
    settings: RecordSettings, header: Header, text: TextFormat, file_name: str, *, schema: Schema | None = None
) -> RecordShape:
    """What the records will look like. Raises UsageError for options that do not fit the file or each other.

    schema: what --schema's file says, where it has been read before.
    """
    for name in settings.key:
        if name not in header.columns:
            near = difflib.get_close_matches(name, header.columns, n=1)
            known = ", ".join(map(repr, header.columns[:20]))
            raise UsageError(
                f"--key: the file has no column {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has {known}",
            )
    fields = None
    if settings.schema_file is not None:
        fields = (schema or load_schema(settings.schema_file)).fields(header.columns)
        _refuse_without_effect(settings, header.columns, fields)
    return RecordShape(
        header.columns,
        dialect_of(settings),
        Naming(settings.skip_lines, not settings.no_header),  # the names themselves are the columns
        settings.null_value,
        fields,
        settings.key,
        settings.value_format,
        file_name if settings.headers == "provenance" else None,
        settings.header_pairs,
        text,
    )


def shape_from(fingerprint: str) -> RecordShape:
    """The way back from `RecordShape.as_json`."""
    said = json.loads(fingerprint)
    fields = tuple(
        Field(name, Kind(kind), nullable, dropped) for name, kind, nullable, dropped in said.get("schema", ())
    )
    return RecordShape(
        tuple(said["columns"]),
        Dialect(said["delimiter"], said["quote"], said.get("escape")),
        Naming(said.get("skip-lines", 0), not said.get("no-header", False)),
        said.get("null-value"),
        fields or None,
        tuple(said.get("key", ())),
        said["format"],
        said.get("file.name"),
        tuple((name, value) for name, value in said.get("headers", ())),
        TextFormat(said.get("decompress"), said.get("encoding", TextFormat().encoding)),
        Part(*said["part"]) if "part" in said else None,
    )


def start_of(shape: RecordShape, header: Header) -> Position:
    """Where the rows begin that become records. Raises ValueError for a part that begins within the header."""
    part = shape.part
    if part is None:
        return Position(0, header.end_byte)
    if part.start_byte < header.end_byte:
        raise ValueError(f"a part begins at byte {part.start_byte}, within the header, which ends at {header.end_byte}")
    return Position(part.first_row, part.start_byte)


def _refuse_without_effect(settings: RecordSettings, columns: tuple[str, ...], fields: tuple[Field, ...]) -> None:
    """The bytes of a row as they were hold every column, under no name."""
    if settings.value_format == "raw" and any(
        replace(field, kind=Field(name).kind, nullable=None) != Field(name)
        for name, field in zip(columns, fields, strict=True)
    ):
        raise UsageError(
            "--format raw keeps each row as it is, but the schema drops or renames columns",
            hint="Take --format json or csv, or leave that out of the schema: types are checked all the same.",
        )
