"""The schema file: what it may say, and how a mistake in it or a file that it does not fit is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.errors import UsageError
from csv2kafka.input_settings import RecordSettings
from csv2kafka.model import Field, Header, Kind, TextFormat
from csv2kafka.schema import load, parse
from csv2kafka.shaping import shape_of

COLUMNS = ("id", "name", "note")


def refusal(content: Any, columns: tuple[str, ...] = COLUMNS) -> str:
    with pytest.raises(UsageError) as caught:
        parse(content, "the schema").fields(columns)
    assert caught.value.hint
    return f"{caught.value.message} | {caught.value.hint}"


class TestWhatItSays:
    def test_types_nullability_names_and_what_is_dropped(self) -> None:
        content = {
            "columns": {"id": "int", "name": {"type": "string", "nullable": True, "name": "full_name"}, "note": "drop"}
        }
        assert parse(content, "").fields(COLUMNS) == (
            Field("id", Kind.INT, nullable=False),
            Field("full_name", Kind.STRING, nullable=True),
            Field("note", dropped=True),
        )

    @pytest.mark.parametrize("kind", list(Kind))
    def test_every_type_has_its_name(self, kind: Kind) -> None:
        (field,) = parse({"columns": {"a": kind.value}}, "").fields(("a",))
        assert field == Field("a", kind, None if kind == Kind.STRING else False)

    @pytest.mark.parametrize(("others", "dropped"), [("string", False), ("drop", True)])
    def test_columns_that_are_not_named(self, others: str, dropped: bool) -> None:
        fields = parse({"columns": {"name": "string"}, "others": others}, "").fields(COLUMNS)
        assert fields == (Field("id", dropped=dropped), Field("name"), Field("note", dropped=dropped))

    def test_a_dropped_column_keeps_its_type(self) -> None:
        (field, _, _) = parse({"columns": {"id": {"type": "int", "drop": True}}}, "").fields(COLUMNS)
        assert field == Field("id", Kind.INT, nullable=False, dropped=True)


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([], 'the schema has no object "columns"'),
            ({"columns": []}, 'the schema has no object "columns"'),
            ({"columns": {}, "other": "drop"}, "'other' has no meaning here | did you mean 'others'?"),
            ({"columns": {}, "others": "keep"}, '"others" is \'keep\' | It may be "string", "drop" or "refuse"'),
            ({"columns": {"id": "integer"}}, "column 'id' has no type 'integer' | did you mean 'int'?"),
            ({"columns": {"id": "number"}}, "column 'id' has no type 'number' | known: 'string', 'int'"),
            ({"columns": {"id": 5}}, "column 'id' is neither a type nor an object"),
            ({"columns": {"id": {"typ": "int"}}}, "'typ' has no meaning here | did you mean 'type'?"),
            ({"columns": {"id": {"nullable": "yes"}}}, "\"nullable\" is 'yes'"),
            ({"columns": {"id": {"nullable": None}}}, '"nullable" is None'),
            ({"columns": {"id": {"drop": 1}}}, '"drop" is 1'),
            ({"columns": {"id": {"name": ""}}}, "\"name\" is ''"),
            ({"columns": {"nmae": "int"}}, "the file has no column 'nmae' | did you mean 'name'?"),
            ({"columns": {"id": "int"}, "others": "refuse"}, "says nothing of 'name', 'note'"),
            ({"columns": {}, "others": "drop"}, "drops every column"),
            ({"columns": {"id": {"name": "note"}}}, "gives two columns the name 'note'"),
        ],
    )
    def test_is_told_with_a_way_out(self, content: Any, message: str) -> None:
        assert message in refusal(content)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "cannot be read as JSON: "),
            ('{"columns": {"a": "int", "a": "float"}}', "'a' stands twice in one object"),
            (b"\xff", "cannot be read as JSON: "),
            (None, "No such file or directory"),
        ],
    )
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, text: str | bytes | None, message: str) -> None:
        path = tmp_path / "schema.json"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UsageError, match=message) as caught:
            load(path)
        assert str(path) in caught.value.message


class TestShape:
    HEADER = Header(COLUMNS, 13)

    def shape(self, tmp_path: Path, schema: dict[str, Any] | None = None, **options: Any) -> Any:
        if schema is not None:
            options["schema_file"] = tmp_path / "schema.json"
            options["schema_file"].write_text(json.dumps(schema))
        return shape_of(RecordSettings(source="a.csv", **options), self.HEADER, TextFormat(), "/data/a.csv")

    def test_options_become_the_shape(self, tmp_path: Path) -> None:
        shape = self.shape(
            tmp_path,
            {"columns": {"id": "int"}},
            delimiter="\\t",
            key="note,id",
            headers="provenance",
            header=("a=b=c",),
            value_format="csv",
            null_value="NA",
            skip_lines=2,
        )
        assert (shape.columns, shape.key, shape.file_name) == (COLUMNS, ("note", "id"), "/data/a.csv")
        assert (shape.dialect.delimiter, shape.headers, shape.value_format) == ("\t", (("a", "b=c"),), "csv")
        assert (shape.null_value, shape.naming.skip_lines, shape.fields[0].kind) == ("NA", 2, Kind.INT)

    def test_without_options_nothing_is_noted(self, tmp_path: Path) -> None:
        assert json.loads(self.shape(tmp_path).as_json()).keys() == {"format", "delimiter", "quote", "columns"}

    def test_a_key_of_no_column(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--key: the file has no column 'nme'") as caught:
            self.shape(tmp_path, key=("id", "nme"))
        assert caught.value.hint == "did you mean 'name'?"

    @pytest.mark.parametrize("told", [{"type": "int", "drop": True}, {"name": "other"}])
    def test_raw_values_can_neither_lose_nor_rename_a_column(self, tmp_path: Path, told: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="--format raw keeps each row"):
            self.shape(tmp_path, {"columns": {"id": told}}, value_format="raw")
        assert self.shape(tmp_path, {"columns": {"id": "int"}}, value_format="raw").fields is not None
