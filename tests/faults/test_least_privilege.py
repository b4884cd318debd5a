"""The rights of docs/CONNECTING.md are enough for everything about a load, and none of them is too many.

A load with bad rows set apart in a topic, planned, killed and resumed, these rows shown and all of it verified, by a
user who may do nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]

from csv2kafka import jobs, preflight
from csv2kafka.errors import Denied
from csv2kafka.settings import RunSettings, load_run
from tests.support.admin import create_topic
from tests.support.bad_rows import QUARANTINE, in_topic, of_line, write_mixed_csv
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.client_files import PAGE
from tests.support.environment import clear_options
from tests.support.processes import Children
from tests.support.secured_broker import PASSWORD, USER, Grant, SecuredBroker

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

LOGIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": USER,
    "KAFKA_SASL_PASSWORD": PASSWORD,
}
# The page's table, by resource and Kafka's own word for the operation.
TOPIC_RIGHTS = {"Write": "WRITE", "Read": "READ", "DescribeConfigs": "DESCRIBE_CONFIGS"}
RIGHTS = [
    *(f"TOPIC {operation}" for operation in TOPIC_RIGHTS),
    *(f"TOPIC.bad {operation}" for operation in TOPIC_RIGHTS),
    "csv2kafka:JOB:TOPIC Write",
]


def rights(topic: str) -> Mapping[str, Grant]:
    granted = {
        f"{place} {operation}": Grant(word, ResourceType.TOPIC, place.replace("TOPIC", topic))
        for place in ("TOPIC", "TOPIC.bad")
        for operation, word in TOPIC_RIGHTS.items()
    }
    return granted | {RIGHTS[-1]: Grant("WRITE", ResourceType.TRANSACTIONAL_ID, f"csv2kafka:job:{topic}")}


@pytest.fixture
def topic(secured: SecuredBroker) -> str:
    name = create_topic(secured.open_bootstrap, config=SMALL_BATCHES)
    create_topic(secured.open_bootstrap, f"{name}.bad", config=SMALL_BATCHES)
    return name


def test_the_page_names_them() -> None:
    for right in RIGHTS:
        resource, _, operation = right.rpartition(" ")
        lines = [line for line in PAGE.read_text().splitlines() if f"`{resource}` |" in line]
        assert any(operation in line for line in lines), right


def test_they_are_enough(secured: SecuredBroker, topic: str, children: Children, tmp_path: Path) -> None:
    secured.grant(*rights(topic).values())
    load = CliLoad(
        children, secured.bootstrap, topic, tmp_path,
        options=(*QUARANTINE, "--no-create-topic"), env=LOGIN, oracle_bootstrap=secured.open_bootstrap,
    )  # fmt: skip
    load.values, bad = write_mixed_csv(load.path, 3_000)
    planned = children.cli(
        "plan", load.source, topic, "-b", secured.bootstrap, "--job-id", "job", *QUARANTINE, env=LOGIN
    )
    assert planned.returncode == 0, planned
    load.crash_at("batch_acked", 3)
    load.assert_goes_on()
    assert in_topic(secured.open_bootstrap, f"{topic}.bad", load.source) == bad
    place = ("-b", secured.bootstrap, "--checkpoint", load.checkpoint)
    shown = children.cli("bad-rows", "job", "--json", *place, env=LOGIN)
    assert shown.returncode == 0, shown
    assert [of_line(line.encode(), load.source) for line in shown.stdout.splitlines()] == bad
    verified = children.cli("verify", "job", *place, env=LOGIN)
    assert verified.returncode == 0, verified


def assert_planned(settings: RunSettings, missing: str, left_out: Grant) -> None:
    """`plan` names the right before anything is sent, and the kind of topic that it is missing on."""
    planned = preflight.plan(settings)
    resource, _, operation = missing.rpartition(" ")
    kind = {"TOPIC": "topic ", "TOPIC.bad": "dead-letter topic "}.get(resource, "")
    must = [finding.what for finding in planned.findings if finding.exit_code is not None]
    print(planned.exit_code, must)
    assert planned.exit_code == Denied.exit_code
    assert len(must) == 1
    assert f"{kind}{left_out.name}" in must[0]
    if kind:
        assert must[0] == f"the cluster denies {operation} on {kind}{left_out.name}"


def test_a_dead_letter_topic_to_be_made(
    secured: SecuredBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Create on the cluster is what shows before the topic is there."""
    clear_options(monkeypatch)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    name = create_topic(secured.open_bootstrap)
    secured.grant(*rights(name).values())
    write_mixed_csv(tmp_path / "data.csv", 100)
    settings = load_run(
        {
            "source": str(tmp_path / "data.csv"), "topic": name, "job_id": "job", "bad_rows": "quarantine",
            "checkpoint_url": f"sqlite:///{tmp_path / 'checkpoints.db'}",
        },
        bootstrap=secured.bootstrap,
    )  # fmt: skip
    must = [finding.what for finding in preflight.plan(settings).findings if finding.exit_code is not None]
    assert must == [
        f"the cluster denies Create on the cluster (or on dead-letter topic {name}.bad, which cannot be seen before)"
    ]


@pytest.mark.parametrize("missing", RIGHTS)
def test_without_one_of_them(
    secured: SecuredBroker, topic: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right and its resource are named; once it is granted, the same run gets through."""
    clear_options(monkeypatch)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    granted = dict(rights(topic))
    left_out = granted.pop(missing)
    secured.grant(*granted.values())
    write_mixed_csv(tmp_path / "data.csv", 100)
    settings = load_run(
        {
            "source": str(tmp_path / "data.csv"), "topic": topic, "job_id": "job", "bad_rows": "quarantine",
            "checkpoint_url": f"sqlite:///{tmp_path / 'checkpoints.db'}",
        },
        bootstrap=secured.bootstrap,
    )  # fmt: skip
    operation = missing.rpartition(" ")[2]
    assert_planned(settings, missing, left_out)
    with pytest.raises(Denied, match=f"the cluster denies {operation} on the ") as denied:
        jobs.run(settings, stop=threading.Event(), notify=print)
    print(f"{denied.value.exit_code} {denied.value.message} | {denied.value.hint}")
    assert left_out.name in denied.value.message
    assert f"--operation {operation}" in denied.value.hint
    secured.grant(left_out)
    assert jobs.run(settings, stop=threading.Event(), notify=print).status == "complete"
