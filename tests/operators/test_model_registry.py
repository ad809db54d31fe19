"""CreateModel from the Model Registry: by a version's ARN, or the newest approved version of a group."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import (
    ModelPackageNotApproved,
    ModelPackageNotFound,
    RequestRefused,
    SageMakerInferenceError,
)
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from tests.support import IMAGE, ROLE, Account, Answer, Requests, answering, context_for, run_task, unique

pytestmark = pytest.mark.airflow

DENIED = Answer(400, "AccessDeniedException", "not authorized to perform: sagemaker:DescribeModelPackage")


def create(**arguments: Any) -> SageMakerCreateModelOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"execution_role": ROLE, "aws_conn_id": None}
    return SageMakerCreateModelOperator(task_id="create", **usual | arguments)


def refusal(kind: type[SageMakerInferenceError], **arguments: Any) -> str:  # noqa: ANN401 - the operator's own
    with pytest.raises(AirflowFailException) as caught:
        create(**arguments).execute(context_for())
    assert isinstance(caught.value.__context__, kind)
    return str(caught.value)


@pytest.fixture
def group(account: Account) -> str:
    """A group without versions."""
    name = unique("group")
    account.sagemaker.create_model_package_group(ModelPackageGroupName=name)
    return name


def register(
    account: Account, group: str, *, approval: str = "Approved", environment: dict[str, str] | None = None
) -> str:
    """Add a version to a group; return its ARN."""
    definition: Any = {
        "Image": IMAGE,
        "ModelDataUrl": account.upload_model(),
        "Environment": environment or {},
    }
    response = account.sagemaker.create_model_package(
        ModelPackageGroupName=group,
        InferenceSpecification={
            "Containers": [definition],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
        ModelApprovalStatus=approval,  # type: ignore[arg-type] # any of its literals
    )
    return response["ModelPackageArn"]


def test_an_approved_version_becomes_a_model_that_names_it(
    account: Account, group: str, requests: Requests
) -> None:
    arn = register(account, group)
    requests.forget()
    operator = partial(create, model_package_arn=arn, environment={"GREETING": "hello"})

    first, second = run_task(operator), run_task(operator)

    described = account.sagemaker.describe_model(ModelName=first["model_name"])
    assert described["PrimaryContainer"]["ModelPackageName"] == arn
    assert described["PrimaryContainer"]["Environment"]["GREETING"] == "hello"
    assert (first["created"], first["model_package_arn"]) == (True, arn)
    assert second == first | {"created": False}
    assert requests.changes() == ["CreateModel"]


def test_a_model_of_a_package_serves(account: Account, group: str) -> None:
    result = run_task(partial(create, model_package_arn=register(account, group)))
    config, endpoint = account.create_config(result["model_name"]), unique("endpoint")
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    account.wait_for_endpoint(endpoint)
    answer = account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"a,b", ContentType="text/csv")
    assert answer["Body"].read() == b"a,b"
    account.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_of_a_group_the_newest_approved_version_is_taken(account: Account, group: str) -> None:
    older = register(account, group)
    newer = register(account, group)
    waiting = register(account, group, approval="PendingManualApproval")
    operator = partial(create, model_package_group_name=group)

    first = run_task(operator)
    account.sagemaker.update_model_package(ModelPackageArn=waiting, ModelApprovalStatus="Approved")
    second = run_task(operator)
    account.sagemaker.delete_model_package(ModelPackageName=waiting)
    account.sagemaker.update_model_package(ModelPackageArn=newer, ModelApprovalStatus="Rejected")
    third = run_task(operator)

    assert [created_model["model_package_arn"] for created_model in (first, second, third)] == [
        newer,
        waiting,
        older,
    ]
    assert len({created_model["model_name"] for created_model in (first, second, third)}) == 3


@pytest.mark.parametrize("by_group", [True, False])
def test_where_approval_is_not_required_sagemaker_judges(
    account: Account, group: str, by_group: bool
) -> None:
    """It wants versions to be Approved as well, so the embedded service refuses here what our check let pass."""
    register(account, group)
    rejected = register(account, group, approval="Rejected")
    source = {"model_package_group_name": group} if by_group else {"model_package_arn": rejected}
    message = refusal(RequestRefused, require_approved="False", **source)
    assert "sagemaker:CreateModel" in message
    assert rejected in message


@pytest.mark.parametrize("by_group", [True, False])
def test_a_preset_leaves_alone_what_the_package_sets(account: Account, group: str, by_group: bool) -> None:
    arn = register(account, group, environment={"MMS_MAX_REQUEST_SIZE": "7"})
    source = {"model_package_group_name": group} if by_group else {"model_package_arn": arn}
    result = run_task(partial(create, serving_preset="mms", **source))
    primary_container = account.sagemaker.describe_model(ModelName=result["model_name"])["PrimaryContainer"]
    assert primary_container["Environment"].get("MMS_MAX_REQUEST_SIZE") in (None, "7")
    assert primary_container["Environment"]["MMS_DEFAULT_RESPONSE_TIMEOUT"] == "900"


def test_where_a_package_may_not_be_described_it_is_taken_as_it_is_only_if_that_was_asked_for(
    account: Account, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = register(account, group)
    with answering(DENIED, otherwise=account.url) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        result = run_task(partial(create, model_package_arn=arn, require_approved=False))
    assert result["model_package_arn"] == arn
    with answering(DENIED, otherwise=account.url) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(AirflowFailException, match="sagemaker:DescribeModelPackage"):
            run_task(partial(create, model_package_arn=arn))
    assert asked == ["SageMaker.DescribeModelPackage"]


class TestBadInput:
    """Each refusal names the fault and the remedy, and creates nothing."""

    @pytest.mark.parametrize("approval", ["Rejected", "PendingManualApproval"])
    def test_a_version_that_is_not_approved(
        self, account: Account, group: str, requests: Requests, approval: str
    ) -> None:
        arn = register(account, group, approval=approval)
        requests.forget()
        message = refusal(ModelPackageNotApproved, model_package_arn=arn)
        assert f"model package {arn} is {approval}, not Approved" in message
        assert "approve it in the Model Registry first" in message
        assert requests.changes() == []

    def test_a_group_without_an_approved_version(self, account: Account, group: str) -> None:
        register(account, group, approval="Rejected")
        message = refusal(ModelPackageNotFound, model_package_group_name=group)
        assert f"model package group {group} has no approved version\nDo: approve one" in message

    def test_a_group_without_any_version(self, group: str) -> None:
        message = refusal(ModelPackageNotFound, model_package_group_name=group, require_approved=False)
        assert f"model package group {group} has no usable version\nDo: register one first" in message

    def test_a_group_that_does_not_exist(self) -> None:
        message = refusal(ModelPackageNotFound, model_package_group_name="no-such-group")
        assert "there is no model package group no-such-group in us-east-1" in message

    def test_a_version_that_does_not_exist(self, account: Account, group: str) -> None:
        arn = register(account, group).removesuffix("1") + "99"
        assert f"there is no model package {arn}" in refusal(ModelPackageNotFound, model_package_arn=arn)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"model_package_arn": "a", "model_package_group_name": "b"}, "not both"),
            ({"model_package_arn": "a", "image": IMAGE}, "give either image (one container)"),
            (
                {"model_package_arn": "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/g"},
                "give it as model_package_group_name",
            ),
            ({"model_package_arn": "a", "mode": "MultiModel"}, "a model package brings its own"),
            (
                {"model_package_arn": "a", "require_approved": "maybe"},
                "require_approved must be true or false",
            ),
        ],
    )
    def test_what_does_not_go_together(
        self, requests: Requests, arguments: dict[str, Any], says: str
    ) -> None:
        assert says in refusal(SageMakerInferenceError, **arguments)
        assert not requests.count()
