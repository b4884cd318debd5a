"""The CloudFormation templates of deploy/, and stacks of them in moto. Needs moto active where a stack is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
from cfnlint.decode import cfn_yaml

FOLDER = Path(__file__).parents[2] / "deploy"
OF_ONE_JOB = ("batch-spot", "ec2-spot", "ecs-fargate")
OF_A_FLEET = "batch-array"
NAMES = (*OF_ONE_JOB, OF_A_FLEET)
# moto makes nothing of these, and says so in a log only.
SKIPPED_BY_MOTO = {"AWS::CloudWatch::Alarm"}

_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:kafka-AbCdEf"
BARE = {
    "ImageTag": "1",
    "S3Bucket": "files",
    "S3Key": "2024/customers.csv",
    "KafkaBootstrapServers": "b-1:9096,b-2:9096",
    "KafkaTopic": "customers",
    "JobId": "customers-2024",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
}
WITH_PASSWORD = BARE | {
    "Options": "--key customer_id --format csv",
    "KafkaSecurityProtocol": "SASL_SSL",
    "KafkaSaslMechanism": "SCRAM-SHA-512",
    "KafkaSecretArn": _SECRET,
    "KmsKeyArns": "arn:aws:kms:us-east-1:123456789012:key/1",
}
WITH_MSK_IAM = BARE | {
    "KafkaSecurityProtocol": "SASL_SSL",
    "KafkaSaslMechanism": "AWS_MSK_IAM",
    "MskClusterArn": "arn:aws:kafka:us-east-1:123456789012:cluster/events/0123-4",
    "CheckpointTable": "earlier",
}

# What a fleet has in place of one file, one job and a run's options.
_FLEET = {"S3Prefix": "2024/orders/", "FleetName": "orders-2024", "ArraySize": "500"}
_FLEET_NAMES = {"S3Key": None, "JobId": None, "Options": "FleetOptions"}


def parameters_for(name: str, parameters: dict[str, str]) -> dict[str, str]:
    """Those above, as the template calls them."""
    if name != OF_A_FLEET:
        return parameters
    renamed = {_FLEET_NAMES.get(key, key): value for key, value in parameters.items()}
    return {key: value for key, value in renamed.items() if key is not None} | _FLEET


def load(name: str) -> dict[str, Any]:
    """The template with short forms (!Ref) written out."""
    return cfn_yaml.load(str(FOLDER / f"{name}.yaml"))


def make_stack(name: str, parameters: dict[str, str]) -> dict[str, str]:
    """A stack in moto: the types of what was really made, by name. The stack is called as the template is."""
    ec2 = boto3.client("ec2")
    network = {
        "SubnetIds": ",".join(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]),
        "SecurityGroupIds": ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],
    }
    template = _as_moto_reads_it(load(name), parameters_for(name, parameters))
    lists = {
        key: body["Default"] for key, body in template["Parameters"].items() if body["Type"] == "CommaDelimitedList"
    }
    given = {**lists, **parameters_for(name, parameters), **network}
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return {made["LogicalResourceId"]: made["ResourceType"] for made in resources if "LogicalResourceId" in made}


def _as_moto_reads_it(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """With what moto leaves to AWS: AWS::NoValue in a list, and the role that Batch takes when none is named."""
    given = {
        name
        for name, condition in template["Conditions"].items()
        if any(f"'{parameter}'" in str(condition) for parameter in parameters)
    }

    def kept(entry: Any) -> list[Any]:
        match entry:
            case {"Fn::If": [condition, then, {"Ref": "AWS::NoValue"}]}:
                return [then] if condition in given else []
        return [entry]

    def written_out(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: written_out(value) for key, value in node.items()}
        if isinstance(node, list):
            return [written_out(value) for entry in node for value in kept(entry)]
        return node

    template["Resources"] = written_out(template["Resources"])
    if "Computers" in template["Resources"]:
        role = boto3.client("iam").create_service_linked_role(AWSServiceName="batch.amazonaws.com")["Role"]["Arn"]
        template["Resources"]["Computers"]["Properties"]["ServiceRole"] = role
    return template
