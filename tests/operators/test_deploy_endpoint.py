"""DeployEndpoint: created, updated or left alone; what fails is cleaned up, what was found is not touched."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import (
    EndpointDeadlineExceeded,
    EndpointFailed,
    EndpointRolledBack,
    EndpointUnchangeable,
    ModelNotFound,
    Throttled,
)
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from tests.endpoint_trials import control
from tests.releases import calls_from_now, described_times, once
from tests.support import (
    BROKEN,
    ECHO,
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
LINK = "sagemaker_endpoint_link"
NEVER = 3600
"""Seconds that no test waits for: what takes so long goes on until its setting is changed, or the service ends."""


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {
        "poll_interval": POLL,
        "max_wait_seconds": 600,
        "deferrable": False,
        "aws_conn_id": None,
    }
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | arguments
    )


def second_try() -> TaskInstanceDouble:
    return TaskInstanceDouble(try_number=2)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    """An endpoint's name; what has it in the end is deleted."""
    endpoint_name = unique("endpoint")
    yield endpoint_name
    control(account, "DELETE", "endpoints")
    if account.status(endpoint_name) in ("InService", "Failed"):
        account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model(ECHO)


@pytest.fixture(scope="module")
def light_model(module_account: Account) -> str:
    """A model whose endpoint takes just as long as the settings say."""
    return module_account.create_model(multi_model=True)


@pytest.fixture(scope="module")
def artless_model(module_account: Account) -> str:
    """A model whose archive is no longer in S3: its endpoint ends Failed."""
    return module_account.create_model_without_artefact()


@pytest.fixture(scope="module")
def broken_model(module_account: Account) -> str:
    """A model whose code cannot be imported: an update to it is rolled back."""
    return module_account.create_model(BROKEN)


STRUCK_MID_REQUEST = "ignore::pytest.PytestUnraisableExceptionWarning"
"""A signal may strike in the middle of a request and leave its socket to the garbage collector."""


class Killed(BaseException):
    """Like Airflow's own for a SIGTERM and for an execution time-out: no Exception."""


@contextmanager
def fault(account: Account, rule: dict[str, Any]) -> Iterator[None]:
    """Have the embedded SageMaker follow a rule of its fault plan in the block."""
    control(account, "POST", "faults", [rule])
    try:
        yield
    finally:
        control(account, "DELETE", "faults")


def killed_once_created(account: Account, name: str) -> AbstractContextManager[None]:
    """Raise :class:`Killed` in the block, from a signal, when the endpoint is being created; see that it comes out."""

    def kill(_: object) -> None:
        raise Killed

    return when_created(account, name, kill)


@contextmanager
def when_created(account: Account, name: str, kill: Callable[[object], None]) -> Iterator[None]:
    """Call ``kill`` in the block, from a signal, when the endpoint is being created; it must raise :class:`Killed`."""

    def watch() -> None:
        while not over.is_set():
            if account.status(name) == "Creating":
                os.kill(os.getpid(), signal.SIGUSR1)
                return

    before = signal.signal(signal.SIGUSR1, lambda number, _frame: kill(number))
    over, watcher = threading.Event(), threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(Killed):
            yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


def created(account: Account) -> Callable[[], None]:
    """Return what ends every creation at once, inside of an ``account.settings`` block."""
    return partial(account.change_settings, endpoint_creating_seconds=0)


def cleaning_up(account: Account, name: str) -> Callable[[], bool]:
    """Return what says whether a deployment has asked by now whose the endpoint is: what cleans up does so first."""
    asked = calls_from_now(account, "ListTags", f"*:endpoint/{name}")
    return lambda: bool(asked())


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed task cleans up for 20 seconds, in which a busy machine may do little."""
    monkeypatch.setattr("airflow_sm_plugin.endpoints.cleanup._HURRIED_SECONDS", 600.0)


class TestCreate:
    @BOTH
    def test_an_asynchronous_endpoint_is_created_and_serves(
        self, account: Account, name: str, model: str, requests: Requests, deferrable: bool
    ) -> None:
        output = f"s3://{account.bucket}/{name}/out"
        ti = TaskInstanceDouble()

        result = run_task(
            partial(deploy, name, model, async_output_path=output, deferrable=deferrable), context_for(ti)
        )

        described = account.sagemaker.describe_endpoint(EndpointName=name)
        assert result == {
            "endpoint_name": name,
            "endpoint_arn": described["EndpointArn"],
            "endpoint_config_name": described["EndpointConfigName"],
            "status": "InService",
            "action": "created",
        }
        assert json.loads(json.dumps(result)) == result
        assert described["EndpointStatus"] == "InService"
        assert described["AsyncInferenceConfig"]["OutputConfig"] == {"S3OutputPath": output}
        assert requests.changes() == ["CreateEndpointConfig", "CreateEndpoint"]
        assert ti.xcom[LINK] == {
            "region_name": "us-east-1",
            "endpoint_name": name,
            "pages": f"{account.url}/_embedded/ui/",
        }

    def test_every_argument_reaches_the_configuration(
        self, account: Account, name: str, light_model: str
    ) -> None:
        topic = "arn:aws:sns:us-east-1:123456789012:"
        root = f"s3://{account.bucket}/{name}"
        result = run_task(
            partial(
                deploy,
                name,
                light_model,
                instance_type="ml.c5.large",
                initial_instance_count="2",  # what a template renders to
                variant_name="blue",
                async_output_path=f"{root}/out",
                async_failure_path=f"{root}/failed",
                async_success_topic=f"{topic}good",
                async_error_topic=f"{topic}bad",
                max_concurrent_invocations_per_instance=3,
                kms_key_id="alias/results",
                tags={"team": "churn"},
            )
        )
        config = account.sagemaker.describe_endpoint_config(EndpointConfigName=result["endpoint_config_name"])
        (variant,) = config["ProductionVariants"]
        assert (variant["VariantName"], variant["InstanceType"], variant["InitialInstanceCount"]) == (
            "blue",
            "ml.c5.large",
            2,
        )
        assert config["AsyncInferenceConfig"] == {
            "OutputConfig": {
                "S3OutputPath": f"{root}/out",
                "S3FailurePath": f"{root}/failed",
                "KmsKeyId": "alias/results",
                "NotificationConfig": {"SuccessTopic": f"{topic}good", "ErrorTopic": f"{topic}bad"},
            },
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 3},
        }
        tags = account.sagemaker.list_tags(ResourceArn=result["endpoint_arn"])["Tags"]
        assert {"Key": "team", "Value": "churn"} in tags

    def test_an_endpoint_that_serves_already_is_left_alone(
        self, name: str, light_model: str, requests: Requests
    ) -> None:
        first = run_task(partial(deploy, name, light_model))
        requests.forget()
        second = run_task(partial(deploy, name, light_model, deferrable=True))
        assert second == first | {"action": "unchanged"}
        assert requests.changes() == []

    @BOTH
    def test_without_waiting_the_task_ends_while_the_endpoint_is_created(
        self, account: Account, name: str, light_model: str, deferrable: bool
    ) -> None:
        with account.settings(endpoint_creating_seconds=NEVER):
            operator = deploy(name, light_model, deferrable=deferrable, wait_for_completion=False)
            result = operator.execute(context_for())
        assert (result["status"], result["action"]) == ("Creating", "created")

    def test_a_triggerer_that_restarts_in_the_middle_goes_on(
        self, account: Account, name: str, light_model: str, requests: Requests
    ) -> None:
        operator = deploy(name, light_model, deferrable=True)
        trigger = deferred(operator).trigger
        account.wait_for_endpoint(name)
        control(account, "PUT", f"endpoints/{name}/status", {"status": "Creating"})
        requests.forget()

        async def begin_and_die() -> None:
            first = asyncio.ensure_future(anext(rebuilt(trigger).run()))
            # Before its first poll it may still be making its client, which cancelled leaves a coroutine unawaited.
            async with asyncio.timeout(600):
                while not requests.count()["DescribeEndpoint"]:  # noqa: ASYNC110 - another process's log
                    await asyncio.sleep(POLL)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert first.cancelled()

        asyncio.run(begin_and_die())
        control(account, "PUT", f"endpoints/{name}/status", {"status": "InService"})
        result = deploy(name, light_model, deferrable=True).execute_complete(
            context_for(), event_of(rebuilt(trigger))
        )
        assert (result["status"], result["action"]) == ("InService", "created")


class TestInProgress:
    def test_creating_with_another_configuration_is_waited_out_and_then_updated(
        self, account: Account, name: str, light_model: str, requests: Requests
    ) -> None:
        with account.settings(endpoint_creating_seconds=NEVER):
            account.start_endpoint(name=name)
            with once(described_times(account, name, 2), created(account)):
                result = run_task(partial(deploy, name, light_model))
        assert (result["status"], result["action"]) == ("InService", "updated")
        assert requests.changes()[-2:] == ["CreateEndpointConfig", "UpdateEndpoint"]

    def test_deleting_is_waited_out_and_then_created_again(
        self, account: Account, name: str, light_model: str
    ) -> None:
        run_task(partial(deploy, name, light_model))
        with account.settings(endpoint_deleting_seconds=NEVER):
            account.sagemaker.delete_endpoint(EndpointName=name)
            deleted = partial(account.change_settings, endpoint_deleting_seconds=0)
            with once(described_times(account, name, 2), deleted):
                result = run_task(partial(deploy, name, light_model))
        assert (result["status"], result["action"]) == ("InService", "created")

    def test_what_does_not_end_in_time_is_left_alone(
        self, account: Account, name: str, light_model: str, requests: Requests
    ) -> None:
        config = account.create_config(light_model)
        with account.settings(endpoint_creating_seconds=NEVER):
            account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
            requests.forget()
            with pytest.raises(
                EndpointDeadlineExceeded, match=f"endpoint {name} was still Creating after 200 ms"
            ):
                run_task(partial(deploy, name, light_model, max_wait_seconds=0.2))
        assert requests.changes() == []


class TestFailure:
    @BOTH
    def test_an_endpoint_that_fails_is_cleaned_up_and_the_reason_reported(
        self, account: Account, name: str, artless_model: str, deferrable: bool
    ) -> None:
        ti = TaskInstanceDouble()
        with pytest.raises(EndpointFailed) as caught:
            run_task(partial(deploy, name, artless_model, deferrable=deferrable), context_for(ti))
        assert f"endpoint {name} is Failed" in str(caught.value)
        assert "/deleted-" in str(caught.value)  # SageMaker's reason
        assert account.status(name) is None
        assert account.configs(name) == []
        assert ti.xcom[LINK]["endpoint_name"] == name  # a failed task needs its links most

    def test_cleaning_up_can_be_switched_off(self, account: Account, name: str, artless_model: str) -> None:
        with pytest.raises(EndpointFailed):
            run_task(partial(deploy, name, artless_model, cleanup_on_failure=False))
        assert account.status(name) == "Failed"
        assert len(account.configs(name)) == 1

    @BOTH
    def test_an_endpoint_that_takes_too_long_is_cleaned_up(
        self, account: Account, name: str, light_model: str, deferrable: bool
    ) -> None:
        with (
            account.settings(endpoint_creating_seconds=NEVER),
            once(cleaning_up(account, name), created(account)),
            pytest.raises(EndpointDeadlineExceeded) as caught,
        ):
            run_task(partial(deploy, name, light_model, max_wait_seconds=1, deferrable=deferrable))
        assert str(caught.value).startswith(f"endpoint {name} was still Creating after 1 s\n")
        assert "Do: raise max_wait_seconds" in str(caught.value)
        assert "costs money" not in str(caught.value)  # nothing is left that does
        assert account.status(name) is None
        assert account.configs(name) == []

    def test_cleaning_up_waits_longer_than_the_wait_that_was_too_short(
        self, account: Account, name: str, light_model: str
    ) -> None:
        asked = calls_from_now(account, "ListTags", f"*:endpoint/{name}")
        polls = calls_from_now(account, "DescribeEndpoint", name)

        def has_waited() -> bool:
            """Ten polls since it has begun to clean up take longer than the wait was."""
            began = [call["sequence"] for call in asked()[:1]]
            return bool(began) and sum(poll["sequence"] > began[0] for poll in polls()) >= 10

        with (
            account.settings(endpoint_creating_seconds=NEVER),
            once(has_waited, created(account)),
            pytest.raises(EndpointDeadlineExceeded),
        ):
            run_task(partial(deploy, name, light_model, max_wait_seconds=0.1))
        assert account.status(name) is None
        assert account.configs(name) == []

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("poll_interval", -1),
            ("poll_interval", 0),
            ("max_wait_seconds", "soon"),
            ("container_log_lines", "x"),
            ("container_log_lines", -1),
        ],
    )
    def test_a_number_that_is_none_is_refused_before_anything_is_sent(
        self, name: str, light_model: str, requests: Requests, argument: str, value: object
    ) -> None:
        with pytest.raises(AirflowFailException, match=f"{argument} must be"):
            run_task(partial(deploy, name, light_model, **{argument: value}))
        assert not requests.count()

    def test_what_cannot_be_cleaned_up_in_time_is_said(
        self, account: Account, name: str, light_model: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with account.settings(endpoint_creating_seconds=NEVER):
            with pytest.raises(EndpointDeadlineExceeded):
                run_task(partial(deploy, name, light_model, max_wait_seconds=0.1, cleanup_wait_seconds=0.1))
            assert account.status(name) == "Creating"
        assert f"could not clean up the endpoint {name} that this task created: it stays and costs money" in (
            caplog.text
        )

    @pytest.mark.filterwarnings(STRUCK_MID_REQUEST)
    def test_a_kill_asks_once_and_says_that_the_endpoint_stays(
        self,
        account: Account,
        name: str,
        light_model: str,
        requests: Requests,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Whoever kills the task does not wait until SageMaker lets the endpoint be deleted."""
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "seconds": NEVER})
        operator = deploy(name, light_model, cleanup_wait_seconds=NEVER)

        def kill(_: object) -> None:
            operator.on_kill()
            raise Killed

        with when_created(account, name, kill):
            operator.execute(context_for())

        assert f"could not clean up the endpoint {name} that this task created: it stays and costs money" in (
            caplog.text
        )
        assert requests.count()["DeleteEndpoint"] == 1
        assert account.status(name) == "Creating"
        assert len(account.configs(name)) == 1

    @pytest.mark.filterwarnings(STRUCK_MID_REQUEST)
    @pytest.mark.usefixtures("unhurried")
    def test_a_task_that_is_killed_while_it_waits_cleans_up(
        self, account: Account, name: str, light_model: str, requests: Requests
    ) -> None:
        with (
            account.settings(endpoint_creating_seconds=NEVER),
            once(cleaning_up(account, name), created(account)),
            killed_once_created(account, name),
        ):
            deploy(name, light_model).execute(context_for())
        assert requests.changes() == [
            "CreateEndpointConfig",
            "CreateEndpoint",
            "DeleteEndpoint",
            "DeleteEndpointConfig",
        ]
        assert account.status(name) is None
        assert account.configs(name) == []

    @pytest.mark.usefixtures("unhurried")
    def test_a_task_that_is_killed_before_it_hears_that_the_endpoint_is_created_cleans_up(
        self, account: Account, name: str, light_model: str
    ) -> None:
        unheard = {
            "operation": "sagemaker:CreateEndpoint",
            "fault": "lost_answer",
            "seconds": NEVER,
            "times": 1,
        }
        with (
            account.settings(endpoint_creating_seconds=NEVER),
            fault(account, unheard),
            once(cleaning_up(account, name), created(account)),
            killed_once_created(account, name),
        ):
            deploy(name, light_model).execute(context_for())
        assert account.status(name) is None
        assert account.configs(name) == []

    @pytest.mark.parametrize("error", ["Throttled", "AccessDenied", "ServiceUnavailable", "SomeBug"])
    def test_a_trigger_that_cannot_poll_leaves_the_endpoint_to_the_retry_which_goes_on_with_it(
        self, account: Account, name: str, light_model: str, error: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A failed poll says nothing of the endpoint, which is being created well."""
        make = partial(deploy, name, light_model, deferrable=True)
        with account.settings(endpoint_creating_seconds=NEVER):
            note = deferred(make()).trigger.serialize()[1]["note"]
            event = {"status": "error", "error": error, "message": "Rate exceeded", "note": note}
            with (
                once(described_times(account, name, 3), created(account)),
                pytest.raises(Exception, match=f"waiting for endpoint {name}: Rate exceeded"),
            ):
                make().execute_complete(context_for(), event)
        assert f"the endpoint {name} that this task created: it stays and costs money" in caplog.text

        result = run_task(make, context_for(second_try()))
        described = account.sagemaker.describe_endpoint(EndpointName=name)
        assert described["CreationTime"].timestamp() == note["created_at"]
        assert account.configs(name) == [result["endpoint_config_name"]]

    def test_a_trigger_that_cannot_poll_is_no_reason_to_keep_a_failed_endpoint(
        self, account: Account, name: str, artless_model: str
    ) -> None:
        make = partial(deploy, name, artless_model, deferrable=True)
        note = deferred(make()).trigger.serialize()[1]["note"]
        while account.status(name) == "Creating":
            time.sleep(POLL)
        event = {"status": "error", "error": "Throttled", "message": "Rate exceeded", "note": note}
        with pytest.raises(Throttled):
            make().execute_complete(context_for(), event)
        assert (account.status(name), account.configs(name)) == (None, [])


@contextmanager
def killed_first_try(account: Account, name: str, model: str, progress: str) -> Iterator[str]:
    """Have what a try leaves that is killed once it has made its configuration, its endpoint, or all.

    Yield the configuration's name. An endpoint is Creating until the block has described it twice.
    """
    with account.settings(endpoint_creating_seconds=NEVER), ExitStack() as stack:
        deploy(name, model, wait_for_completion=False).execute(context_for())
        (config,) = account.configs(name)
        if progress == "endpoint":
            stack.enter_context(once(described_times(account, name, 2), created(account)))
        else:
            created(account)()
            while account.status(name) == "Creating":
                time.sleep(POLL)
        if progress == "configuration":
            account.sagemaker.delete_endpoint(EndpointName=name)
            account.wait_for_endpoint(name, "endpoint_deleted")
        yield config


class TestRetry:
    """A first try that was killed: what it had made is found, neither made twice nor left behind."""

    @pytest.mark.parametrize("progress", ["configuration", "endpoint", "ended"])
    @BOTH
    def test_it_goes_on_where_the_first_stopped(
        self, account: Account, name: str, light_model: str, *, progress: str, deferrable: bool
    ) -> None:
        with killed_first_try(account, name, light_model, progress) as config:
            result = run_task(
                partial(deploy, name, light_model, deferrable=deferrable), context_for(second_try())
            )

        assert result["status"] == "InService"
        assert result["action"] == ("unchanged" if progress == "ended" else "created")
        assert account.configs(name) == [result["endpoint_config_name"]] == [config]

    @pytest.mark.parametrize("progress", ["configuration", "endpoint", "ended"])
    def test_it_completes_the_cleaning_up(
        self, account: Account, name: str, artless_model: str, progress: str
    ) -> None:
        with (
            killed_first_try(account, name, artless_model, progress),
            pytest.raises(EndpointFailed, match=r"deleted-\w+/model\.tar\.gz"),
        ):
            run_task(partial(deploy, name, artless_model), context_for(second_try()))

        assert account.status(name) is None
        assert account.configs(name) == []

    def test_a_first_try_deletes_nothing_that_it_found(
        self, account: Account, name: str, artless_model: str
    ) -> None:
        another = context_for(TaskInstanceDouble(task_id="another_task"))
        with (
            killed_first_try(account, name, artless_model, "endpoint") as config,
            pytest.raises(EndpointFailed, match="is Failed"),
        ):
            run_task(partial(deploy, name, artless_model), another)
        assert account.status(name) == "Failed"
        assert account.configs(name) == [config]

    def test_a_failed_endpoint_of_another_user_is_not_retried_and_stays(
        self, account: Account, name: str, artless_model: str, light_model: str, requests: Requests
    ) -> None:
        config = account.create_config(artless_model)
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        while account.status(name) == "Creating":
            time.sleep(POLL)
        requests.forget()
        for ti in (TaskInstanceDouble(), second_try()):
            with pytest.raises(AirflowFailException) as caught:
                run_task(partial(deploy, name, light_model), context_for(ti))
            assert isinstance(caught.value.__context__, EndpointUnchangeable)
            assert f"endpoint {name} is Failed with configuration {config} and cannot be changed" in str(
                caught.value
            )
            assert "Do: delete it first (SageMakerDeleteEndpointOperator does)" in str(caught.value)
        assert requests.changes() == []


class TestUpdate:
    def test_a_change_moves_the_endpoint_to_a_new_configuration(
        self, account: Account, name: str, light_model: str
    ) -> None:
        first = run_task(partial(deploy, name, light_model))
        second = run_task(partial(deploy, name, light_model, instance_type="ml.c5.large"))
        assert (second["action"], second["endpoint_arn"]) == ("updated", first["endpoint_arn"])
        assert (
            account.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
            == (second["endpoint_config_name"])
        )
        assert second["endpoint_config_name"] != first["endpoint_config_name"]
        assert len(account.configs(name)) == 2  # the old one is there to go back to

    @BOTH
    def test_a_silent_rollback_is_an_error_and_its_configuration_is_removed(
        self,
        account: Account,
        name: str,
        light_model: str,
        broken_model: str,
        *,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
        deferrable: bool,
    ) -> None:
        caplog.set_level(logging.INFO, logger="airflow.task")
        first = run_task(partial(deploy, name, light_model))
        with pytest.raises(AirflowFailException) as caught:
            run_task(partial(deploy, name, broken_model, deferrable=deferrable))
        assert isinstance(caught.value.__context__, EndpointRolledBack)
        assert f"it serves {first['endpoint_config_name']}" in str(caught.value)
        assert "Reason: " in str(caught.value)
        assert f"did not take configuration {name}-" in str(caught.value)
        assert "then run the task again" in str(caught.value)
        log_text = caplog.text + "".join(capsys.readouterr())  # whichever way this Airflow's loggers go
        assert f"last lines of /aws/sagemaker/Endpoints/{name}" in log_text
        assert "RuntimeError: this handler cannot be imported" in log_text
        assert account.status(name) == "InService"
        assert account.configs(name) == [first["endpoint_config_name"]]

    def test_an_update_that_takes_too_long_keeps_the_configuration_it_needs(
        self, account: Account, name: str, light_model: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        run_task(partial(deploy, name, light_model))
        with account.settings(endpoint_updating_seconds=NEVER), pytest.raises(EndpointDeadlineExceeded):
            run_task(partial(deploy, name, light_model, instance_type="ml.c5.large", max_wait_seconds=0.5))
        assert len(account.configs(name)) == 2
        assert f"stays: endpoint {name} uses it" in caplog.text
        account.wait_for_endpoint(name)

    def test_an_update_that_ends_while_it_is_cleaned_up_after_keeps_its_configuration(
        self, account: Account, name: str, light_model: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        run_task(partial(deploy, name, light_model))
        make = partial(deploy, name, light_model, instance_type="ml.c5.large", deferrable=True)
        with account.settings(endpoint_updating_seconds=NEVER):
            trigger: Any = deferred(make()).trigger
            event = event_of(type(trigger)(**trigger.serialize()[1] | {"deadline": time.time()}))
            updated = partial(account.change_settings, endpoint_updating_seconds=0)
            # Without a wait, cleaning up describes it four times at most: its owner, whether it is at rest, what
            # it uses, and once more; so the fifth poll belongs to a wait. No tags are read: the endpoint has served.
            with once(described_times(account, name, 5), updated), pytest.raises(EndpointDeadlineExceeded):
                make().execute_complete(context_for(), event)
        assert account.status(name) == "InService"
        assert len(account.configs(name)) == 2
        assert f"stays: endpoint {name} uses it" in caplog.text


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"endpoint_name": "e" * 64}, "has 64 characters, SageMaker takes up to 63: shorten it"),
            ({"endpoint_name": "my_endpoint"}, "the endpoint name 'my_endpoint' holds '_'"),
            ({"model_name": "a.model"}, "the model name 'a.model' holds '.'"),
            ({"model_name": ""}, "give either model_name (one variant) or production_variants"),
            ({"variant_name": "-blue"}, "begins or ends with a hyphen"),
            ({"instance_type": "m5.large"}, "must look like ml.m5.xlarge, not 'm5.large'"),
            ({"initial_instance_count": 0}, "initial_instance_count must be 1 or more, not 0"),
            ({"initial_instance_count": "two"}, "must be a whole number, not 'two'"),
            (
                {"async_failure_path": "s3://bucket/failed"},
                "an asynchronous endpoint needs async_output_path (s3://bucket/prefix)",
            ),
            ({"async_output_path": "/tmp/out"}, "async_output_path must look like s3://bucket/key"),  # noqa: S108 - refused
            (
                {"async_output_path": "s3://b/o", "async_failure_path": "s3:///f"},
                "async_failure_path has no bucket",
            ),
            (
                {"async_output_path": "s3://b/o", "max_concurrent_invocations_per_instance": 1001},
                "is 1001, SageMaker takes 1 to 1000",
            ),
        ],
    )
    def test_a_broken_limit_is_reported_before_anything_is_created(
        self, requests: Requests, arguments: dict[str, Any], says: str
    ) -> None:
        all_arguments = {"endpoint_name": "endpoint", "model_name": "model"} | arguments
        operator = SageMakerDeployEndpointOperator(task_id="deploy", aws_conn_id=None, **all_arguments)
        with pytest.raises(AirflowFailException) as caught:
            operator.execute(context_for())
        assert says in str(caught.value)
        assert not requests.count()

    def test_a_model_that_does_not_exist(self, account: Account, name: str) -> None:
        with pytest.raises(AirflowFailException) as caught:
            run_task(partial(deploy, name, "no-such-model"))
        assert isinstance(caught.value.__context__, ModelNotFound)
        assert "there is no SageMaker model no-such-model in us-east-1\nDo: create it first" in str(
            caught.value
        )
        assert (account.status(name), account.configs(name)) == (None, [])

    def test_a_model_deleted_since_its_configuration_was_made(self, account: Account, name: str) -> None:
        model = account.create_model()
        with killed_first_try(account, name, model, "configuration"):
            account.sagemaker.delete_model(ModelName=model)
        with pytest.raises(AirflowFailException, match="there is no SageMaker model") as caught:
            run_task(partial(deploy, name, model))
        assert isinstance(caught.value.__context__, ModelNotFound)
        assert account.status(name) is None
