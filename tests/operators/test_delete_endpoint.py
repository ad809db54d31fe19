"""DeleteEndpoint: endpoint, configuration, models, in order; a missing resource is no error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.core.names import OWNER_TAG
from airflow_sm_plugin.exceptions import EndpointDeadlineExceeded
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from tests.releases import described_times, once
from tests.support import POLL, Account, Requests, context_for, run_task, unique

pytestmark = pytest.mark.airflow


def delete(name: str, **arguments: Any) -> SageMakerDeleteEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"poll_interval": POLL, "max_wait_seconds": 600, "aws_conn_id": None}
    return SageMakerDeleteEndpointOperator(task_id="delete", endpoint_name=name, **usual | arguments)


@pytest.fixture
def model(account: Account) -> str:
    """A model that one of our operators made, as its tags say."""
    name = account.create_model(multi_model=True)
    arn = account.sagemaker.describe_model(ModelName=name)["ModelArn"]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": OWNER_TAG, "Value": "an-earlier-run"}])
    return name


@pytest.fixture
def endpoint(account: Account, model: str, requests: Requests) -> Iterator[str]:
    """An endpoint InService, made by our own operator; deleted in the end if it is still there."""
    name = unique("endpoint")
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=name,
        model_name=model,
        poll_interval=POLL,
        aws_conn_id=None,
        deferrable=False,
    )
    deploy.execute(context_for())
    requests.forget()
    yield name
    if account.status(name) == "InService":
        account.sagemaker.delete_endpoint(EndpointName=name)


def test_an_endpoint_and_its_configuration_are_deleted_and_its_model_stays(
    account: Account, endpoint: str, model: str, requests: Requests
) -> None:
    (config,) = account.configs(endpoint)
    result = run_task(partial(delete, endpoint))
    assert result == {
        "endpoint_name": endpoint,
        "deleted": [f"endpoint {endpoint}", f"endpoint configuration {config}"],
        "missing": [],
    }
    assert requests.changes() == ["DeleteEndpoint", "DeleteEndpointConfig"]
    assert (account.status(endpoint), account.configs(endpoint)) == (None, [])
    assert account.models(model) == [model]


def test_models_are_deleted_each_once_and_before_the_configuration_that_names_them(
    account: Account, endpoint: str, model: str, requests: Requests
) -> None:
    other = account.create_model(multi_model=True)
    requests.forget()
    result = run_task(partial(delete, endpoint, delete_models=True, model_names=[model, other, "", None]))
    assert set(result["deleted"][1:3]) == {f"model {model}", f"model {other}"}
    assert requests.changes() == ["DeleteEndpoint", "DeleteModel", "DeleteModel", "DeleteEndpointConfig"]
    assert account.models(model) + account.models(other) == []


def test_the_configuration_stays_where_asked(account: Account, endpoint: str) -> None:
    result = run_task(partial(delete, endpoint, delete_config=False))
    assert result["deleted"] == [f"endpoint {endpoint}"]
    assert len(account.configs(endpoint)) == 1


def test_what_is_missing_is_fine(account: Account, requests: Requests) -> None:
    result = run_task(partial(delete, "no-such-endpoint", delete_models=True, model_names=["no-such-model"]))
    assert result == {
        "endpoint_name": "no-such-endpoint",
        "deleted": [],
        "missing": ["endpoint no-such-endpoint", "model no-such-model"],
    }
    assert requests.changes() == []


def test_an_endpoint_in_progress_is_waited_out(account: Account) -> None:
    with account.settings(endpoint_creating_seconds=3600):
        name = account.start_endpoint()
        created = partial(account.change_settings, endpoint_creating_seconds=0)
        with once(described_times(account, name, 2), created):
            result = run_task(partial(delete, name))
    assert f"endpoint {name}" in result["deleted"]
    assert account.status(name) is None


def test_a_failed_endpoint_is_deleted(account: Account) -> None:
    model = account.create_model_without_artefact()
    name, config = unique("endpoint"), account.create_config(model)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    result = run_task(partial(delete, name))
    assert result["deleted"] == [f"endpoint {name}", f"endpoint configuration {config}"]


def test_an_endpoint_that_does_not_go_in_time_may_be_retried_and_keeps_its_configuration(
    account: Account, endpoint: str, requests: Requests
) -> None:
    with account.settings(endpoint_deleting_seconds=3600):
        with pytest.raises(
            EndpointDeadlineExceeded,
            match=f"(?s)endpoint {endpoint} was still Deleting after .* goes on deleting it",
        ) as caught:
            run_task(partial(delete, endpoint, max_wait_seconds=0.2))
        assert "creating" not in str(caught.value)
        assert requests.changes() == ["DeleteEndpoint"]
        deleted = partial(account.change_settings, endpoint_deleting_seconds=0)
        with once(described_times(account, endpoint, 2), deleted):
            result = run_task(partial(delete, endpoint))
    assert account.configs(endpoint) == []
    assert result["missing"] == []


@pytest.mark.parametrize("delete_models", [False, True])
def test_a_retry_deletes_the_configuration_that_a_killed_try_left(
    account: Account, endpoint: str, model: str, delete_models: bool
) -> None:
    (config,) = account.configs(endpoint)
    others = [
        account.create_config(model, name=f"{endpoint}-{ending}") for ending in ("mine", "b-0123456789ab")
    ]
    account.sagemaker.delete_endpoint(EndpointName=endpoint)  # and there the first try was killed
    account.wait_for_endpoint(endpoint, "endpoint_deleted")

    result = run_task(partial(delete, endpoint, delete_models=delete_models))

    assert result["missing"] == [f"endpoint {endpoint}"]
    assert f"endpoint configuration {config}" in result["deleted"]
    assert account.configs(endpoint) == sorted(others)
    assert account.models(model) == ([] if delete_models else [model])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"endpoint_name": "my_endpoint"}, "the endpoint name 'my_endpoint' holds '_'"),
        ({"endpoint_name": ""}, "endpoint_name must be given"),
        (
            {"endpoint_name": "e", "model_names": "a-model"},
            "model_names must be a list, or text of one as JSON or Python writes it",
        ),
    ],
)
def test_bad_input_is_reported_and_deletes_nothing(
    requests: Requests, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        SageMakerDeleteEndpointOperator(task_id="delete", aws_conn_id=None, **arguments).execute(
            context_for()
        )
    assert says in str(caught.value)
    assert not requests.count()
