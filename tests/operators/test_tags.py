"""The tags asked for are on what was there before as well: only what differs is written, nothing is removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.core.names import DEPLOYED_TAG, ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.exceptions import Throttled
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from tests.async_inference.batch.async_batches import calls, faults
from tests.support import (
    IMAGE,
    POLL,
    ROLE,
    Account,
    Requests,
    TaskInstanceDouble,
    context_for,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
DENIED = "tags may not be added"
SECRET_VALUE = "a-value-that-no-log-shows"
OURS = "airflow-sm-plugin:"


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({OWNER_TAG: "other"}, f"tag '{OWNER_TAG}' begins with '{OURS}'"),
        ([{"Key": OWNER_TAG, "Value": "other"}], f"tag '{OWNER_TAG}' begins with '{OURS}'"),
        ({"team": {"a": 1}}, "the value of tag 'team' has the character '{'"),
        ({"team": "\U0001f600"}, "the value of tag 'team' has the character"),
        ({"k" * 129: "x"}, "has 129 characters"),
    ],
)
def test_tags_that_cannot_be_are_reported_before_any_call(
    name: str,
    model: str,
    requests: Requests,
    tags: Any,  # noqa: ANN401 - whatever a user gives
    says: str,
) -> None:
    for run_operator in (partial(deploy, name, model, tags), partial(create_model, name, tags)):
        with pytest.raises(AirflowFailException, match=says):
            run_operator()
    assert requests.changes() == []


def test_tags_as_boto3_spells_them_are_those_of_a_mapping(account: Account, name: str, model: str) -> None:
    given: Any = [{"Key": "team", "Value": "risk"}]
    arn = deploy(name, model, given)["endpoint_arn"]
    tags_of_arn = account.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    assert {"Key": "team", "Value": "risk"} in tags_of_arn


@pytest.fixture(scope="module")
def other_model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


@pytest.fixture
def name() -> str:
    return unique("tagged")


def deploy(
    name: str,
    model: str,
    tags: Mapping[str, str] | None = None,
    *,
    run: str = "run",
    **arguments: Any,  # noqa: ANN401 - the operator's own
) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "poll_interval": POLL,
        "max_wait_seconds": 600,
        "deferrable": False,
        "aws_conn_id": None,
    }
    operator = partial(
        SageMakerDeployEndpointOperator,
        task_id="deploy",
        endpoint_name=name,
        model_name=model,
        tags=tags,
        **usual | arguments,
    )
    result: dict[str, Any] = run_task(operator, context_for(TaskInstanceDouble(run_id=run)))
    return result


def create_model(name: str, tags: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"execution_role": ROLE, "image": IMAGE, "model_name": name, "aws_conn_id": None}
    result: dict[str, Any] = run_task(
        partial(SageMakerCreateModelOperator, task_id="model", tags=tags, **usual | arguments)
    )
    return result


def tags_of(account: Account, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


def users_tags(account: Account, arn: str) -> dict[str, str]:
    return {key: value for key, value in tags_of(account, arn).items() if not key.startswith(OURS)}


def config_arn(account: Account, name: str) -> str:
    return account.sagemaker.describe_endpoint_config(EndpointConfigName=name)["EndpointConfigArn"]


def both_tags(account: Account, result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the user's tags of the endpoint and of its configuration."""
    return [
        users_tags(account, result["endpoint_arn"]),
        users_tags(account, config_arn(account, result["endpoint_config_name"])),
    ]


@BOTH
def test_an_endpoint_gets_the_tags_asked_for_whatever_is_done_to_it(
    account: Account, name: str, model: str, other_model: str, deferrable: bool
) -> None:
    actions = []
    for served, cost in ((model, "a"), (model, "b"), (other_model, "c")):
        result = deploy(name, served, {"cost": cost}, deferrable=deferrable)
        actions.append(result["action"])
        assert both_tags(account, result) == [{"cost": cost}] * 2
    assert actions == ["created", "unchanged", "updated"]


def test_a_configuration_that_is_served_again_gets_them_too(
    account: Account, name: str, model: str, other_model: str
) -> None:
    """Going back to an earlier configuration, which was kept, creates none."""
    first = deploy(name, model, {"cost": "a"})
    deploy(name, other_model, {"cost": "b"})
    again = deploy(name, model, {"cost": "c"})
    assert again["endpoint_config_name"] == first["endpoint_config_name"]
    assert both_tags(account, again) == [{"cost": "c"}] * 2


def test_only_what_differs_is_written_and_nothing_is_removed(
    account: Account, name: str, model: str, requests: Requests
) -> None:
    result = deploy(name, model, {"cost": "a", "team": "churn"})
    arn = result["endpoint_arn"]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "by-hand", "Value": "stays"}])
    requests.forget()
    deploy(name, model, {"cost": "a", "team": "churn"})
    assert requests.changes() == []
    deploy(name, model, {"cost": "b"})
    assert requests.changes() == ["AddTags", "AddTags"]  # of endpoint and configuration
    assert both_tags(account, result) == [
        {"cost": "b", "team": "churn", "by-hand": "stays"},
        {"cost": "b", "team": "churn"},
    ]


def test_a_task_that_asks_for_no_tags_asks_nothing_about_them(
    account: Account, name: str, model: str, requests: Requests
) -> None:
    deploy(name, model, cleanup_on_failure=False)
    requests.forget()
    deploy(name, model, cleanup_on_failure=False)
    assert requests.count()["ListTags"] == 1  # whether another task has created it
    assert requests.count()["AddTags"] == requests.count()["DescribeEndpointConfig"] == 0


def test_our_own_tags_are_never_put_on_what_another_user_has_made(
    account: Account, name: str, model: str
) -> None:
    """They say who may delete it: the endpoint, its configuration and the model stay without owner."""
    first = deploy(name, model, cleanup_on_failure=False)
    account.sagemaker.delete_endpoint(EndpointName=name)
    account.wait_for_endpoint(name, "endpoint_deleted")
    config = first["endpoint_config_name"]
    account.sagemaker.delete_tags(
        ResourceArn=config_arn(account, config), TagKeys=[OWNER_TAG, ENDPOINT_TAG, DEPLOYED_TAG]
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)  # by hand
    asked = {"cost": "a"}
    result = deploy(name, model, asked)
    assert result["action"] == "unchanged"
    assert tags_of(account, result["endpoint_arn"]) == {"cost": "a"}
    assert tags_of(account, config_arn(account, config)) == {"cost": "a"}

    theirs = unique("theirs")
    arn = account.sagemaker.create_model(
        ModelName=theirs, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE}
    )["ModelArn"]
    assert create_model(theirs, asked)["created"] is False
    assert tags_of(account, arn) == {"cost": "a"}


def test_a_model_that_is_reused_gets_the_tags_asked_for(
    account: Account, name: str, requests: Requests
) -> None:
    arn = create_model(name, {"cost": "a", "team": "churn"})["model_arn"]
    requests.forget()
    assert create_model(name, {"cost": "b"})["created"] is False
    assert users_tags(account, arn) == {"cost": "b", "team": "churn"}
    assert requests.changes() == ["AddTags"]
    create_model(name, {"cost": "b"})
    create_model(name)
    assert requests.changes() == ["AddTags"]


Task = Callable[[Account, str, str, Mapping[str, str]], object]
TASKS: dict[str, tuple[Task, int]] = {
    "deploy": (lambda _, name, model, tags: deploy(name, model, tags), 2),
    "model": (lambda _, name, __, tags: create_model(name, tags), 1),
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return all that was logged, by whichever of Airflow's ways."""
    return lambda: "".join([caplog.text, *capfd.readouterr()])


@pytest.mark.parametrize("kind", TASKS)
def test_without_permission_the_task_goes_on_and_warns_of_action_and_keys(
    account: Account, name: str, model: str, logged: Callable[[], str], kind: str
) -> None:
    task, resources = TASKS[kind]
    task(account, name, model, {})
    denied = {"fault": "error", "operation": "AddTags", "resource": f"*{name}*", "situation": DENIED}
    with faults(account, denied):
        task(account, name, model, {"cost-centre": SECRET_VALUE})
    text = logged()
    warned = set(re.findall(r"the tags (\S+) of (arn:\S+) stay as they are: (\S+)", text))
    assert {(keys, action) for keys, _, action in warned} == {("cost-centre", "sagemaker:AddTags")}
    assert len({arn for _, arn, _ in warned}) == resources
    assert SECRET_VALUE not in text


def test_where_tags_may_not_be_read_they_are_written(account: Account, name: str) -> None:
    arn = create_model(name)["model_arn"]
    rule = {
        "fault": "error",
        "operation": "ListTags",
        "resource": f"*{name}*",
        "code": "AccessDeniedException",
    }
    with faults(account, rule):
        create_model(name, {"cost": "a"})
    assert users_tags(account, arn) == {"cost": "a"}


def test_more_tags_than_fit_are_a_warning(account: Account, name: str, model: str) -> None:
    """SageMaker takes 50; what others have put there counts as well."""
    arn = deploy(name, model)["endpoint_arn"]
    account.sagemaker.add_tags(
        ResourceArn=arn, Tags=[{"Key": f"theirs-{number}", "Value": ""} for number in range(46)]
    )
    result = deploy(name, model, {f"ours-{number}": "" for number in range(5)})
    assert result["status"] == "InService"
    assert not any(key.startswith("ours-") for key in users_tags(account, arn))


@BOTH
def test_throttled_tags_are_written_by_the_retry_and_the_endpoint_stays(
    account: Account, name: str, model: str, other_model: str, deferrable: bool
) -> None:
    deploy(name, model)
    throttled = {"fault": "throttle", "operation": "AddTags", "resource": f"*{name}*"}
    once = {"retries": {"total_max_attempts": 1}}
    with faults(account, throttled), pytest.raises(Throttled, match="sagemaker:AddTags"):
        deploy(name, other_model, {"cost": "a"}, deferrable=deferrable, botocore_config=once)
    assert account.status(name) == "InService"
    result = deploy(name, other_model, {"cost": "a"}, deferrable=deferrable)
    assert result["action"] == "unchanged"
    assert both_tags(account, result) == [{"cost": "a"}] * 2
    assert calls(account, "DeleteEndpoint", resource=name) == []
