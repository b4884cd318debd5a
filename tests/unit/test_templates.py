"""The CloudFormation templates: made in moto, and held against the program that they start."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import boto3
import pytest
from moto import mock_aws

from csv2kafka import errors, fleet_command
from csv2kafka.settings import RunSettings, load_run
from tests.support import templates
from tests.support.environment import clear_options
from tests.test_structure import MODULES, ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")  # of what moto skips

SHARED = {"AlarmTopicArn", "Checkpoints", "Dashboard", "Errors", "LoaderPolicy", "Logs", "NoProgress"}
PLANNED_METRICS = {
    "CheckpointCount",
    "ErrorCount",
    "ETASeconds",
    "KafkaLatency",
    "ProgressPercentage",
    "RecordsPerSecond",
    "RecordsProcessed",
    "RecordsRemaining",
    "RetryCount",
}
WITHOUT_ARN = {"cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}
SECRETS = {"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"}


@pytest.fixture(autouse=True)
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def every(node: Any, key: str) -> Iterator[Any]:
    """All that stands under `key`, anywhere in a template."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from every(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from every(value, key)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a policy, those under a condition, too."""
    for statement in (found for part in every(resource, "Statement") for found in part):
        yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def of_type(kind: str) -> set[str]:
    return {
        name
        for template in map(templates.load, templates.NAMES)
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


@pytest.mark.parametrize("name", templates.NAMES)
@pytest.mark.parametrize(
    ("parameters", "left_out"),
    [
        (templates.BARE, {"MskPolicy"}),
        (templates.WITH_PASSWORD, {"MskPolicy"}),
        (templates.WITH_MSK_IAM, {"Checkpoints"}),
    ],
    ids=["bare", "password", "msk-iam"],
)
def test_a_stack_has_all_that_its_template_names(name: str, parameters: dict[str, str], left_out: set[str]) -> None:
    wanted = {logical: resource["Type"] for logical, resource in templates.load(name)["Resources"].items()}
    made = templates.make_stack(name, parameters)
    skipped = wanted.keys() - made.keys() - left_out
    assert made == {logical: wanted[logical] for logical in wanted.keys() - left_out - skipped}
    assert {wanted[logical] for logical in skipped} == templates.SKIPPED_BY_MOTO & set(wanted.values())


def test_what_templates_share_is_alike() -> None:
    by_name, shared = compared(templates.OF_ONE_JOB)
    assert shared >= SHARED
    # Both are what its instances are, in Batch ECS's and in EC2 the loader's own.
    assert {name for name, bodies in by_name.items() if len(set(bodies)) > 1} == {"Instance", "InstanceRole"}


def test_a_fleets_template_is_that_of_a_job_but_for_its_files() -> None:
    by_name, shared = compared(("batch-spot", templates.OF_A_FLEET))
    assert shared >= {"Checkpoints", "Instance", "JobEnded", "Logs", "Queue", "StartPolicy"}
    own = {"Computers", "Job", "LoaderPolicy", "MskPolicy"}
    assert {name for name, bodies in by_name.items() if len(set(bodies)) > 1} == own
    jobs = [templates.load(name)["Resources"]["Job"]["Properties"] for name in ("batch-spot", templates.OF_A_FLEET)]
    assert jobs[0]["RetryStrategy"] == jobs[1]["RetryStrategy"]


def compared(names: Sequence[str]) -> tuple[dict[str, list[str]], set[str]]:
    """All that has a name in these templates, as text, and the names that are in each of them."""
    loaded = [templates.load(name) for name in names]
    by_name: dict[str, list[str]] = {}
    for template in loaded:
        for part in ("Parameters", "Conditions", "Resources"):
            for name, body in template[part].items():
                by_name.setdefault(name, []).append(json.dumps(body, sort_keys=True, default=str))
    return by_name, {name for name, bodies in by_name.items() if len(bodies) == len(loaded)}


def test_the_table_takes_checkpoints_and_outlives_the_stack() -> None:
    templates.make_stack("ecs-fargate", templates.BARE)
    client = boto3.client("dynamodb")
    table = client.describe_table(TableName=client.list_tables()["TableNames"][0])["Table"]
    assert table["KeySchema"] == [{"AttributeName": "job_id", "KeyType": "HASH"}]
    assert table["AttributeDefinitions"] == [{"AttributeName": "job_id", "AttributeType": "S"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    resource = templates.load("ecs-fargate")["Resources"]["Checkpoints"]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert resource["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def policies() -> dict[str, list[dict[str, Any]]]:
    """Statements of the managed policies in moto, by their names in the template."""
    iam = boto3.client("iam")
    found = {}
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId="v1")["PolicyVersion"]["Document"]
        (name,) = (name for name in ("LoaderPolicy", "MskPolicy", "StartPolicy") if name in policy["Arn"])
        found[name] = document["Statement"]
    return found


class TestPermissions:
    @pytest.mark.parametrize("name", templates.NAMES)
    def test_every_action_is_named_and_has_its_resource(self, name: str) -> None:
        resources = templates.load(name)["Resources"].values()
        for statement in (found for resource in resources for found in statements(resource)):
            actions = listed(statement["Action"])
            assert [action for action in actions if "*" in action] == []
            assert "*" not in listed(statement.get("Resource")) or set(actions) <= WITHOUT_ARN

    def test_the_loader_may_do_what_it_does(self) -> None:
        policy = templates.load("ecs-fargate")["Resources"]["LoaderPolicy"]
        allowed = {action for statement in statements(policy) for action in listed(statement["Action"])}
        calls = set(re.findall(r"self\.table\.(\w+)\(", MODULES["checkpoints.dynamodb"].read_text()))
        assert calls == {"get_item", "put_item", "delete_item", "scan"}  # the last two for `reset` and `list` only
        assert {action for action in allowed if action.startswith("dynamodb:")} == {
            "dynamodb:GetItem",
            "dynamodb:PutItem",
        }
        calls = set(re.findall(r"self\._client\.(\w+_\w+)\(", MODULES["sources.s3"].read_text()))
        assert calls == {"head_object", "get_object"}
        assert {action for action in allowed if action.startswith("s3:")} == {"s3:GetObject", "s3:GetObjectVersion"}

    def test_a_fleets_loader_may_list_and_read_its_prefix(self) -> None:
        templates.make_stack(templates.OF_A_FLEET, templates.WITH_MSK_IAM)
        found = policies()
        of_s3 = [statement for statement in found["LoaderPolicy"] if "s3" in str(statement["Action"])]
        assert [(statement["Action"], statement["Resource"]) for statement in of_s3] == [
            (["s3:GetObject", "s3:GetObjectVersion"], "arn:aws:s3:::files/2024/orders/*"),
            ("s3:ListBucket", "arn:aws:s3:::files"),
        ]
        assert of_s3[1]["Condition"] == {"StringLike": {"s3:prefix": "2024/orders/*"}}
        ids = "arn:aws:kafka:us-east-1:123456789012:transactional-id/events/0123-4/csv2kafka:orders-2024/*:customers"
        assert found["MskPolicy"][-1]["Resource"] == ids

    def test_metrics_go_into_the_programs_namespace_only(self) -> None:
        policy = templates.load("ecs-fargate")["Resources"]["LoaderPolicy"]
        (statement,) = (found for found in statements(policy) if found["Action"] == "cloudwatch:PutMetricData")
        namespace = RunSettings.model_fields["metrics_namespace"].default
        assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": namespace}}

    def test_msk_names_the_topic_and_the_transactional_id(self) -> None:
        templates.make_stack("ecs-fargate", templates.WITH_MSK_IAM)
        prefix = "arn:aws:kafka:us-east-1:123456789012"
        assert [statement["Resource"] for statement in policies()["MskPolicy"]] == [
            f"{prefix}:cluster/events/0123-4",
            [f"{prefix}:topic/events/0123-4/customers", f"{prefix}:topic/events/0123-4/customers.bad"],
            f"{prefix}:transactional-id/events/0123-4/csv2kafka:customers-2024:customers",
        ]


class TestTheCommand:
    """What the container gets is what the program takes."""

    def container(self, name: str, parameters: dict[str, str] = templates.WITH_PASSWORD) -> dict[str, Any]:
        templates.make_stack(name, parameters)
        if name == "ecs-fargate":
            task = boto3.client("ecs").describe_task_definition(taskDefinition=name)["taskDefinition"]
            return task["containerDefinitions"][0]
        return boto3.client("batch").describe_job_definitions()["jobDefinitions"][0]["containerProperties"]

    @pytest.mark.parametrize("name", ["ecs-fargate", "batch-spot"])
    def test_its_environment_is_a_runs(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        container = self.container(name)
        clear_options(monkeypatch)
        for entry in container["environment"]:
            monkeypatch.setenv(entry["name"], entry["value"])
        for entry in container["secrets"]:
            monkeypatch.setenv(entry["name"], entry["valueFrom"])
        settings = load_run({})
        table = boto3.client("dynamodb").list_tables()["TableNames"][0]
        assert settings.source == "s3://files/2024/customers.csv"
        assert (settings.topic, settings.job_id) == ("customers", "customers-2024")
        assert settings.checkpoint_url == f"dynamodb://{table}"
        assert settings.enable_metrics
        assert settings.kafka.bootstrap == "b-1:9096,b-2:9096"
        assert (settings.kafka.security_protocol, settings.kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")

    def test_with_msk_iam_there_is_no_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        container = self.container("ecs-fargate", templates.WITH_MSK_IAM)
        clear_options(monkeypatch)
        for entry in container["environment"]:
            monkeypatch.setenv(entry["name"], entry["value"])
        assert not container.get("secrets")
        settings = load_run({})
        assert (settings.kafka.sasl_mechanism, settings.kafka.sasl_password) == ("AWS_MSK_IAM", None)
        assert settings.checkpoint_url == "dynamodb://earlier"

    @pytest.mark.parametrize("name", ["ecs-fargate", "batch-spot"])
    def test_its_options_are_words(self, name: str) -> None:
        assert self.container(name)["command"] == ["run", "--key", "customer_id", "--format", "csv"]

    @pytest.mark.parametrize("name", ["ecs-fargate", "batch-spot", templates.OF_A_FLEET])
    def test_the_login_comes_as_a_secret(self, name: str) -> None:
        container = self.container(name)
        assert {entry["name"] for entry in container["secrets"]} == SECRETS
        assert {entry["name"] for entry in container["environment"]} & SECRETS == set()

    def test_an_arrays_child_is_one_file_of_the_fleet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        container = self.container(templates.OF_A_FLEET)
        assert container["command"] == ["fleet", "--key", "customer_id", "--format", "csv"]
        clear_options(monkeypatch)
        for entry in container["environment"]:
            monkeypatch.setenv(entry["name"], entry["value"])
        for entry in container["secrets"]:
            monkeypatch.setenv(entry["name"], entry["valueFrom"])
        settings = load_run({"job_id": None})  # as without --name
        assert (settings.source, settings.job) == ("s3://files/2024/orders/", "orders-2024")
        (option,) = (about for about in get_args(fleet_command.Index) if hasattr(about, "envvar"))
        assert option.envvar == "AWS_BATCH_JOB_ARRAY_INDEX"

    def test_freezing_is_the_same_command_and_says_so(self) -> None:
        templates.make_stack(templates.OF_A_FLEET, templates.WITH_PASSWORD)
        (stack,) = boto3.client("cloudformation").describe_stacks()["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        words = shlex.split(outputs["SubmitFreeze"])
        command = json.loads(words[words.index("--container-overrides") + 1])["command"]
        assert command == ["fleet", "--freeze", "--key", "customer_id", "--format", "csv"]
        assert outputs["SubmitJob"].endswith("--array-properties size=500")

    def test_fargate_waits_as_long_as_it_can_for_a_stop(self) -> None:
        assert self.container("ecs-fargate")["stopTimeout"] == 120


def decision(exit_code: int | None, status_reason: str) -> str:
    """What Batch makes of an attempt's end: the first rule that matches in all it says, RETRY when there is none."""
    strategy = templates.load("batch-spot")["Resources"]["Job"]["Properties"]["RetryStrategy"]
    ended = {"OnExitCode": str(exit_code or ""), "OnStatusReason": status_reason, "OnReason": ""}
    for rule in strategy["EvaluateOnExit"]:
        if all(fnmatch.fnmatchcase(ended[part], pattern) for part, pattern in rule.items() if part != "Action"):
            return str(rule["Action"])
    return "RETRY"


def test_the_image_has_what_its_build_asks_for() -> None:
    wanted = re.findall(r'"\.\[([\w,-]+)\]"', (templates.FOLDER / "Dockerfile").read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert wanted
    assert {name for names in wanted for name in names.split(",")} <= extras.keys()  # uv would only warn


def exit_codes() -> set[int]:
    """All that the program may end with."""

    def below(kind: type[errors.Csv2KafkaError]) -> Iterator[int]:
        yield kind.exit_code
        for child in kind.__subclasses__():
            yield from below(child)

    return {0, 130, 143, *below(errors.Csv2KafkaError)}


def test_batch_tries_again_what_may_get_better() -> None:
    tried_again = {code for code in exit_codes() if decision(code, "Essential container in task exited") == "RETRY"}
    assert tried_again == {errors.Retryable.exit_code, 143}
    assert decision(137, "OutOfMemoryError: Container killed due to memory usage") == "EXIT"
    assert decision(None, "Host EC2 (instance i-0123456789abcdef0) terminated.") == "RETRY"


def test_dashboards_and_alarms_show_metrics_that_there_are() -> None:
    source = MODULES["metrics.cloudwatch"].read_text()
    for template in map(templates.load, templates.OF_ONE_JOB):
        body = json.loads(template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
        shown = {entry[1] for widget in body["widgets"] for entry in widget["properties"].get("metrics", ())}
        own = {metric["MetricName"] for alarm in template["Resources"].values() for metric in own_metrics(alarm)}
        assert shown >= PLANNED_METRICS
        assert own == {"ErrorCount", "ETASeconds", "RecordsProcessed"}
        assert [name for name in shown | own if f'"{name}"' not in source] == []


def own_metrics(alarm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What an alarm reads in the program's namespace, by the dimension under which it comes."""
    properties = alarm.get("Properties", {})
    for metric in (properties, *every(properties, "Metric")):
        if metric.get("Namespace") == "CSVToKafka":
            assert metric["Dimensions"] == [{"Name": "JobId", "Value": {"Ref": "JobId"}}]
            yield metric


def test_the_runbook_knows_every_alarm_and_every_exit_code() -> None:
    text = (ROOT / "docs/RUNBOOK.md").read_text()
    headings = set(re.findall(r"^### (\w+)", text, re.MULTILINE))
    assert headings == of_type("AWS::CloudWatch::Alarm") | of_type("AWS::Events::Rule") | set(map(str, exit_codes()))
