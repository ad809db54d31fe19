"""Ownership: a failed deployment deletes its own resources, and none that another user made or has since created."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.core.names import DEPLOYED_TAG, ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.exceptions import EndpointDeadlineExceeded, EndpointFailed, EndpointTakenOver
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from tests.endpoint_trials import control
from tests.support import (
    POLL,
    Account,
    Requests,
    TaskInstanceDouble,
    context_for,
    deferred,
    event_of,
    rebuilt,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
OTHER_RUN = "manual__2026-02-02T00:00:00+00:00"


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {
        "poll_interval": POLL,
        "max_wait_seconds": 600,
        "cleanup_wait_seconds": 600,
        "deferrable": False,
        "container_log_lines": 0,
        "aws_conn_id": None,
    }
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | arguments
    )


def delete(name: str, **arguments: Any) -> Any:  # noqa: ANN401 - what the task returns
    make = partial(
        SageMakerDeleteEndpointOperator,
        task_id="delete",
        endpoint_name=name,
        poll_interval=POLL,
        aws_conn_id=None,
        **arguments,
    )
    return run_task(make)


def other_run() -> TaskInstanceDouble:
    return TaskInstanceDouble(run_id=OTHER_RUN)


def tags_of(account: Account, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


def recreated_by_hand(account: Account, name: str, *, config: str, tags: dict[str, str]) -> None:
    """Do what a colleague does: delete the endpoint, and create it again."""
    account.sagemaker.delete_endpoint(EndpointName=name)
    account.wait_for_endpoint(name, "endpoint_deleted")
    control(account, "DELETE", "endpoints")
    account.sagemaker.create_endpoint(
        EndpointName=name,
        EndpointConfigName=config,
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    account.wait_for_endpoint(name)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    endpoint_name = unique("endpoint")
    yield endpoint_name
    control(account, "DELETE", "faults")
    control(account, "DELETE", "endpoints")
    if account.status(endpoint_name) in ("InService", "Failed", "OutOfService"):
        account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


@pytest.fixture(scope="module")
def other_model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


REPLACED = pytest.mark.parametrize(
    ("same_config", "same_tags"),
    [(False, False), (True, False), (True, True)],
    ids=["another configuration", "the same configuration", "even the same tags"],
)


class TestReplacedByHand:
    """The endpoint that a task created was deleted, and created again by a colleague, before the task ended."""

    def replace(self, account: Account, name: str, *, same_config: bool, same_tags: bool) -> float:
        described = account.sagemaker.describe_endpoint(EndpointName=name)
        config = described["EndpointConfigName"]
        if not same_config:
            (variant,) = account.sagemaker.describe_endpoint_config(EndpointConfigName=config)[
                "ProductionVariants"
            ]
            config = account.create_config(variant["ModelName"])
        tags = tags_of(account, described["EndpointArn"]) if same_tags else {}
        recreated_by_hand(account, name, config=config, tags=tags)
        return account.sagemaker.describe_endpoint(EndpointName=name)["CreationTime"].timestamp()

    @REPLACED
    @pytest.mark.parametrize("ends", ["failed", "timed out", "killed"])
    def test_a_deferred_tasks_cleanup_leaves_it(
        self, account: Account, name: str, model: str, *, ends: str, same_config: bool, same_tags: bool
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
        make = partial(deploy, name, model, deferrable=True)
        deferral = deferred(make())
        event = event_of(rebuilt(deferral.trigger))
        assert event["verdict"]["status"] == "Failed"
        created = self.replace(account, name, same_config=same_config, same_tags=same_tags)
        operator = make()
        if ends == "killed":
            operator._deployment(context_for(), event["note"])
            operator.on_kill()
        else:
            if ends == "timed out":
                event["verdict"] |= {"state": "wait", "status": "Creating"}
            with pytest.raises((EndpointFailed, EndpointDeadlineExceeded)):
                operator.execute_complete(context_for(), event)
        described = account.sagemaker.describe_endpoint(EndpointName=name)
        assert (described["EndpointStatus"], described["CreationTime"].timestamp()) == ("InService", created)
        used = described["EndpointConfigName"]
        assert account.configs(used) == [used]

    @REPLACED
    def test_a_blocking_tasks_cleanup_leaves_it(
        self,
        account: Account,
        name: str,
        model: str,
        monkeypatch: pytest.MonkeyPatch,
        *,
        same_config: bool,
        same_tags: bool,
    ) -> None:
        """The colleague is quick: between the poll that sees it Failed and the cleanup."""
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
        operator = deploy(name, model)
        result: Callable[..., Any] = operator._result
        created: list[float] = []

        def replaced_first(*arguments: Any) -> Any:  # noqa: ANN401 - handed on
            created.append(self.replace(account, name, same_config=same_config, same_tags=same_tags))
            return result(*arguments)

        monkeypatch.setattr(operator, "_result", replaced_first)
        with pytest.raises(EndpointFailed):
            operator.execute(context_for())
        described = account.sagemaker.describe_endpoint(EndpointName=name)
        assert (described["EndpointStatus"], described["CreationTime"].timestamp()) == (
            "InService",
            created[0],
        )

    def test_the_next_try_deploys_to_it_and_says_so(
        self, account: Account, name: str, model: str, other_model: str
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
        with pytest.raises(EndpointFailed):
            run_task(partial(deploy, name, model))
        account.sagemaker.create_endpoint(
            EndpointName=name, EndpointConfigName=account.create_config(other_model)
        )
        account.wait_for_endpoint(name)
        result = run_task(partial(deploy, name, model), context_for(TaskInstanceDouble(try_number=2)))
        assert result["action"] == "updated"


class TestTakenOver:
    @BOTH
    def test_another_deployments_configuration_is_no_rollback(
        self, account: Account, name: str, model: str, other_model: str, *, deferrable: bool
    ) -> None:
        make = partial(deploy, name, model, deferrable=True)
        deferral = deferred(make())
        theirs = run_task(partial(deploy, name, other_model, deferrable=deferrable), context_for(other_run()))
        with pytest.raises(AirflowFailException, match="another deployment has moved") as caught:
            make().execute_complete(context_for(), event_of(rebuilt(deferral.trigger)))
        assert isinstance(caught.value.__context__, EndpointTakenOver)
        described = account.sagemaker.describe_endpoint(EndpointName=name)
        assert described["EndpointStatus"] == "InService"
        assert described["EndpointConfigName"] == theirs["endpoint_config_name"]

    @pytest.mark.parametrize("ends", ["timed out", "killed"])
    def test_what_another_run_has_reported_as_deployed_stays(
        self, account: Account, name: str, model: str, ends: str
    ) -> None:
        """Both want the same configuration; the run that created the endpoint fails after the other's success."""
        make = partial(deploy, name, model, deferrable=True)
        note = deferred(make()).trigger.serialize()[1]["note"]
        assert run_task(partial(deploy, name, model), context_for(other_run()))["action"] == "unchanged"
        operator = make()
        if ends == "killed":
            operator._deployment(context_for(), note)
            operator.on_kill()
        else:
            verdict = {"state": "wait", "status": "Creating", "config_name": "c", "reason": "", "arn": "a"}
            with pytest.raises(EndpointDeadlineExceeded):
                operator.execute_complete(context_for(), {"status": "over", "note": note, "verdict": verdict})
        assert account.status(name) == "InService"
        assert len(account.configs(name)) == 1

    def test_an_unchanged_endpoint_is_marked_once_by_each_run(
        self, name: str, model: str, requests: Requests
    ) -> None:
        run_task(partial(deploy, name, model))
        for number in (0, 0, 1, 1):
            run = context_for(TaskInstanceDouble(run_id=f"run {number}"))
            assert run_task(partial(deploy, name, model), run)["action"] == "unchanged"
        assert requests.count()["AddTags"] == 2


class TestTagsThatCannotBeRead:
    def test_an_endpoint_that_cannot_be_marked_is_said(
        self, account: Account, name: str, model: str, requests: Requests, caplog: pytest.LogCaptureFixture
    ) -> None:
        run_task(partial(deploy, name, model))
        rule = {"operation": "ListTags", "fault": "error", "code": "AccessDeniedException"}
        control(account, "POST", "faults", [rule])
        run = context_for(TaskInstanceDouble(run_id="another"))
        assert run_task(partial(deploy, name, model), run)["action"] == "unchanged"
        assert f"endpoint {name} could not be marked as deployed by this task" in caplog.text
        assert "AddTags" not in requests.count()

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
    def test_nothing_is_deleted_and_what_stays_is_said(
        self,
        account: Account,
        name: str,
        model: str,
        requests: Requests,
        caplog: pytest.LogCaptureFixture,
        *,
        code: str,
    ) -> None:
        rule = {"operation": "ListTags", "resource": f"*{name}*", "fault": "error", "code": code}
        control(account, "POST", "faults", [rule])
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
        once = {"retries": {"total_max_attempts": 1}}
        with pytest.raises(EndpointFailed):
            run_task(partial(deploy, name, model, botocore_config=once))
        assert account.status(name) == "Failed"
        assert not [call for call in requests.changes() if call.startswith("Delete")]
        assert f"the endpoint {name} that this task created: it stays and costs money" in caplog.text


class TestConfigurations:
    @pytest.mark.parametrize("ending", ["202611281200", "0123456789ab"])
    def test_one_that_is_only_named_like_ours_stays(
        self,
        account: Account,
        name: str,
        model: str,
        ending: str,
        *,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.WARNING)
        foreign = account.create_config(model, name=f"{name}-{ending}")
        for instance_type in ("ml.m5.large", "ml.m5.xlarge"):
            run_task(partial(deploy, name, model, instance_type=instance_type, keep_configs=0))
        assert len(account.configs(name)) == 2
        log_text = caplog.text + "".join(capsys.readouterr())  # whichever way this Airflow's loggers go
        assert "left alone, since no tag shows" in log_text
        assert foreign in log_text
        delete(name)
        assert account.configs(name) == [foreign]

    def test_an_earlier_model_that_none_of_our_operators_made_stays(
        self, account: Account, name: str, model: str
    ) -> None:
        """Its configuration is ours and goes; a model of ours goes with it."""
        foreign, ours = (account.create_model(multi_model=True) for _ in range(2))
        arn = account.sagemaker.describe_model(ModelName=ours)["ModelArn"]
        account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": OWNER_TAG, "Value": "us"}])
        for earlier in (foreign, ours):
            run_task(partial(deploy, name, earlier, keep_configs=None))
        result = run_task(partial(deploy, name, model, keep_configs=0, delete_old_models=True))
        assert account.configs(name) == [result["endpoint_config_name"]]
        assert account.models(foreign) == [foreign]
        assert account.models(ours) == []

    @pytest.mark.parametrize("remover", ["tidying", "deletion", "cleanup"])
    @pytest.mark.parametrize("being_moved", [False, True], ids=["serves", "is being moved to it"])
    def test_one_that_another_endpoint_uses_stays_with_its_models(
        self, account: Account, name: str, remover: str, *, being_moved: bool
    ) -> None:
        model, last = (account.create_model(multi_model=True) for _ in range(2))
        arn = account.sagemaker.describe_model(ModelName=model)["ModelArn"]
        account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": OWNER_TAG, "Value": "us"}])
        if remover == "cleanup":
            note = deferred(deploy(name, model, deferrable=True)).trigger.serialize()[1]["note"]
            account.wait_for_endpoint(name)
        else:
            run_task(partial(deploy, name, model))
        (config,) = account.configs(name)
        blue = unique("blue")
        first = account.create_config(last) if being_moved else config
        account.sagemaker.create_endpoint(EndpointName=blue, EndpointConfigName=first)
        account.wait_for_endpoint(blue)
        if being_moved:
            control(account, "PUT", f"endpoints/{blue}/next", {"on": "update", "seconds": 3600})
            account.sagemaker.update_endpoint(EndpointName=blue, EndpointConfigName=config)
        try:
            if remover == "tidying":
                run_task(partial(deploy, name, last, keep_configs=0, delete_old_models=True))
            elif remover == "deletion":
                result = delete(name, delete_models=True)
                assert result["deleted"] == [f"endpoint {name}"]
            else:
                operator = deploy(name, model, deferrable=True)
                operator._deployment(context_for(), note)
                operator.on_kill()
                account.wait_for_endpoint(name, "endpoint_deleted")
            assert config in account.configs(name)
            assert account.models(model) == [model]
        finally:
            if not being_moved:
                account.sagemaker.delete_endpoint(EndpointName=blue)

    def test_where_nothing_shows_who_uses_them_they_stay(
        self, account: Account, name: str, model: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        run_task(partial(deploy, name, model))
        configs = account.configs(name)
        rule = {"operation": "ListEndpoints", "fault": "error", "code": "AccessDeniedException"}
        control(account, "POST", "faults", [rule])
        assert delete(name)["deleted"] == [f"endpoint {name}"]
        control(account, "DELETE", "faults")
        assert account.configs(name) == configs
        assert "it is not known whether an endpoint uses them" in caplog.text
        assert delete(name)["deleted"] == [f"endpoint configuration {config}" for config in configs]


class TestDeletion:
    def test_a_foreign_model_stays_unless_it_is_named(
        self, account: Account, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        foreign = account.create_model(multi_model=True)
        run_task(partial(deploy, name, foreign))
        delete(name, delete_models=True, delete_config=False)
        assert account.models(foreign) == [foreign]
        assert f"none of our operators made them: models {foreign}" in caplog.text
        assert f"model {foreign}" in delete(name, model_names=[foreign])["deleted"]
        assert account.models(foreign) == []

    def test_one_created_again_while_it_is_waited_for_stays(
        self, account: Account, name: str, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the request and the next poll, another deployment has created it again, the same way."""
        from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

        run_task(partial(deploy, name, model))
        request: Callable[..., bool] = SageMakerControlPlaneHook.request_deletion

        def and_deployed_again(hook: SageMakerControlPlaneHook, endpoint: str) -> bool:
            monkeypatch.setattr(SageMakerControlPlaneHook, "request_deletion", request)
            response = request(hook, endpoint)
            run_task(partial(deploy, name, model), context_for(other_run()))
            return response

        monkeypatch.setattr(SageMakerControlPlaneHook, "request_deletion", and_deployed_again)
        assert delete(name)["deleted"] == [f"endpoint {name}"]
        assert account.status(name) == "InService"
        assert len(account.configs(name)) == 1


class TestRecreate:
    def test_what_serves_by_now_is_not_deleted(
        self, account: Account, name: str, model: str, other_model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow_sm_plugin.endpoints.deployment import Deployment

        config = account.create_config(other_model)
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        while account.status(name) == "Creating":
            time.sleep(POLL)
        delete_failed: Callable[..., None] = Deployment._delete_failed

        def after_the_colleague(deployment: Deployment, description: Any) -> None:  # noqa: ANN401 - handed on
            recreated_by_hand(account, name, config=config, tags={})
            delete_failed(deployment, description)

        monkeypatch.setattr(Deployment, "_delete_failed", after_the_colleague)
        result = run_task(partial(deploy, name, model, on_failed="recreate"))
        assert result["action"] == "updated"


class TestModels:
    def test_one_created_again_under_its_name_is_deployed_again(self, account: Account, name: str) -> None:
        model = account.create_model(multi_model=True)
        first = run_task(partial(deploy, name, model))
        assert run_task(partial(deploy, name, model))["action"] == "unchanged"
        account.sagemaker.delete_model(ModelName=model)
        account.create_model(name=model, multi_model=True)
        again = run_task(partial(deploy, name, model))
        assert again["action"] == "updated"
        assert again["endpoint_config_name"] != first["endpoint_config_name"]
        assert run_task(partial(deploy, name, model))["action"] == "unchanged"

    def test_one_created_again_during_a_deferral_does_not_confuse_the_task(
        self, account: Account, name: str
    ) -> None:
        model = account.create_model(multi_model=True)
        make = partial(deploy, name, model, deferrable=True)
        deferral = deferred(make())
        account.sagemaker.delete_model(ModelName=model)
        account.create_model(name=model, multi_model=True)
        result = make().execute_complete(context_for(), event_of(rebuilt(deferral.trigger)))
        assert account.configs(name) == [result["endpoint_config_name"]]
        assert run_task(make)["action"] == "updated"

    def test_one_that_may_not_be_described_is_reported_by_its_name_alone(
        self, account: Account, name: str, model: str
    ) -> None:
        rule = {"operation": "DescribeModel", "fault": "error", "code": "AccessDeniedException"}
        control(account, "POST", "faults", [rule])
        assert run_task(partial(deploy, name, model))["action"] == "created"
        assert run_task(partial(deploy, name, model))["action"] == "unchanged"


class TestTags:
    def test_what_is_created_shows_whose_it_is(self, account: Account, name: str, model: str) -> None:
        result = run_task(partial(deploy, name, model, tags={"team": "churn"}))
        endpoint = tags_of(account, result["endpoint_arn"])
        config = account.sagemaker.describe_endpoint_config(EndpointConfigName=result["endpoint_config_name"])
        theirs = tags_of(account, config["EndpointConfigArn"])
        assert endpoint["team"] == theirs["team"] == "churn"
        assert endpoint[OWNER_TAG] == theirs[OWNER_TAG]
        assert endpoint[DEPLOYED_TAG] == f"{endpoint[OWNER_TAG]}/1"
        assert theirs[ENDPOINT_TAG] == name

    def test_too_many_are_refused_before_anything_is_sent(
        self, name: str, model: str, requests: Requests
    ) -> None:
        tags = {f"t{number}": "v" for number in range(49)}
        with pytest.raises(AirflowFailException, match="has 49 tags, SageMaker takes 50, and 4 of them"):
            run_task(partial(deploy, name, model, tags=tags))
        assert not requests.count()
