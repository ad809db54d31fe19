"""A deployment's waits: out of the way of others, for every status's right end, and no longer than its limit."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.core.names import ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.exceptions import (
    EndpointDeadlineExceeded,
    EndpointFailed,
    EndpointRolledBack,
    EndpointUnchangeable,
    Throttled,
)
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.triggers.endpoint import (
    EndpointChangeableTrigger,
    EndpointServingTrigger,
    EndpointTrigger,
)
from tests.endpoint_trials import call_log, control
from tests.releases import described_times, once
from tests.support import (
    POLL,
    Account,
    Answer,
    Requests,
    TaskDeferred,
    TaskInstanceDouble,
    answering,
    context_for,
    deferred,
    event_of,
    rebuilt,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
ONCE = {"retries": {"mode": "standard", "total_max_attempts": 1}}
Make = Callable[[], SageMakerDeployEndpointOperator]


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"poll_interval": POLL, "max_wait_seconds": 600, "aws_conn_id": None}
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | {"deferrable": True} | arguments
    )


def resumed(make: Make, deferral: TaskDeferred, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - or what the task returns
    """Go on after a deferral, in a new operator; return the next deferral, or the task's result."""
    operator = make()
    try:
        return getattr(operator, deferral.method_name)(context_for(), event=dict(event))
    except TaskDeferred as again:
        return again


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    """A model whose endpoint takes just as long as the settings say."""
    return module_account.create_model(multi_model=True)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    """An endpoint's name; what has it in the end is deleted."""
    endpoint_name = unique("endpoint")
    yield endpoint_name
    control(account, "DELETE", "endpoints")
    if account.status(endpoint_name) not in (
        None,
        "Creating",
        "Updating",
        "Deleting",
        "SystemUpdating",
        "RollingBack",
    ):
        account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


@pytest.fixture
def serving(account: Account, name: str, model: str) -> str:
    """An endpoint of another user that serves another configuration; returns its configuration's name."""
    config = account.create_config(model)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    account.wait_for_endpoint(name)
    return config


@pytest.fixture
def busy(account: Account, name: str, serving: str) -> Iterator[Callable[[], None]]:
    """An endpoint of another user that is Creating until this is called, or the test is over."""
    control(account, "PUT", f"endpoints/{name}/status", {"status": "Creating"})
    yield partial(free, account, name)
    if account.status(name) == "Creating":
        free(account, name)


def free(account: Account, name: str) -> None:
    """End what an endpoint was put into."""
    control(account, "PUT", f"endpoints/{name}/status", {"status": "InService"})


def an_hour_later(trigger: Any) -> Any:  # noqa: ANN401 - one of ours
    """Return the same trigger as it is an hour later: its deadlines are that much nearer."""
    arguments = trigger.serialize()[1]
    note = arguments["note"]
    earlier = {
        "deadline": arguments["deadline"] - 3600,
        "note": {**note, "deadline": note["deadline"] - 3600},
    }
    return type(trigger)(**arguments | earlier)


class TestDeferredWaitOut:
    """Another user's work in progress is waited out in the triggerer, not in the worker."""

    def test_the_worker_is_free_while_another_user_creates_the_endpoint(
        self, account: Account, name: str, model: str, busy: Callable[[], None], requests: Requests
    ) -> None:
        make = partial(deploy, name, model)
        requests.forget()
        first = deferred(make())
        assert isinstance(first.trigger, EndpointChangeableTrigger)
        # One poll of each and nothing else: it neither waited nor made anything.
        assert dict(requests.count()) == {"DescribeModel": 1, "DescribeEndpoint": 1}
        busy()

        second = resumed(make, first, event_of(rebuilt(first.trigger)))
        assert isinstance(second.trigger, EndpointServingTrigger)
        assert requests.changes() == ["CreateEndpointConfig", "UpdateEndpoint"]

        result = resumed(make, second, event_of(rebuilt(second.trigger)))
        assert (result["status"], result["action"]) == ("InService", "updated")
        described = account.sagemaker.describe_endpoint(EndpointName=name)
        assert described["EndpointConfigName"] == result["endpoint_config_name"]

    @pytest.mark.usefixtures("serving")
    def test_what_is_being_deleted_is_created_again_when_it_is_gone(
        self, account: Account, name: str, model: str
    ) -> None:
        with account.settings(endpoint_deleting_seconds=3600):
            account.sagemaker.delete_endpoint(EndpointName=name)
            assert isinstance(deferred(deploy(name, model)).trigger, EndpointChangeableTrigger)
            with once(
                described_times(account, name, 3),
                partial(account.change_settings, endpoint_deleting_seconds=0),
            ):
                result = run_task(partial(deploy, name, model))
        assert (result["status"], result["action"]) == ("InService", "created")

    @pytest.mark.usefixtures("serving")
    def test_a_failed_endpoint_is_recreated_without_a_worker_that_waits(
        self, account: Account, name: str, model: str
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/status", {"status": "Failed"})
        with account.settings(endpoint_deleting_seconds=3600):
            make = partial(deploy, name, model, on_failed="recreate")
            first = deferred(make())
            assert isinstance(first.trigger, EndpointChangeableTrigger)
            assert account.status(name) == "Deleting"
            with once(
                described_times(account, name, 1),
                partial(account.change_settings, endpoint_deleting_seconds=0),
            ):
                event = event_of(rebuilt(first.trigger))
            second = resumed(make, first, event)
        result = resumed(make, second, event_of(rebuilt(second.trigger)))
        assert (result["status"], result["action"]) == ("InService", "created")

    def test_without_waiting_for_completion_it_still_acts_only_when_it_may(
        self, account: Account, name: str, model: str, busy: Callable[[], None]
    ) -> None:
        make = partial(deploy, name, model, wait_for_completion="False")
        first = deferred(make())
        busy()
        with account.settings(endpoint_updating_seconds=3600):
            result = resumed(make, first, event_of(rebuilt(first.trigger)))
        assert (result["status"], result["action"]) == ("Updating", "updated")
        account.wait_for_endpoint(name)

    @pytest.mark.usefixtures("serving")
    def test_an_update_whose_answer_is_lost_is_remembered_over_the_deferral(
        self, account: Account, name: str, model: str, requests: Requests
    ) -> None:
        rule = {
            "operation": "sagemaker:UpdateEndpoint",
            "resource": f"*{name}*",
            "fault": "lost_answer",
            "times": 1,
        }
        control(account, "POST", "faults", [rule])
        try:
            result = run_task(partial(deploy, name, model))
        finally:
            control(account, "DELETE", "faults")
        assert (result["status"], result["action"]) == ("InService", "updated")
        assert requests.count()["UpdateEndpoint"] == 1

    @pytest.mark.usefixtures("busy")
    def test_a_wait_that_breaks_ends_the_task_by_its_name_and_leaves_all_as_it_was(
        self, name: str, model: str, requests: Requests
    ) -> None:
        make = partial(deploy, name, model)
        first = deferred(make())
        requests.forget()
        note = first.trigger.serialize()[1]["note"]
        event = {"status": "error", "error": "Throttled", "message": "Rate exceeded", "note": note}
        with pytest.raises(Throttled, match=f"waiting for endpoint {name}: Rate exceeded"):
            resumed(make, first, event)
        assert requests.changes() == []


class TestDeadlines:
    @BOTH
    @pytest.mark.usefixtures("busy")
    def test_seconds_are_neither_attempts_nor_polls(self, name: str, model: str, deferrable: bool) -> None:
        """Taken for attempts, one second would be an hour here, too long for pytest; rounded up to a poll as well."""
        began = time.monotonic()
        with pytest.raises(EndpointDeadlineExceeded, match=f"endpoint {name} was still Creating after 1 s"):
            run_task(
                partial(deploy, name, model, max_wait_seconds="1", poll_interval=3600, deferrable=deferrable)
            )
        assert time.monotonic() - began >= 1

    @pytest.mark.usefixtures("busy")
    def test_deferred_again_the_wait_out_keeps_its_first_deadline(self, name: str, model: str) -> None:
        """Between the trigger's last poll and the worker's first another user may begin an operation."""
        make = partial(deploy, name, model, max_wait_seconds=600)
        began = time.time()
        first = deferred(make())
        deadline = first.trigger.serialize()[1]["deadline"]
        assert began + 600 <= deadline <= time.time() + 600
        event = json.loads(json.dumps({"status": "over", "note": first.trigger.serialize()[1]["note"]}))
        second = resumed(make, first, event)
        assert isinstance(second.trigger, EndpointChangeableTrigger)
        assert second.trigger.serialize()[1]["deadline"] == deadline
        assert second.timeout <= first.timeout

    @pytest.mark.parametrize("kind", [EndpointChangeableTrigger, EndpointServingTrigger])
    def test_a_triggerer_that_restarts_does_not_begin_the_wait_again(
        self,
        account: Account,
        name: str,
        model: str,
        request: pytest.FixtureRequest,
        kind: type[EndpointTrigger],
    ) -> None:
        if kind is EndpointChangeableTrigger:
            request.getfixturevalue("busy")
        else:
            control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "seconds": 3600})
        make = partial(deploy, name, model, max_wait_seconds=3600, cleanup_wait_seconds=0.1)
        deferral = deferred(make())
        assert isinstance(deferral.trigger, kind)

        has_polled = described_times(account, name, 1)

        async def poll_and_die() -> None:
            running = asyncio.ensure_future(anext(rebuilt(deferral.trigger).run()))
            while not has_polled():  # noqa: ASYNC110 - another process's log
                await asyncio.sleep(POLL)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(poll_and_die())
        event = event_of(rebuilt(an_hour_later(deferral.trigger)))  # started again, it would wait for an hour
        assert event["status"] == "over"
        with pytest.raises(EndpointDeadlineExceeded, match=f"endpoint {name} was still Creating after 1 h"):
            resumed(make, deferral, event)

    def test_an_endpoint_that_fails_again_and_again_is_given_up_in_time(
        self, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another user creates it again as soon as it is deleted, and each time it fails."""

        @dataclass(frozen=True)
        class Said(Answer):
            def body(self, *, xml: bool) -> bytes:  # noqa: ARG002 - the base's
                return self.message.encode()

        failed = {
            "EndpointName": "e",
            "EndpointArn": "arn:e",
            "EndpointConfigName": "c",
            "EndpointStatus": "Failed",
        }
        failure = Said(200, "", json.dumps(failed))
        # Found Failed, still Failed, DeleteEndpoint; then the wait finds the next one.
        again = (failure, failure, Said(200, "", "{}"), failure)
        quarters = itertools.count(time.time(), 900)
        clock = SimpleNamespace(time=lambda: next(quarters))
        monkeypatch.setattr("airflow_sm_plugin.endpoints.deployment.time", clock)
        with answering(Said(200, "", "{}"), *again * 1000) as (address, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            with pytest.raises(EndpointDeadlineExceeded, match="endpoint e was still Failed after 1 h"):
                run_task(
                    partial(deploy, "e", model, max_wait_seconds=3600, on_failed="recreate", deferrable=False)
                )
        # It reads the clock when it begins and after each deletion.
        assert asked.count("SageMaker.DeleteEndpoint") == 4


class TestFailedPolls:
    @pytest.mark.usefixtures("serving")
    def test_a_bad_moment_in_the_middle_of_a_blocking_wait_out_is_endured(
        self, account: Account, name: str, model: str
    ) -> None:
        """Botocore repeats nothing here; without a rule of our own the first failed poll ends the task."""
        control(account, "PUT", f"endpoints/{name}/status", {"status": "Creating"})
        rule = {"operation": "sagemaker:DescribeEndpoint", "resource": f"*{name}*", "after": 1, "times": 3}
        control(account, "POST", "faults", [rule | {"fault": "throttle"}])

        def struck() -> bool:
            (rule,) = control(account, "GET", "faults")["rules"]
            return bool(rule["struck"] == 3)

        try:
            with once(struck, partial(free, account, name)):
                result = run_task(partial(deploy, name, model, deferrable=False, botocore_config=ONCE))
        finally:
            control(account, "DELETE", "faults")
        assert (result["status"], result["action"]) == ("InService", "updated")

    @BOTH
    @pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not wait"])
    def test_a_throttled_poll_never_deletes_the_endpoint_that_was_just_created(
        self, account: Account, name: str, model: str, *, waits: bool, deferrable: bool
    ) -> None:
        """Each poll after CreateEndpoint, one per run, until the run is over before the fault strikes."""
        make = partial(
            deploy, name, model, deferrable=deferrable, botocore_config=ONCE, wait_for_completion=waits
        )
        struck, after = 1, 0
        while struck:
            after += 1
            # One poll before the endpoint is made, one while it is Creating, and those after InService.
            control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "seconds": 0})
            rule = {"operation": "sagemaker:DescribeEndpoint", "resource": f"*{name}*", "after": after}
            control(account, "POST", "faults", [rule | {"times": 1, "fault": "throttle"}])
            since = call_log(account, operation="-")["sequence"]
            try:
                result = run_task(make)
                struck = control(account, "GET", "faults")["rules"][0]["struck"]
            finally:
                control(account, "DELETE", "faults")
            calls = cast("list[dict[str, Any]]", call_log(account, since=since, service="*")["calls"])
            # A queue that an earlier test waited for may still be emptied.
            deletions = [
                call for call in calls if call["operation"].startswith("Delete") and call["service"] != "sqs"
            ]
            assert (result["action"], result["endpoint_arn"][-len(name) :], deletions) == (
                "created",
                name,
                [],
            )
            account.wait_for_endpoint(name)
            account.sagemaker.delete_endpoint(EndpointName=name)
            account.wait_for_endpoint(name, "endpoint_deleted")
        assert after > 1

    def test_a_task_killed_while_it_tidies_leaves_what_serves(
        self, account: Account, name: str, model: str
    ) -> None:
        """Its own endpoint serves: neither tidying nor describing is a reason to delete it."""
        operator = deploy(name, model, deferrable=False)
        operator.execute(context_for())
        operator.on_kill()
        assert account.status(name) == "InService"
        assert len(account.configs(name)) == 1

    def test_a_retry_never_deletes_what_an_earlier_try_made_and_what_serves_now(
        self, account: Account, name: str, model: str
    ) -> None:
        """Another user may use it by now. It was this task's, and Creating, when the retry found it."""
        deploy(name, model, deferrable=False).execute(context_for())
        control(account, "PUT", f"endpoints/{name}/status", {"status": "Creating"})
        make = partial(deploy, name, model)
        deferral = deferred(make(), context_for(TaskInstanceDouble(try_number=2)))
        control(account, "PUT", f"endpoints/{name}/status", {"status": "InService"})
        note = deferral.trigger.serialize()[1]["note"]
        assert note["touched"]
        event = {"status": "error", "error": "Throttled", "message": "Rate exceeded", "note": note}
        with pytest.raises(Throttled):
            resumed(make, deferral, event)
        assert account.status(name) == "InService"
        assert len(account.configs(name)) == 1


class TestTidying:
    """Resources that served earlier go when the new configuration serves, and nothing that is still needed."""

    def earlier(self, account: Account, name: str, models: Sequence[str]) -> list[str]:
        """Have an endpoint that has served each model, one after the other; return its configurations, oldest first."""
        for model in models:
            arn = account.sagemaker.describe_model(ModelName=model)["ModelArn"]
            account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": OWNER_TAG, "Value": "an-earlier-run"}])
        configs = [
            account.create_config(model, name=f"{name}-{number:012x}") for number, model in enumerate(models)
        ]
        for config in configs:
            arn = account.sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
            account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": ENDPOINT_TAG, "Value": name}])
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=configs[-1])
        account.wait_for_endpoint(name)
        return configs

    @pytest.mark.parametrize("keep", [0, 1, 2, 3])
    def test_a_model_that_a_kept_configuration_names_stays(
        self, account: Account, name: str, model: str, keep: int
    ) -> None:
        """The oldest configuration and the newest earlier one share a model."""
        shared, alone = (account.create_model(multi_model=True) for _ in range(2))
        configs = self.earlier(account, name, [shared, alone, shared])

        result = run_task(partial(deploy, name, model, keep_configs=keep, delete_old_models=True))

        kept = configs[len(configs) - keep :]
        assert account.configs(name) == sorted([*kept, result["endpoint_config_name"]])
        assert account.models(shared) == ([shared] if keep else [])
        assert account.models(alone) == ([alone] if keep >= 2 else [])

    def test_a_model_that_the_new_configuration_names_stays(self, account: Account, name: str) -> None:
        model = account.create_model(multi_model=True)
        self.earlier(account, name, [model])
        result = run_task(partial(deploy, name, model, keep_configs=0, delete_old_models=True))
        assert result["action"] == "updated"
        assert account.configs(name) == [result["endpoint_config_name"]]
        assert account.models(model) == [model]

    def test_a_retry_tidies_where_the_try_that_updated_was_killed_before(
        self, account: Account, name: str, model: str
    ) -> None:
        self.earlier(account, name, [model])
        first = run_task(partial(deploy, name, model, instance_type="ml.c5.large", keep_configs=None))
        assert len(account.configs(name)) == 2
        make = partial(deploy, name, model, instance_type="ml.c5.large", keep_configs=0)

        run_task(make)
        assert len(account.configs(name)) == 2  # a first try that changes nothing removes nothing

        result = run_task(make, context_for(TaskInstanceDouble(try_number=2)))
        assert result["action"] == "unchanged"
        assert account.configs(name) == [first["endpoint_config_name"]]


class TestEveryStatus:
    """A waiter that knows only InService and Failed waits for ever, or reports a rollback as a success."""

    @BOTH
    @pytest.mark.parametrize("status", ["Creating", "Updating", "SystemUpdating", "RollingBack"])
    @pytest.mark.usefixtures("serving")
    def test_found_in_progress_it_is_waited_out(
        self, account: Account, name: str, model: str, status: str, deferrable: bool
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/status", {"status": status})
        with once(described_times(account, name, 2), partial(free, account, name)):
            result = run_task(partial(deploy, name, model, deferrable=deferrable))
        assert (result["status"], result["action"]) == ("InService", "updated")

    @BOTH
    @pytest.mark.parametrize("status", ["Failed", "OutOfService", "UpdateRollbackFailed"])
    @pytest.mark.usefixtures("serving")
    def test_found_in_a_status_that_does_not_end_it_is_reported_at_once(
        self, account: Account, name: str, model: str, status: str, deferrable: bool
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/status", {"status": status, "reason": "a fire"})
        with pytest.raises(
            AirflowFailException, match=f"(?s)is {status} with .*\nReason: .*a fire"
        ) as caught:
            run_task(partial(deploy, name, model, deferrable=deferrable))
        assert isinstance(caught.value.__context__, EndpointUnchangeable)
        account.sagemaker.delete_endpoint(EndpointName=name)
        account.wait_for_endpoint(name, "endpoint_deleted")

    @BOTH
    @pytest.mark.parametrize("end", ["Failed", "OutOfService"])
    def test_a_creation_that_ends_so_has_failed(
        self, account: Account, name: str, model: str, end: str, deferrable: bool
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/next", {"end": end, "reason": "a fire"})
        with pytest.raises(EndpointFailed, match=f"is {end} with"):
            run_task(partial(deploy, name, model, deferrable=deferrable))
        assert (account.status(name), account.configs(name)) == (None, [])

    @BOTH
    @pytest.mark.usefixtures("serving")
    def test_an_update_whose_rollback_fails_has_failed(
        self, account: Account, name: str, model: str, deferrable: bool
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/next", {"end": "UpdateRollbackFailed", "reason": "a fire"})
        with pytest.raises(EndpointFailed, match=r"(?s)is UpdateRollbackFailed with .*\nReason: .*a fire"):
            run_task(partial(deploy, name, model, deferrable=deferrable))
        assert account.status(name) == "UpdateRollbackFailed"

    @BOTH
    @pytest.mark.parametrize("reason", [None, "a fire"], ids=["silent", "with a reason"])
    def test_a_rollback_ends_in_service_and_is_an_error_all_the_same(
        self, account: Account, name: str, model: str, serving: str, *, reason: str | None, deferrable: bool
    ) -> None:
        control(account, "PUT", f"endpoints/{name}/next", {"end": "RolledBack", "reason": reason})
        with pytest.raises(AirflowFailException) as caught:
            run_task(partial(deploy, name, model, deferrable=deferrable))
        assert isinstance(caught.value.__context__, EndpointRolledBack)
        assert f"it serves {serving}\nReason: {reason or 'SageMaker gave no reason'}" in str(caught.value)
        assert account.status(name) == "InService"
        assert account.configs(name) == []

    def test_deleted_while_it_is_waited_for_it_has_failed(
        self, account: Account, name: str, model: str
    ) -> None:
        make = partial(deploy, name, model)
        deferral = deferred(make())
        account.wait_for_endpoint(name)
        with account.settings(endpoint_deleting_seconds=3600):
            account.sagemaker.delete_endpoint(EndpointName=name)
            event = event_of(rebuilt(deferral.trigger))
            with (
                once(
                    described_times(account, name, 2),
                    partial(account.change_settings, endpoint_deleting_seconds=0),
                ),
                pytest.raises(EndpointFailed, match="is Deleting: a person"),
            ):
                resumed(make, deferral, event)
        assert account.status(name) is None
