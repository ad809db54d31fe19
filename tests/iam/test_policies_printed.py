"""``python -m airflow_sm_plugin.iam``: what it prints, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from airflow_sm_plugin.iam.__main__ import main
from airflow_sm_plugin.iam.arguments import configs_of
from airflow_sm_plugin.iam.documents import MOST_CHARACTERS
from airflow_sm_plugin.iam.features import ANY, EXECUTION_ROLE, FEATURES, TASK_ROLE
from airflow_sm_plugin.local.iam.policies import IdentityPolicy, Permission

ARNS = "123456789012:endpoint/"
NAMED = {
    "account": "123456789012",
    "region": "eu-west-1",
    "endpoint": "Churn*",
    "model": "churn-*",
    "bucket": "my-bucket",
    "role": "SageMakerRole",
    "auto-ml-job": "churn",
    "model-package-group": "churn",
    "transform-job": "churn-*",
    "repository": "serving",
    "kms-key": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "queue": "done",
    "topic": "sagemaker-done",
}
EVERY_NAME = [part for name, value in NAMED.items() for part in (f"--{name}", value)]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    """Run the command; return what it printed, and its remarks."""
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_without_a_role_both_policies_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    both, _ = printed(capsys, "deploy", *EVERY_NAME)
    assert set(both) == {TASK_ROLE, EXECUTION_ROLE}
    for kind in both:
        assert printed(capsys, "deploy", *EVERY_NAME, "--for", kind)[0] == both[kind]


def test_a_missing_name_is_a_visible_placeholder_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    document, remarks = printed(capsys, "async", "--bucket", "b-1", "--for", TASK_ROLE)
    text = json.dumps(document)
    assert "arn:aws:sagemaker:<region>:<account>:endpoint/<endpoint>" in text
    assert "arn:aws:s3:::b-1/*" in text
    assert "replace <account>, <endpoint>, <region>, or give them" in remarks


def test_names_are_spelled_as_aws_checks_them(capsys: pytest.CaptureFixture[str]) -> None:
    """SageMaker's ARNs have names in lower case; log groups keep their case; configurations begin with the endpoint."""
    document, _ = printed(capsys, "deploy", *EVERY_NAME, "--endpoint", "Store", "--for", TASK_ROLE)
    resources = {row["Sid"]: row["Resource"] for row in document["Statement"]}
    arn = "arn:aws:sagemaker:eu-west-1:123456789012"
    assert resources["Endpoint"] == [f"{arn}:endpoint/churn*", f"{arn}:endpoint/store"]
    assert resources["EndpointConfig"] == [f"{arn}:endpoint-config/churn*", f"{arn}:endpoint-config/store-*"]
    assert resources["EndpointLogs"][0].endswith(":log-group:/aws/sagemaker/Endpoints/Churn*:*")


def test_configurations_of_a_long_endpoint_name_are_matched() -> None:
    assert configs_of("e" * 63) == f"{'e' * 50}-*"


def test_arns_are_taken_as_they_are_and_the_partition_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    role = "arn:aws-cn:iam::123456789012:role/service-role/Mine"
    document, _ = printed(capsys, "model", "--partition", "aws-cn", "--role", role, "--for", TASK_ROLE)
    (passed,) = [row for row in document["Statement"] if row["Action"] == ["iam:PassRole"]]
    assert passed["Resource"] == role
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    assert "iam:GetRole" not in json.dumps(document), "only a role's name has to be found"
    assert "arn:aws-cn:sagemaker:" in json.dumps(document)


@pytest.mark.parametrize(
    ("feature", "role"),
    [
        (name, role)
        for name, each in FEATURES.items()
        for role in (TASK_ROLE, EXECUTION_ROLE)
        if each.grants(role)
    ],
)
def test_only_actions_without_resources_stand_on_every_resource(
    feature: str, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document, remarks = printed(capsys, feature, *EVERY_NAME, "--acl", "--for", role)
    IdentityPolicy.read(document)
    for statement in document["Statement"]:
        assert (statement["Resource"] == "*") == (statement["Sid"] == "WithoutResource")
    without = {
        action
        for grant in FEATURES[feature].grants(role)
        if grant.resource == ANY
        for action in grant.actions
    }
    assert all(action in remarks for action in without)
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)


def test_key_and_acl_actions_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    features = [*FEATURES, *EVERY_NAME[: EVERY_NAME.index("--kms-key")]]
    plain, asked = (json.dumps(printed(capsys, *features, *more)[0]) for more in ([], [*EVERY_NAME, "--acl"]))
    for action in ("kms:Decrypt", "s3:PutObjectAcl", "sqs:ReceiveMessage", "sns:Publish"):
        assert action not in plain
        assert action in asked


def test_every_feature_together_fits_into_a_managed_policy(capsys: pytest.CaptureFixture[str]) -> None:
    both, remarks = printed(capsys, *FEATURES, *EVERY_NAME, "--acl")
    for document in both.values():
        assert len(json.dumps(document, separators=(",", ":"))) < MOST_CHARACTERS
    assert "characters" not in remarks


def test_a_policy_that_is_too_large_is_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    many = [part for number in range(80) for part in ("--endpoint", f"endpoint-{number}")]
    _, remarks = printed(capsys, "deploy", *many)
    assert "and IAM takes 6,144 of a managed policy: print the features one by one" in remarks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the features that you use: async, autopilot, batch"),
        (["deply"], "unknown feature deply; known are async, autopilot, batch"),
        (["deploy", "--account", "12"], "--account must be 12 digits; not '12'"),
        (["deploy", "--region", "Ireland"], "--region must be a region such as eu-west-1; not 'Ireland'"),
        (["deploy", "--endpoint", "a_b"], "--endpoint must be letters, digits and hyphens"),
        (["async", "--bucket", "s3://b"], "--bucket must be a bucket's name, without s3://; not 's3://b'"),
        (["async", "--prefix", "/a"], "--prefix must be the beginning of keys"),
        (["async", "--kms-key", "alias/a"], "IAM takes no alias; not 'alias/a'"),
        (["model", "--role", "a/b"], "--role must be a role's ARN or its name; not 'a/b'"),
        (["deploy", "--vpc", "v"], "unrecognized arguments: --vpc v"),
        (["deploy", "--for", "me"], "invalid choice: 'me'"),
    ],
)
def test_what_is_wrong_is_refused_with_the_remedy(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *arguments)


def test_a_role_that_needs_nothing_is_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["page", "--for", EXECUTION_ROLE]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "execution-role: nothing is needed for page\n")


def test_a_resource_of_another_account_or_name_is_not_permitted(capsys: pytest.CaptureFixture[str]) -> None:
    document, _ = printed(capsys, "invoke", *EVERY_NAME, "--for", TASK_ROLE)
    policy = IdentityPolicy.read(document)
    invoke = "sagemaker:InvokeEndpoint"
    assert policy.allows(Permission(invoke, f"arn:aws:sagemaker:eu-west-1:{ARNS}churn-1"))
    for other in (
        f"eu-west-1:{ARNS}other",
        f"eu-west-2:{ARNS}churn-1",
        "eu-west-1:210987654321:endpoint/churn-1",
    ):
        assert not policy.allows(Permission(invoke, f"arn:aws:sagemaker:{other}"))


def test_it_runs_as_a_module_without_airflow_and_boto3() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['iam', 'deploy']\n"
        "try: runpy.run_module('airflow_sm_plugin.iam', run_name='__main__')\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "heavy = {'airflow', 'boto3', 'botocore', 'aiobotocore', 'moto'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert set(json.loads(finished.stdout)) == {TASK_ROLE, EXECUTION_ROLE}
