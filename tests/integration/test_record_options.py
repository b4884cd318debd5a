"""Keys, headers, types and formats through the command line, read back by another client; through crashes as well."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.oracle import iter_messages, read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 8_000
SCHEMA = {
    "columns": {
        "id": "int",
        "name": {"type": "string", "name": "full_name"},
        "paid": {"type": "bool", "nullable": True},
        "data": "json",
        "secret": {"type": "decimal", "drop": True},
    },
    "others": "refuse",
}
OPTIONS = ("--key", "secret", "--key", "id", "--headers", "provenance", "--header", "from=test=1", "--escape", "\\")


def write_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """(what the values must be, where each row begins)"""
    rows, starts = [], []
    with path.open("w", newline="") as file:
        writer = csv.writer(file, escapechar="\\")
        writer.writerow(("id", "name", "paid", "data", "secret"))
        for row in range(ROWS):
            name, paid = f'name "{row}"\né\\', ("true", "F", "")[row % 3]
            starts.append(str(file.tell()))
            writer.writerow((row, name, paid, json.dumps({"n": [row]}), f"{row}.50"))
            truth = {"true": True, "F": False, "": None}[paid]
            rows.append({"id": row, "full_name": name, "paid": truth, "data": {"n": [row]}})
    return rows, starts


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    options = (*OPTIONS, "--schema", str(schema))
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path, rows=1, options=options)


@pytest.mark.parametrize("step", [None, "batch_acked:7", "batch_sent:5"])
def test_each_record_is_whole_and_there_once(load: CliLoad, step: str | None) -> None:
    rows, starts = write_rows(load.path)
    if step is not None:
        name, number = step.split(":")
        load.crash_at(name, int(number))
    ended = load.run()
    assert ended.returncode == 0, ended
    found = [message for messages in iter_messages(load.bootstrap, load.topic) for message in messages]
    assert len(found) == ROWS
    assert [json.loads(message.value() or b"") for message in found] == rows
    for row, message in enumerate(found):
        assert message.key() == f'["{row}.50","{row}"]'.encode()
        assert dict(message.headers() or ()) == {
            "file.name": str(load.path).encode(),
            "from": b"test=1",
            "file.offset": starts[row].encode(),
            "csv.row": str(row + 1).encode(),
        }


def test_a_value_that_does_not_fit_stops_before_its_row(load: CliLoad) -> None:
    write_rows(load.path)
    text = load.path.read_text().replace("\n4000,", "\n04000,")
    load.path.write_text(text)
    ended = load.run()
    ended.assert_failed(65, "row 4001", "has no int in column 'id'", "It is '04000'", "leading zeros")
    assert len(read_topic(load.bootstrap, load.topic)) == 4000


def test_other_options_for_the_same_job_are_refused(load: CliLoad) -> None:
    write_rows(load.path)
    load.crash_at("batch_acked", 3)
    load.run("--format", "raw").assert_failed(2, "--format raw keeps each row")
    load.run("--format", "csv").assert_failed(78, "format: 'json' then, 'csv' now")
    assert load.run().returncode == 0


@pytest.mark.parametrize("value_format", ["csv", "raw"])
def test_formats(broker: Broker, topic: str, children: Children, tmp_path: Path, value_format: str) -> None:
    load = CliLoad(children, broker.bootstrap, topic, tmp_path, rows=1, options=("--format", value_format))
    raw = ["a;b;c", "1;'x,y';", "'2';'q\"''\nz';NULL", ";;"]
    load.path.write_text("junk\n" + "\r\n".join(raw) + "\r\n", newline="")
    ended = load.run("--delimiter", ";", "--quote", "'", "--skip-lines", "1")
    assert ended.returncode == 0, ended
    wanted = {"csv": ['1,"x,y",', '2,"q""\'\nz",NULL', ",,"], "raw": raw[1:]}[value_format]
    assert read_topic(broker.bootstrap, topic) == [value.encode() for value in wanted]


def test_a_file_without_a_header(broker: Broker, topic: str, children: Children, tmp_path: Path) -> None:
    load = CliLoad(children, broker.bootstrap, topic, tmp_path, rows=1)
    load.path.write_text("1,NA\n2,x\n")
    ended = load.run("--no-header", "--null-value", "NA", "--key", "c2")
    assert ended.returncode == 0, ended
    messages = [message for messages in iter_messages(broker.bootstrap, topic) for message in messages]
    assert [message.value() for message in messages] == [b'{"c1":"1","c2":null}', b'{"c1":"2","c2":"x"}']
    assert [message.key() for message in messages] == [b"NA", b"x"]


def test_the_proposed_schema_loads_the_file(broker: Broker, topic: str, children: Children, tmp_path: Path) -> None:
    load = CliLoad(children, broker.bootstrap, topic, tmp_path, rows=1)
    load.path.write_text('id,zip,amount,day,tags\n1,00501,9.90,2024-02-29,"[""a""]"\n2,10001,,2024-03-01,[]\n')
    proposed = children.cli("schema", str(load.path))
    assert proposed.returncode == 0, proposed
    assert proposed.stderr == "all 2 rows looked at\n"
    (tmp_path / "schema.json").write_text(proposed.stdout)
    ended = load.run("--schema", str(tmp_path / "schema.json"))
    assert ended.returncode == 0, ended
    assert read_topic(broker.bootstrap, topic) == [
        b'{"id":1,"zip":"00501","amount":9.90,"day":"2024-02-29","tags":["a"]}',
        b'{"id":2,"zip":"10001","amount":null,"day":"2024-03-01","tags":[]}',
    ]


def test_a_schema_is_proposed_for_an_object_too(moto_server: str, children: Children) -> None:
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3", endpoint_url=moto_server)
    client.create_bucket(Bucket=bucket)
    body = b"id,zip\n" + b"".join(b"%d,%05d\n" % (row, row) for row in range(500_000))
    client.put_object(Bucket=bucket, Key="data.csv", Body=body)
    proposed = children.cli("schema", f"s3://{bucket}/data.csv", env={"AWS_ENDPOINT_URL": moto_server})
    assert proposed.returncode == 0, proposed
    assert json.loads(proposed.stdout)["columns"] == {"id": "int", "zip": "string"}
    assert "rows at 33 places" in proposed.stderr
