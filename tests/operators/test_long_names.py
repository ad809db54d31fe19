"""Endpoints whose names are cut in those of their configurations: a tag distinguishes them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator
from tests.support import POLL, Account, run_task, unique

pytestmark = pytest.mark.airflow


def deploy(name: str, model: str, **arguments: Any) -> str:  # noqa: ANN401 - the operator's own
    """Deploy and return the configuration's name."""
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
        **usual | arguments,
    )
    return str(run_task(operator)["endpoint_config_name"])


def delete(name: str) -> None:
    run_task(
        partial(
            SageMakerDeleteEndpointOperator,
            task_id="delete",
            endpoint_name=name,
            poll_interval=POLL,
            aws_conn_id=None,
        )
    )


@pytest.fixture(scope="module")
def models(module_account: Account) -> list[str]:
    return [module_account.create_model(multi_model=True) for _ in range(3)]


@pytest.fixture
def stem() -> str:
    """The fifty characters that the endpoints of a test have in common."""
    return f"{unique('long')}-".ljust(49, "n") + "m"


@pytest.fixture(params=[("", "-other"), ("-one", "-other"), ("-one", "")], ids=["fits", "cut", "other fits"])
def names(account: Account, stem: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Two endpoints' names, cut to the same; one of them may just not be cut itself."""
    one, other = (stem + ending for ending in request.param)
    yield one, other
    for name in (one, other):
        if account.status(name) is not None:
            account.sagemaker.delete_endpoint(EndpointName=name)


def test_earlier_configurations_are_tidied_and_those_of_another_endpoint_stay(
    account: Account, stem: str, names: tuple[str, str], models: list[str]
) -> None:
    one, other = names
    others = [deploy(other, model, keep_configs=None) for model in models[:2]]
    for model in models:
        last = deploy(one, model, keep_configs=0)
    assert account.configs(stem) == sorted([*others, last])


def test_what_a_killed_deletion_left_is_deleted_and_that_of_another_endpoint_stays(
    account: Account, stem: str, names: tuple[str, str], models: list[str]
) -> None:
    one, other = names
    theirs = deploy(other, models[0])
    for model in models:
        deploy(one, model, keep_configs=None)
    assert len(account.configs(stem)) == 4
    account.sagemaker.delete_endpoint(EndpointName=one)  # and there the first try was killed
    account.wait_for_endpoint(one, "endpoint_deleted")
    delete(one)
    assert account.configs(stem) == [theirs]


def test_one_without_a_tag_is_left_alone_and_reported(
    account: Account,
    stem: str,
    models: list[str],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.WARNING)
    untagged = account.create_config(models[0], name=f"{stem}-0123456789ab")
    delete(f"{stem}-one")
    assert account.configs(stem) == [untagged]
    text = caplog.text + "".join(capsys.readouterr())
    assert f"no tag shows whether they belong to endpoint {stem}-one" in text
    assert untagged in text
