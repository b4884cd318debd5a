"""`csv2kafka schema`: what it proposes, that places within quotes are understood, and that it says how sure it is."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from csv2kafka import sampling
from csv2kafka.errors import BadData, UsageError
from csv2kafka.model import Dialect, Header, Position
from csv2kafka.proposal import propose
from csv2kafka.schema import parse
from csv2kafka.settings import load_schema
from csv2kafka.sources import open_source
from csv2kafka.splitter import split
from tests.support.environment import clear_options

ROWS = 160_000


@pytest.fixture(autouse=True)
def _no_options_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_options(monkeypatch)


def proposed(path: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """(columns, how sure)"""
    found = propose(load_schema({"source": str(path), **options}))
    content = json.loads(found.as_json())
    parse(content, "").fields(tuple(content["columns"]))  # what is proposed can be used
    return content["columns"], found.confidence


class TestTypes:
    @pytest.mark.parametrize(
        ("values", "told"),
        [
            (["1", "-5", "0"], "int"),
            (["1", "007"], "string"),
            (["1", "0"], "int"),
            (["1", "2.50"], "decimal"),
            (["1.5", "1e3"], "float"),
            (["1.5", "1e400"], "string"),
            (["1.5", "NaN"], "string"),
            (["true", "False"], "bool"),
            (["true", "1"], "string"),
            (["2024-02-29", "2023-01-01"], "date"),
            (["2024-02-29", "2023-02-29"], "string"),
            (["2024-01-01T00:00:00Z", "2024-01-01 10:00"], "timestamp"),
            (['{"a":1}', "[]"], "json"),
            (['{"a":1}', "5"], "string"),
            (["a", "1"], "string"),
            (["1", ""], {"type": "int", "nullable": True}),
            (["a", ""], "string"),
            (["1", "NA"], {"type": "int", "nullable": True}),
            (["a", "NA"], {"type": "string", "nullable": True}),
        ],
    )
    def test_of_a_column(self, tmp_path: Path, values: list[str], told: Any) -> None:
        path = tmp_path / "a.csv"
        rows = "".join('x,"' + value.replace('"', '""') + '"\n' for value in values)
        path.write_text("first,second\n" + rows)
        columns, sure = proposed(path, null_value="NA")
        assert columns == {"first": "string", "second": told}
        assert sure == "all 2 rows looked at" if len(values) == 2 else sure.startswith("all 3 rows")

    def test_a_column_without_values(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b\n1,\n2,\n")
        columns, sure = proposed(tmp_path / "a.csv")
        assert columns == {"a": "int", "b": "string"}
        assert "taken for strings: b" in sure

    def test_no_rows_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b\n")
        columns, sure = proposed(tmp_path / "a.csv")
        assert columns == {"a": "string", "b": "string"}
        assert sure.startswith("all 0 rows looked at")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 MB, much of which lies within quotes, with texts that look like rows; the last row is unlike the others."""
    path = tmp_path_factory.mktemp("large") / "a.csv"
    rng = random.Random(5)
    with path.open("w", newline="") as file:
        file.write("id,note,amount\n")
        for row in range(ROWS):
            note = rng.choice(["plain", '"1,2\n3,4\n5"', '"said ""no"", twice"', '"' + "long\n" * 20 + '"'])
            amount = "late" if row == ROWS - 1 else str(row)
            file.write(f"{row},{note},{amount}\n")
    return path


class TestLargeFiles:
    def test_places_all_over_it_are_looked_at(self, large: Path) -> None:
        columns, sure = proposed(large)
        assert columns == {"id": "int", "note": "string", "amount": "string"}  # the last row counted
        assert "at 33 places" in sure
        assert "more places were passed over" not in sure
        assert "may be missed (95% sure" in sure

    def test_a_compressed_file_is_read_from_its_beginning(self, large: Path, tmp_path: Path) -> None:
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(large.read_bytes()))
        columns, sure = proposed(path)
        assert columns["amount"] == "int"  # the last row was not seen, and it says so
        assert sure.startswith("the first ")
        assert "can only be read from its beginning" in sure

    @pytest.mark.parametrize("start", range(0, 2000, 97))
    def test_a_place_gives_whole_rows_or_nothing(self, large: Path, start: int) -> None:
        data = large.read_bytes()
        place = len(data) // 2 + start
        found = sampling._rows_at(data[place : place + 5000], Dialect(), 3)
        assert found is not None
        assert all(row[0] == row[2] for row in found.rows)
        assert len(found.rows) > 5
        assert found.text in data

    def test_rows_are_estimated_with_an_error_that_holds(self, large: Path) -> None:
        with open_source(str(large)) as source:
            header = Header(("id", "note", "amount"), len(b"id,note,amount\n"))
            found = sampling.sample(source, header, source.identity.size_bytes, Dialect())
            estimate = found.rows()
            assert estimate is not None
            blocks = split(source.read_from(header.end_byte), Position(0, 0), Dialect(), lambda: 1 << 20)
            rows = sum(block.rows for block in blocks)
        assert abs(estimate[0] - rows) <= max(1, estimate[1])
        assert 0 < estimate[1] < rows // 5


class TestRefusals:
    def test_another_delimiter(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b\n1;2;3\n")
        with pytest.raises(BadData, match="no row has 2 fields") as caught:
            proposed(tmp_path / "a.csv")
        assert "--delimiter" in caught.value.hint

    def test_ragged_rows_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n")
        assert "1 row had another number of fields" in proposed(tmp_path / "a.csv")[1]

    def test_no_source(self) -> None:
        with pytest.raises(UsageError, match="missing: SOURCE"):
            load_schema({})
