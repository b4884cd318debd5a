"""A user who may not do everything: the loader says which right is missing, and goes on once it is granted.

All that a run, a kill and a resume need, with a topic that exists:

    resource                                 operation         for
    topic TOPIC                              Write             the rows, and the marker that shuts earlier instances out
    topic TOPIC                              Read              reading back what of the job is in the log, at each start
    topic TOPIC                              DescribeConfigs   max.message.bytes, cleanup.policy, retention.ms
    transactional id csv2kafka:JOB:TOPIC     Write             the producer id and epoch
    topic TOPIC                              Create            only where the loader shall make the topic

Read and Write each allow Describe as well. With --delivery lease-only the transactional id needs nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]

from tests.support.admin import create_topic, topics
from tests.support.cli_load import ROWS, SMALL_BATCHES, CliLoad, Ended
from tests.support.processes import Children
from tests.support.secured_broker import PASSWORD, USER, Grant, SecuredBroker

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

DENIED = 77


@pytest.fixture
def load(secured: SecuredBroker, children: Children, tmp_path: Path) -> CliLoad:
    topic = create_topic(secured.open_bootstrap, config=SMALL_BATCHES)
    return load_as_user(secured, children, topic, tmp_path)


def load_as_user(secured: SecuredBroker, children: Children, topic: str, folder: Path) -> CliLoad:
    login = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
    }
    return CliLoad(children, secured.bootstrap, topic, folder, env=login, oracle_bootstrap=secured.open_bootstrap)


def rights(topic: str) -> dict[str, Grant]:
    """The table above, by the name that a test gives to each of its lines."""
    return {
        "topic Write": Grant("WRITE", ResourceType.TOPIC, topic),
        "topic Read": Grant("READ", ResourceType.TOPIC, topic),
        "topic DescribeConfigs": Grant("DESCRIBE_CONFIGS", ResourceType.TOPIC, topic),
        "transactional id Write": Grant("WRITE", ResourceType.TRANSACTIONAL_ID, f"csv2kafka:job:{topic}"),
    }


def denial(right: str) -> str:
    """What the loader says where a right of the table is missing."""
    resource, _, operation = right.rpartition(" ")
    return f"the cluster denies {operation} on the {resource}"


def denied(ended: Ended, *words: str) -> None:
    assert ended.returncode == DENIED, ended
    for word in words:
        assert word in str(ended.receipt["error"])
    assert "Grant it" in str(ended.receipt["hint"])
    assert "Traceback" not in ended.stderr


def test_the_table_is_enough(load: CliLoad, secured: SecuredBroker) -> None:
    secured.grant(*rights(load.topic).values())
    load.crash_at("batch_acked", 5)
    load.assert_goes_on()


@pytest.mark.slow
def test_each_right_that_is_missing_at_the_start(load: CliLoad, secured: SecuredBroker) -> None:
    """Granted one at a time, in the order in which a start needs them."""
    granted = rights(load.topic)
    denied(load.run(), "the cluster denies Describe on the topic", load.topic)
    secured.grant(Grant("DESCRIBE", ResourceType.TOPIC, load.topic))
    for needed in ("topic DescribeConfigs", "transactional id Write", "topic Write", "topic Read"):
        denied(load.run(), denial(needed), load.topic)
        assert load.assert_prefix() == 0
        secured.grant(granted[needed])
    load.assert_goes_on()


def test_each_right_that_is_missing_at_a_resume(load: CliLoad, secured: SecuredBroker) -> None:
    granted = rights(load.topic)
    secured.grant(*granted.values())
    load.crash_at("batch_acked", 5)
    before = load.assert_prefix()
    for name, right in granted.items():
        secured.revoke(right)
        denied(load.run(), denial(name), load.topic)
        assert load.assert_prefix() == before
        secured.grant(right)
    load.assert_goes_on()


def test_a_right_that_is_taken_away_mid_run(load: CliLoad, secured: SecuredBroker) -> None:
    granted = rights(load.topic)
    secured.grant(*granted.values())
    with load.paused_at("batch_acked", 5):
        secured.revoke(granted["topic Write"])
    denied(load.wait(), f"sending to {load.topic}-0: the cluster denies Write on the topic")
    assert 0 < load.assert_prefix() < ROWS
    secured.grant(granted["topic Write"])
    load.assert_goes_on()


def test_making_a_topic(secured: SecuredBroker, children: Children, tmp_path: Path) -> None:
    load = load_as_user(secured, children, f"made-by-loader-{tmp_path.name}", tmp_path)
    secured.grant(*rights(load.topic).values())
    denied(load.run(), f"creating topic {load.topic}: the cluster denies Create on the topic")
    assert load.topic not in topics(secured.open_bootstrap)
    secured.grant(Grant("CREATE", ResourceType.TOPIC, load.topic))
    load.assert_goes_on()


def test_without_a_fence_no_right_to_a_transactional_id_is_needed(load: CliLoad, secured: SecuredBroker) -> None:
    granted = rights(load.topic)
    del granted["transactional id Write"]
    secured.grant(*granted.values())
    ended = load.run("--delivery", "lease-only")
    assert ended.returncode == 0, ended
    load.assert_exact()


def test_a_wrong_password(load: CliLoad, secured: SecuredBroker) -> None:
    secured.grant(*rights(load.topic).values())
    ended = load.run(env={"KAFKA_SASL_PASSWORD": "wrong-one"})
    assert ended.returncode == DENIED, ended
    assert "Authentication failed: Invalid username or password" in str(ended.receipt["error"])
    assert "user, password" in str(ended.receipt["hint"])
    assert "wrong-one" not in ended.stdout + ended.stderr
    assert load.assert_prefix() == 0
    load.assert_goes_on()


def test_a_mechanism_that_the_cluster_does_not_have(load: CliLoad) -> None:
    ended = load.run(env={"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"})
    assert ended.returncode == DENIED, ended
    assert "the cluster does not offer this SASL mechanism" in str(ended.receipt["error"])
    assert "sasl.mechanism" in str(ended.receipt["hint"])
