"""An update that changes the instance type of what scales: refused before anything happens, or rescaled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from tests.endpoint_trials import control
from tests.scaled_endpoints import SUSPENDED, clients, notes_on, scale, scaling_of, target_of
from tests.support import POLL, Account, TaskInstanceDouble, context_for, run_task, unique

pytestmark = pytest.mark.airflow

BEFORE, AFTER = "ml.m5.large", "ml.c5.large"
DENIED = {"fault": "error", "code": "AccessDeniedException", "status": 400}


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {
        "poll_interval": POLL,
        "max_wait_seconds": 600,
        "aws_conn_id": None,
        "instance_type": AFTER,
        "deferrable": False,
    }
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | arguments
    )


rescale = partial(deploy, on_scaled="rescale")


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


@pytest.fixture
def endpoint(account: Account, model: str) -> Iterator[str]:
    """An endpoint of ours that scales in every way."""
    name = unique("endpoint")
    run_task(partial(deploy, name, model, instance_type=BEFORE))
    scale(account, name)
    yield name
    control(account, "DELETE", "faults")
    account.sagemaker.delete_endpoint(EndpointName=name)
    account.wait_for_endpoint(name, "endpoint_deleted")
    clients(account.url)[1].delete_alarms(AlarmNames=[f"{name}-busy"])


def faults(account: Account, *operations: str, **more: Any) -> None:  # noqa: ANN401 - of a rule
    control(
        account, "POST", "faults", [{"operation": operation, **DENIED, **more} for operation in operations]
    )


def test_it_is_refused_before_anything_is_created_naming_variant_and_remedies(
    account: Account, endpoint: str, model: str
) -> None:
    before = account.configs(endpoint), scaling_of(account, endpoint)
    with pytest.raises(AirflowFailException) as refused:
        run_task(partial(deploy, endpoint, model))
    for said in ("EndpointScaled", "AllTraffic", "on_scaled='rescale'", "action='remove'"):
        assert said in str(refused.value)
    assert (account.configs(endpoint), scaling_of(account, endpoint)) == before


def test_an_update_that_keeps_the_instance_type_goes_on_and_scaling_stays(
    account: Account, endpoint: str, model: str
) -> None:
    before = scaling_of(account, endpoint)
    result = run_task(partial(deploy, endpoint, model, instance_type=BEFORE, initial_instance_count=2))
    assert (result["action"], scaling_of(account, endpoint)) == ("updated", before)


def test_where_nobody_may_look_sagemakers_answer_decides(account: Account, endpoint: str, model: str) -> None:
    faults(account, "application-autoscaling:DescribeScalableTargets")
    with pytest.raises(AirflowFailException, match=r"EndpointScaled: .*a variant of it is registered"):
        run_task(partial(deploy, endpoint, model))


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
@pytest.mark.parametrize("known", [True, False], ids=["foreseen", "refused first"])
def test_rescaling_updates_and_puts_all_back(
    account: Account, endpoint: str, model: str, *, deferrable: bool, known: bool
) -> None:
    other = unique("other")
    clients(account.url)[0].register_scalable_target(**target_of(other), MinCapacity=1, MaxCapacity=2)
    before = scaling_of(account, endpoint)
    if not known:
        faults(account, "sagemaker:DescribeEndpointConfig", times=4, resource=f"*{endpoint}*")
    result = run_task(partial(rescale, endpoint, model, deferrable=deferrable, keep_configs=None))
    assert result["action"] == "updated"
    assert scaling_of(account, endpoint) == before
    assert notes_on(account, endpoint) == []
    autoscaling = clients(account.url)[0]
    there = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert target_of(other)["ResourceId"] in [one["ResourceId"] for one in there]
    autoscaling.deregister_scalable_target(**target_of(other))


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
def test_an_update_that_is_rolled_back_has_its_scaling_put_back_too(
    account: Account, endpoint: str, model: str, *, deferrable: bool
) -> None:
    before = scaling_of(account, endpoint)
    control(account, "PUT", f"endpoints/{endpoint}/next", {"end": "RolledBack"})
    with pytest.raises(AirflowFailException, match="EndpointRolledBack"):
        run_task(partial(rescale, endpoint, model, deferrable=deferrable))
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_an_update_that_is_not_accepted_has_its_scaling_put_back(
    account: Account, endpoint: str, model: str
) -> None:
    before = scaling_of(account, endpoint)
    faults(account, "sagemaker:UpdateEndpoint")
    with pytest.raises(AirflowFailException, match="AccessDenied"):
        run_task(partial(rescale, endpoint, model))
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_a_missing_permission_is_told_before_anything_is_taken_down(
    account: Account, endpoint: str, model: str
) -> None:
    before = scaling_of(account, endpoint)
    for operation in ("sagemaker:AddTags", "application-autoscaling:DescribeScheduledActions"):
        faults(account, operation)
        with pytest.raises(AirflowFailException, match="AccessDenied"):
            run_task(partial(rescale, endpoint, model, cleanup_on_failure=False))
        control(account, "DELETE", "faults")
        assert scaling_of(account, endpoint) == before


def test_a_role_that_may_not_remove_tags_empties_them(account: Account, endpoint: str, model: str) -> None:
    before = scaling_of(account, endpoint)
    faults(account, "sagemaker:DeleteTags")
    run_task(partial(rescale, endpoint, model))
    assert scaling_of(account, endpoint) == before
    assert set(notes_on(account, endpoint)) == {""}
    run_task(partial(rescale, endpoint, model, instance_type=BEFORE))
    assert scaling_of(account, endpoint) == before


def test_another_change_of_the_scaling_passes(account: Account, endpoint: str, model: str) -> None:
    before = scaling_of(account, endpoint)
    situation = {"fault": "error", "situation": "another change of the scaling is under way", "times": 1}
    writes = ("DeregisterScalableTarget", "RegisterScalableTarget", "PutScalingPolicy", "PutScheduledAction")
    rules = [{"operation": f"application-autoscaling:{operation}", **situation} for operation in writes]
    control(account, "POST", "faults", rules)
    run_task(partial(rescale, endpoint, model))
    assert scaling_of(account, endpoint) == before


def test_the_maximum_is_at_least_what_the_endpoint_was_given(
    account: Account, endpoint: str, model: str
) -> None:
    run_task(partial(rescale, endpoint, model, initial_instance_count=6))
    assert scaling_of(account, endpoint)["targets"] == [(1, 6, SUSPENDED)]


def test_types_that_do_not_scale_are_told_before(account: Account, endpoint: str, model: str) -> None:
    before = scaling_of(account, endpoint)
    with pytest.raises(AirflowFailException, match="does not scale t2 instances"):
        run_task(partial(rescale, endpoint, model, instance_type="ml.t2.medium"))
    assert scaling_of(account, endpoint) == before


def test_a_task_that_does_not_wait_cannot_put_back(endpoint: str, model: str) -> None:
    with pytest.raises(AirflowFailException, match="wait_for_completion"):
        run_task(partial(rescale, endpoint, model, wait_for_completion=False))


class Dead(BaseException):
    """The try's process was killed: nothing that it does from now on reaches AWS."""


class Life(threading.local):
    """How many calls a try has left to live; None: as many as it likes."""

    left: int | None = None
    calls: int = 0


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, shared_clients: None) -> Life:
    """Count every AWS call, and kill the try after as many as are set."""
    lives = Life()
    make = AwsGenericHook.get_client_type

    def before_send(**_: object) -> None:
        if lives.left is not None and lives.calls >= lives.left:
            raise Dead
        lives.calls += 1

    def counted(hook: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the provider's hook and client
        client: Any = make(hook, *args, **kwargs)
        client.meta.events.register("before-call", before_send, unique_id="life")
        return client

    monkeypatch.setattr(AwsGenericHook, "get_client_type", counted)
    return lives


@pytest.mark.slow
@pytest.mark.parametrize("end", ["InService", "RolledBack"])
def test_a_try_killed_after_any_call_has_its_scaling_put_back_by_the_next(
    account: Account, endpoint: str, model: str, life: Life, end: str
) -> None:
    """The update goes on without the try, which is killed as soon as it has made so many calls."""
    before, kinds = scaling_of(account, endpoint), [AFTER, BEFORE]
    killed_after = 0
    for number in range(200):
        kind = kinds[number % 2] if end == "InService" else AFTER
        control(account, "PUT", f"endpoints/{endpoint}/next", {"end": end} if end != "InService" else [])
        life.calls, life.left = 0, number
        run = unique("run")
        operator = partial(rescale, endpoint, model, instance_type=kind, poll_interval=0.3)
        try:
            run_task(operator, context_for(TaskInstanceDouble(run_id=run, try_number=1)))
        except Dead:
            killed_after = number
        except AirflowFailException:
            assert end == "RolledBack"
        life.left = None
        if killed_after != number:
            break
        control(account, "PUT", f"endpoints/{endpoint}/next", {"end": end} if end != "InService" else [])
        try:
            run_task(operator, context_for(TaskInstanceDouble(run_id=run, try_number=2)))
        except AirflowFailException:
            assert end == "RolledBack"
        told = f"killed after call {number}"
        assert scaling_of(account, endpoint) == before, told
        assert notes_on(account, endpoint) == [], told
    assert killed_after > 15, "it was never killed in the midst of it"
