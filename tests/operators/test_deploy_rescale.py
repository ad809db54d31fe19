"""An update that changes the instance type of what scales: refused before anything happens, or rescaled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from botocore.client import BaseClient

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling
from airflow_sm_plugin.endpoints.scaling_note import NOTE_TAG
from airflow_sm_plugin.exceptions import EndpointFailed, ServiceUnavailable, TaskKilled
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.triggers.endpoint import EndpointTrigger
from tests.endpoint_trials import control
from tests.scaled_endpoints import SUSPENDED, clients, notes_on, scale, scaling_of, target_of
from tests.support import (
    POLL,
    Account,
    TaskInstanceDouble,
    botocore_knows_pools,
    context_for,
    run_task,
    unique,
)
from tests.task_runs import Deferral, execute, go_on, resume

pytestmark = pytest.mark.airflow

BEFORE, AFTER = "ml.m5.large", "ml.c5.large"
DENIED = {"fault": "error", "code": "AccessDeniedException", "status": 400}


def deploy(name: str, model: str | None, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
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
    for description in ("EndpointScaled", "AllTraffic", "on_scaled='rescale'", "action='remove'"):
        assert description in str(refused.value)
    assert (account.configs(endpoint), scaling_of(account, endpoint)) == before


def test_an_update_that_keeps_the_instance_type_goes_on_and_scaling_stays(
    account: Account, endpoint: str, model: str
) -> None:
    before = scaling_of(account, endpoint)
    result = run_task(partial(deploy, endpoint, model, instance_type=BEFORE, initial_instance_count=2))
    assert (result["action"], scaling_of(account, endpoint)) == ("updated", before)


def test_where_the_check_is_denied_sagemakers_answer_decides(
    account: Account, endpoint: str, model: str
) -> None:
    faults(account, "application-autoscaling:DescribeScalableTargets")
    with pytest.raises(AirflowFailException, match=r"EndpointScaled: .*a variant of it is registered"):
        run_task(partial(deploy, endpoint, model))


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
@pytest.mark.parametrize("foreseen", [True, False], ids=["foreseen", "refused first"])
def test_rescaling_updates_and_puts_all_back(
    account: Account, endpoint: str, model: str, *, deferrable: bool, foreseen: bool
) -> None:
    other = unique("other")
    clients(account.url)[0].register_scalable_target(**target_of(other), MinCapacity=1, MaxCapacity=2)
    before = scaling_of(account, endpoint)
    if not foreseen:
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


def test_a_missing_permission_is_reported_before_anything_is_taken_down(
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


def test_types_that_do_not_scale_are_reported_before(account: Account, endpoint: str, model: str) -> None:
    before = scaling_of(account, endpoint)
    with pytest.raises(AirflowFailException, match="does not scale t2 instances"):
        run_task(partial(rescale, endpoint, model, instance_type="ml.t2.medium"))
    assert scaling_of(account, endpoint) == before


def test_a_task_that_does_not_wait_cannot_put_back(endpoint: str, model: str) -> None:
    with pytest.raises(AirflowFailException, match="wait_for_completion"):
        run_task(partial(rescale, endpoint, model, wait_for_completion=False))


def left_down(account: Account, name: str) -> None:
    """Leave the endpoint as a killed deployment does that has taken its scaling down."""
    connection = AwsConnection(aws_conn_id=None)
    scaling = EndpointScaling(connection)
    noted = NotedScaling(SageMakerControlPlaneHook(**connection.hook_arguments()), name, scaling)
    arn = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]
    noted.take_down(arn, scaling.variants.targets(name, ["AllTraffic"]))


@pytest.mark.parametrize("kind", [BEFORE, AFTER], ids=["unchanged", "updated"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
def test_what_a_killed_deployment_left_down_is_put_back_by_any_next_one(
    account: Account,
    endpoint: str,
    model: str,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    *,
    deferrable: bool,
) -> None:
    before = scaling_of(account, endpoint)
    left_down(account, endpoint)
    run_task(partial(deploy, endpoint, model, instance_type=kind, deferrable=deferrable))
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])
    assert "an earlier deployment took the scaling of endpoint" in caplog.text


def test_what_a_deployment_without_rescale_may_not_put_back_is_a_warning(
    account: Account, endpoint: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    left_down(account, endpoint)
    faults(account, "application-autoscaling:RegisterScalableTarget")
    assert run_task(partial(deploy, endpoint, model, instance_type=BEFORE))["action"] == "unchanged"
    assert "is not all back (variants AllTraffic); its tags keep it, and the next deployment" in caplog.text
    assert notes_on(account, endpoint)


def test_a_note_that_another_user_has_garbled_is_a_warning_of_a_deployment_without_rescale(
    account: Account, endpoint: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    arn = account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointArn"]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": f"{NOTE_TAG}01", "Value": "garbled"}])
    run_task(partial(deploy, endpoint, model, instance_type=BEFORE))
    assert "is not all back (variants unknown)" in caplog.text
    assert "cannot be read any more" in caplog.text


def test_a_deployment_that_does_not_wait_says_that_the_scaling_is_still_down(
    account: Account, endpoint: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    left_down(account, endpoint)
    with account.settings(endpoint_updating_seconds=3600):
        run_task(partial(deploy, endpoint, model, wait_for_completion=False))
        account.change_settings(endpoint_updating_seconds=0)
        account.wait_for_endpoint(endpoint)
    assert "stays down while it is Updating (variants AllTraffic, noted in its tags)" in caplog.text


def scaled_by_operator(name: str, action: str) -> SageMakerScaleEndpointOperator:
    return SageMakerScaleEndpointOperator(
        task_id="scale",
        endpoint_name=name,
        action=action,
        min_capacity=2,
        max_capacity=3,
        target_invocations_per_instance=5,
        aws_conn_id=None,
    )


@pytest.mark.parametrize(("action", "policies"), [("remove", []), ("apply", ["airflow-sm-invocations"])])
def test_what_another_user_says_of_the_scaling_meanwhile_counts_and_nothing_old_comes_back(
    account: Account, endpoint: str, model: str, action: str, policies: list[str]
) -> None:
    left_down(account, endpoint)
    run_task(partial(scaled_by_operator, endpoint, action))
    assert notes_on(account, endpoint) == []
    run_task(partial(rescale, endpoint, model))
    autoscaling = clients(account.url)[0]
    resource = target_of(endpoint)["ResourceId"]
    there = autoscaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)
    assert [policy["PolicyName"] for policy in there["ScalingPolicies"]] == policies
    targets = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])
    assert len(targets["ScalableTargets"]) == len(policies)


def test_a_deletion_that_comes_to_nothing_gives_up_what_was_taken_down(
    account: Account, endpoint: str, model: str
) -> None:
    left_down(account, endpoint)
    faults(account, "sagemaker:DeleteEndpoint")
    delete = partial(
        SageMakerDeleteEndpointOperator, task_id="delete", endpoint_name=endpoint, aws_conn_id=None
    )
    with pytest.raises(AirflowFailException, match="AccessDenied"):
        run_task(delete)
    assert notes_on(account, endpoint) == []
    run_task(partial(deploy, endpoint, model, instance_type=BEFORE))
    assert scaling_of(account, endpoint)["targets"] == []


@pytest.mark.parametrize(
    "description",
    [
        {"situation": "the endpoint has failed"},
        {"situation": "no update policy"},
        {
            "code": "ValidationException",
            "status": 400,
            "message": "Role arn:aws:iam::1:role/r cannot be assumed",
        },
        {"code": "SomethingElse", "status": 400, "message": "not now"},
    ],
)
@pytest.mark.parametrize("make", [deploy, rescale], ids=["fail", "rescale"])
def test_a_refusal_for_something_else_is_not_taken_for_scaling_where_what_serves_is_not_known(
    account: Account,
    endpoint: str,
    model: str,
    description: dict[str, Any],
    make: Any,  # noqa: ANN401 - of both
) -> None:
    before = scaling_of(account, endpoint)
    faults(account, "sagemaker:DescribeEndpointConfig", resource=f"*{endpoint}*")
    rule = {"operation": "sagemaker:UpdateEndpoint", "fault": "error", **description}
    control(account, "POST", "faults", [rule])
    with pytest.raises(AirflowFailException, match="RequestRefused") as refused:
        run_task(partial(make, endpoint, model, cleanup_on_failure=False))
    assert "on_scaled" not in str(refused.value)
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_a_refusal_in_words_that_are_unknown_is_likely_for_scaling(
    account: Account, endpoint: str, model: str
) -> None:
    faults(account, "sagemaker:DescribeEndpointConfig", resource=f"*{endpoint}*")
    rule = {"operation": "sagemaker:UpdateEndpoint", "fault": "error", "status": 400}
    control(
        account,
        "POST",
        "faults",
        [{**rule, "code": "ValidationException", "message": "v may not change now"}],
    )
    with pytest.raises(AirflowFailException, match=r"EndpointScaled: .*probably variant AllTraffic is") as it:
        run_task(partial(deploy, endpoint, model, cleanup_on_failure=False))
    assert "v may not change now" in str(it.value)


@pytest.mark.parametrize("ends", [True, False], ids=["in service", "updating"])
def test_a_wait_that_breaks_puts_back_or_says_what_is_left(
    account: Account, endpoint: str, model: str, caplog: pytest.LogCaptureFixture, *, ends: bool
) -> None:
    before = scaling_of(account, endpoint)
    with account.settings(endpoint_updating_seconds=0 if ends else 3600):
        make = partial(rescale, endpoint, model, deferrable=True, cleanup_wait_seconds=0.2)
        step = execute(make, context_for())
        assert isinstance(step, Deferral)
        if ends:
            account.wait_for_endpoint(endpoint)
        event = {"status": "error", "error": "ServiceUnavailable", "message": "no more polls"}
        with pytest.raises(ServiceUnavailable):
            resume(make, context_for(), step, {**event, "note": step.trigger_arguments["note"]})
        if not ends:
            assert "stays down while it is Updating (variants AllTraffic, noted in its tags)" in caplog.text
            account.change_settings(endpoint_updating_seconds=0)
            account.wait_for_endpoint(endpoint)
            run_task(make)
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_an_update_that_ends_while_it_is_cleaned_up_after_has_its_scaling_put_back(
    account: Account, endpoint: str, model: str
) -> None:
    before = scaling_of(account, endpoint)
    with account.settings(endpoint_updating_seconds=3600), ThreadPoolExecutor(1) as pool:
        make = partial(rescale, endpoint, model, deferrable=True)
        step = execute(make, context_for())
        assert isinstance(step, Deferral)
        event = {"status": "error", "error": "EndpointFailed", "message": "so the trigger reported"}
        failed = pool.submit(
            resume, make, context_for(), step, {**event, "note": step.trigger_arguments["note"]}
        )
        account.change_settings(endpoint_updating_seconds=0)
        assert isinstance(failed.exception(), EndpointFailed)
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_a_blocking_wait_that_breaks_puts_back(account: Account, endpoint: str, model: str) -> None:
    before = scaling_of(account, endpoint)
    rule = {
        "operation": "sagemaker:DescribeEndpoint",
        "fault": "error",
        "code": "ValidationException",
        "status": 400,
    }
    with account.settings(endpoint_updating_seconds=0):
        control(account, "POST", "faults", [{**rule, "message": "odd", "after": 1, "times": 1}])
        with pytest.raises(AirflowFailException, match="odd"):
            run_task(partial(rescale, endpoint, model))
        account.wait_for_endpoint(endpoint)
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


@pytest.mark.parametrize("cleanup", [True, False], ids=["cleaned up", "not cleaned up"])
@pytest.mark.parametrize("ends", [True, False], ids=["in service", "updating"])
def test_a_kill_while_it_is_deferred_puts_back_or_says_what_is_left(
    account: Account,
    endpoint: str,
    model: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cleanup: bool,
    ends: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__ON_KILL_TIMEOUT", "4")
    before = scaling_of(account, endpoint)
    with account.settings(endpoint_updating_seconds=0 if ends else 3600):
        make = partial(rescale, endpoint, model, deferrable=True, cleanup_on_failure=cleanup)
        step = execute(make, context_for())
        assert isinstance(step, Deferral)
        if ends:
            account.wait_for_endpoint(endpoint)
        trigger = step.trigger
        assert isinstance(trigger, EndpointTrigger)
        asyncio.run(trigger.on_kill())
        if not ends:
            assert "stays down while it is Updating (variants AllTraffic, noted in its tags)" in caplog.text
            account.change_settings(endpoint_updating_seconds=0)
            account.wait_for_endpoint(endpoint)
            run_task(make)
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_a_note_that_another_user_removes_while_the_task_is_deferred_is_reported(
    account: Account, endpoint: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = partial(rescale, endpoint, model, deferrable=True)
    step = execute(make, context_for())
    arn = account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointArn"]
    keys = [tag["Key"] for tag in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]]
    account.sagemaker.delete_tags(ResourceArn=arn, TagKeys=[key for key in keys if "scaling-" in key])
    assert go_on(make, context_for(), step)["action"] == "updated"
    assert "Variants AllTraffic do not scale: scale them again" in caplog.text


def test_a_kill_in_a_worker_puts_back_at_once(account: Account, endpoint: str, model: str) -> None:
    """The task is killed right before it asks for the update."""
    before = scaling_of(account, endpoint)
    operator = rescale(endpoint, model)
    make = operator.control_plane

    def killed_before_the_update() -> SageMakerControlPlaneHook:
        hook = make()
        update = hook.update_endpoint

        def killing(*args: Any, **kwargs: Any) -> bool:  # noqa: ANN401 - the hook's
            operator.on_kill()
            return update(*args, **kwargs)

        hook.update_endpoint = killing  # type: ignore[method-assign]
        return hook

    operator.control_plane = killed_before_the_update  # type: ignore[method-assign]
    with pytest.raises(TaskKilled):
        operator.execute(context_for())
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


@pytest.mark.skipif(not botocore_knows_pools(), reason="the installed botocore knows no InstancePools")
def test_a_change_of_pools_is_permitted_until_sagemaker_refuses_it(
    account: Account, endpoint: str, model: str
) -> None:
    """Nothing says whether it counts as another instance type: here only the way from a type to pools does."""
    before = scaling_of(account, endpoint)
    pools = [{"InstanceType": BEFORE, "Priority": 1}, {"InstanceType": AFTER, "Priority": 2}]
    variant = {"VariantName": "AllTraffic", "ModelName": model, "InstancePools": pools}
    with pytest.raises(AirflowFailException, match=r"(?s)EndpointScaled: .*must be deregistered"):
        run_task(partial(deploy, endpoint, None, production_variants=[variant]))
    run_task(partial(rescale, endpoint, None, production_variants=[variant]))
    assert scaling_of(account, endpoint) == before
    for other in (pools[:1], [{**pools[0], "Priority": 2}]):
        changed = {**variant, "InstancePools": other}
        assert run_task(partial(deploy, endpoint, None, production_variants=[changed]))["action"] == "updated"
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


class Dead(BaseException):
    """The try's process was killed: nothing that it does from now on reaches AWS."""


class Life(threading.local):
    """The number of calls that a try has left to live; None: as many as it likes."""

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
        if isinstance(client, BaseClient):  # and not the one of a wait, which only describes
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
        message = f"killed after call {number}"
        assert scaling_of(account, endpoint) == before, message
        assert notes_on(account, endpoint) == [], message
    assert killed_after > 15, "it was never killed in the midst of it"
