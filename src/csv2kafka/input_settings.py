"""The options that say how a file is to be read and what its records look like, one part of all in settings.py."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from csv2kafka.quarantine import ANY_NUMBER, Tolerance
from csv2kafka.sources.transcode import ENCODINGS

# Options are strict (extra="forbid"), and an error about one never repeats what was given: it may be a secret.
STRICT = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, loc_by_alias=False, hide_input_in_errors=True)
_TYPED = {"\\t": "\t"}  # as it is typed in a shell
_Names = Annotated[tuple[str, ...], NoDecode]  # in the environment no JSON, but a line of CSV


class InputSettings(BaseModel):
    """How to read a file: where it is, what its bytes mean, and what its columns are called."""

    model_config = STRICT

    source: str
    encoding: str | None = None
    decompress: Literal["auto", "none", "gzip", "zstd", "bz2", "xz", "lz4"] = "auto"
    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    no_header: bool = False
    columns: _Names | None = None
    skip_lines: int = Field(default=0, ge=0)
    null_value: str | None = None

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _is_one_byte(cls, character: str | None) -> str | None:
        if character is None:
            return None
        character = _TYPED.get(character, character)
        if len(character) != 1 or not character.isascii() or character in "\r\n\0":
            raise ValueError("one ASCII character, and no line end (\\t is a tab)")
        return character

    @model_validator(mode="after")
    def _are_different(self) -> InputSettings:
        if self.delimiter == self.quote:
            raise ValueError(f"--delimiter and --quote are both {self.quote!r}: one of them must be another character")
        if self.escape == self.quote:
            raise ValueError(
                f"--escape and --quote are both {self.quote!r}: a doubled quote within quotes needs no --escape"
            )
        if self.escape == self.delimiter:
            raise ValueError(f"--escape and --delimiter are both {self.delimiter!r}")
        return self

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_of(cls, columns: Any) -> Any:
        return _names(columns)

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        name = encoding.lower().replace("_", "-")
        if name not in ENCODINGS:
            raise ValueError(f"{encoding!r} is not among {', '.join(ENCODINGS)}")
        return name


class RecordSettings(InputSettings):
    """What records look like, their value, key and headers, and what becomes of rows that cannot be one."""

    value_format: Literal["json", "csv", "raw"] = Field(default="json", validation_alias="CSV2KAFKA_FORMAT")
    schema_file: Path | None = Field(default=None, validation_alias="CSV2KAFKA_SCHEMA")
    key: _Names = ()
    headers: Literal["none", "provenance"] = "none"
    header: Annotated[tuple[str, ...], NoDecode] = ()
    bad_rows: Literal["fail", "quarantine"] = "fail"
    bad_rows_to: str | None = Field(default=None, min_length=1)
    max_bad_rows: str | None = None

    @field_validator("key", mode="before")
    @classmethod
    def _key_of(cls, key: Any) -> Any:
        return _names(key)

    @field_validator("key")
    @classmethod
    def _key_names_differ(cls, key: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(key)) != len(key):
            raise ValueError("a column can be in the key only once")
        return key

    @field_validator("header", mode="before")
    @classmethod
    def _headers_of(cls, header: Any) -> Any:
        return tuple(header.splitlines()) if isinstance(header, str) else header

    @field_validator("header")
    @classmethod
    def _headers_are_pairs(cls, header: tuple[str, ...]) -> tuple[str, ...]:
        for pair in header:
            if not pair.partition("=")[0] or "=" not in pair:
                raise ValueError("NAME=VALUE is needed")
        return header

    @field_validator("max_bad_rows", mode="before")
    @classmethod
    def _limit_is_a_number(cls, limit: Any) -> Any:
        if limit is None:
            return None
        try:
            Tolerance.parse(str(limit))
        except ValueError:
            raise ValueError("a number of rows, or a share of them such as 0.1%") from None
        return str(limit)

    @model_validator(mode="after")
    def _quarantine_is_meant(self) -> RecordSettings:
        for name, value in (("--bad-rows-to", self.bad_rows_to), ("--max-bad-rows", self.max_bad_rows)):
            if value is not None and self.bad_rows == "fail":
                raise ValueError(f"{name} needs --bad-rows quarantine: without it the first bad row ends the job")
        return self

    @property
    def tolerance(self) -> Tolerance:
        return ANY_NUMBER if self.max_bad_rows is None else Tolerance.parse(self.max_bad_rows)

    @property
    def header_pairs(self) -> tuple[tuple[str, str], ...]:
        parted = (pair.partition("=") for pair in self.header)
        return tuple((name, value) for name, _, value in parted)


def _names(names: Any) -> Any:
    """Names as they are given once for all (a line of CSV) or one after the other."""
    if isinstance(names, str):
        return tuple(next(csv.reader([names]), ()))
    return names
