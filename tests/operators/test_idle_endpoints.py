"""Deletion of idle endpoints: what our tasks made and no client invokes is deleted; everything else stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from airflow_sm_plugin._compat import base_url
from airflow_sm_plugin.core.names import CREATED_IN_TAG, DEPLOYED_IN_TAG, ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.endpoints import idle_deletion
from airflow_sm_plugin.endpoints.idle_deletion import IdleEndpoints
from airflow_sm_plugin.endpoints.noted_scaling import remove_for_good
from airflow_sm_plugin.exceptions import AccessDenied, InvalidRequest, TaskKilled
from airflow_sm_plugin.operators import idle_endpoints
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.idle_endpoints import SageMakerDeleteIdleEndpointsOperator
from airflow_sm_plugin.resources.made_in import MadeIn, airflow_site
from tests.endpoint_trials import control
from tests.support import POLL, REGION, Account, Requests, TaskInstanceDouble, context_for, run_task, unique

pytestmark = pytest.mark.airflow

NO_TIME = 1e-6
"""Idle hours that have passed as soon as anything was made."""


@dataclass
class Runs:
    """The DAG runs that Airflow knows: their states by (DAG, run)."""

    states: dict[tuple[str, str], str] = field(default_factory=dict)

    def count(self, dag_id: str, *, run_id: str | None = None, states: Sequence[str] | None = None) -> int:
        return sum(
            1
            for (dag, run), state in self.states.items()
            if dag == dag_id and run_id in (None, run) and (states is None or state in states)
        )


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    known = Runs()
    monkeypatch.setattr(idle_endpoints, "count_dag_runs", known.count)
    return known


def idle(**arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - the operator's own
    """Run the task; the rows of its result are by endpoint, those of other tests left in."""
    usual: dict[str, Any] = {"idle_hours": NO_TIME, "poll_interval": POLL, "aws_conn_id": None}
    make = partial(SageMakerDeleteIdleEndpointsOperator, task_id="idle", **usual | arguments)
    result: dict[str, Any] = run_task(make)
    return result | {"endpoints": {row["endpoint"]: row for row in result["endpoints"]}}


@contextmanager
def denied(account: Account, operation: str) -> Iterator[None]:
    """Have AWS deny an operation to everybody during the block."""
    rule = {"fault": "error", "operation": operation, "code": "AccessDeniedException"}
    control(account, "POST", "faults", [rule])
    try:
        yield
    finally:
        control(account, "DELETE", "faults")


def row_of(name: str, **arguments: Any) -> tuple[str, str]:  # noqa: ANN401 - as above
    row = idle(**arguments)["endpoints"][name]
    return row["decision"], row["reason"]


@dataclass(frozen=True)
class Deployed:
    """An endpoint that a task of ours deployed, in a DAG run of its own DAG."""

    name: str
    model: str
    instance: TaskInstanceDouble

    @property
    def run(self) -> tuple[str, str]:
        return self.instance.dag_id, self.instance.run_id


@pytest.fixture
def deploy(account: Account, runs: Runs) -> Iterator[Callable[..., Deployed]]:
    made: list[Deployed] = []

    def deploy_one(name: str = "", model: str = "", dag_id: str = "", **arguments: Any) -> Deployed:  # noqa: ANN401 - as above
        name, model = name or unique("endpoint"), model or account.create_model(multi_model=True)
        instance = TaskInstanceDouble(dag_id=dag_id or unique("dag"), run_id=unique("manual__run~"))
        runs.states[instance.dag_id, instance.run_id] = "success"
        operator = SageMakerDeployEndpointOperator(
            task_id="deploy",
            endpoint_name=name,
            model_name=model,
            poll_interval=POLL,
            aws_conn_id=None,
            deferrable=False,
            **arguments,
        )
        operator.execute(context_for(instance))
        made.append(Deployed(name, model, instance))
        return made[-1]

    yield deploy_one
    for name in {each.name for each in made}:
        if account.status(name) not in (None, "Deleting"):
            account.sagemaker.delete_endpoint(EndpointName=name)
        for config in account.configs(name):
            account.sagemaker.delete_endpoint_config(EndpointConfigName=config)


def made_in(deployed: Deployed) -> MadeIn:
    return MadeIn(*deployed.run, deployed.instance.task_id, site=airflow_site(base_url()))


def tags_of(account: Account, name: str) -> dict[str, str]:
    arn = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]
    return {tag["Key"]: tag["Value"] for tag in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


def config_of(account: Account, name: str) -> str:
    return account.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]


def test_an_idle_endpoint_goes_with_its_configuration_and_its_model_stays(
    account: Account, deploy: Callable[..., Deployed], requests: Requests
) -> None:
    ours = deploy()
    requests.forget()
    row = idle()["endpoints"][ours.name]
    assert requests.changes() == []
    assert (row["status"], row["decision"]) == ("InService", "delete")
    assert (row["dag_id"], row["run_id"], row["task_id"]) == (*ours.run, ours.instance.task_id)
    assert account.status(ours.name) == "InService"

    result = idle(dry_run="False")
    assert result["endpoints"][ours.name]["decision"] == "deleted"
    assert f"endpoint {ours.name}" in result["deleted"]
    assert (account.status(ours.name), account.configs(ours.name)) == (None, [])
    assert account.models(ours.model) == [ours.model]
    assert ours.name not in idle()["endpoints"]


def test_models_of_our_making_go_where_asked(account: Account, deploy: Callable[..., Deployed]) -> None:
    ours, foreign = deploy(), deploy()
    arn = account.sagemaker.describe_model(ModelName=ours.model)["ModelArn"]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "airflow-sm-plugin:content", "Value": "x"}])
    idle(dry_run=False, delete_models=True)
    assert account.models(ours.model) == []
    assert account.models(foreign.model) == [foreign.model]


@pytest.fixture
def stand_still(monkeypatch: pytest.MonkeyPatch) -> Callable[[], datetime]:
    """Stop the clock of the decisions, so that what follows is recent however long it takes; return the time."""

    def stop() -> datetime:
        moment = time.time()
        monkeypatch.setattr(idle_deletion, "time", SimpleNamespace(time=lambda: moment))
        return datetime.fromtimestamp(moment, UTC)

    return stop


def test_an_invoked_endpoint_stays(
    account: Account, deploy: Callable[..., Deployed], stand_still: Callable[[], datetime]
) -> None:
    ours = deploy(model=account.create_model())
    stand_still()
    assert row_of(ours.name)[0] == "delete"
    account.runtime.invoke_endpoint(EndpointName=ours.name, Body=b"1", ContentType="text/csv")
    decision, reason = row_of(ours.name, dry_run=False)
    assert (decision, account.status(ours.name)) == ("keep", "InService")
    assert reason.startswith("invoked, or with requests in its queue")


def test_an_endpoint_that_is_too_young_stays(account: Account, deploy: Callable[..., Deployed]) -> None:
    decision, reason = row_of(deploy().name, dry_run=False, idle_hours=24)
    assert decision == "keep"
    assert reason == "created or changed 0 min ago, less than 24 h"


def test_an_asynchronous_endpoint_with_a_queue_stays(
    account: Account, deploy: Callable[..., Deployed], stand_still: Callable[[], datetime]
) -> None:
    ours = deploy(async_output_path=f"s3://{account.bucket}/out")
    client: Any = boto3.client(
        "cloudwatch",
        region_name=REGION,
        endpoint_url=account.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    moment = stand_still()
    assert row_of(ours.name)[0] == "delete"
    queue = {"MetricName": "ApproximateBacklogSize", "Value": 2.0, "Timestamp": moment}
    dimensions = [{"Name": "EndpointName", "Value": ours.name}]
    client.put_metric_data(Namespace="AWS/SageMaker", MetricData=[{**queue, "Dimensions": dimensions}])
    assert row_of(ours.name)[1].startswith("invoked, or with requests in its queue")


def test_an_endpoint_of_a_run_that_goes_on_stays(
    account: Account, deploy: Callable[..., Deployed], runs: Runs
) -> None:
    ours = deploy()
    runs.states[ours.run] = "running"
    assert row_of(ours.name, dry_run=False) == (
        "keep",
        f"run {ours.run[1]} of DAG {ours.run[0]} has not ended",
    )
    runs.states[ours.run] = "queued"
    assert row_of(ours.name, dry_run=False)[0] == "keep"
    assert account.status(ours.name) == "InService"


def test_a_run_that_was_deleted_has_ended_and_a_dag_that_is_unknown_has_not(
    deploy: Callable[..., Deployed], runs: Runs
) -> None:
    ours = deploy()
    del runs.states[ours.run]
    assert "belongs to a DAG without any run in this Airflow" in row_of(ours.name)[1]
    assert row_of(ours.name, delete_of_unknown_dags=True)[0] == "delete"
    runs.states[ours.run[0], "another"] = "running"
    assert row_of(ours.name)[0] == "delete"


@pytest.mark.parametrize(
    "url", ["", "http://localhost:8080", "http://127.0.0.1:8080/airflow", "http://web:8080"]
)
@pytest.mark.parametrize("state", ["success", None])
def test_without_an_address_of_its_own_an_airflow_may_not_be_the_one_that_made_it(
    deploy: Callable[..., Deployed],
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    state: str | None,
) -> None:
    """Another Airflow with the same DAG, and so with the same ids of scheduled runs, may go on with it."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", url)
    ours = deploy()
    del runs.states[ours.run]
    runs.states[ours.run[0], "another"] = "success"
    if state:
        runs.states[ours.run] = state
    decision, reason = row_of(ours.name, dry_run=False)
    assert decision == "keep"
    assert "base_url is not set, or local" in reason
    assert row_of(ours.name, delete_of_unknown_dags=True)[0] == "delete"


def test_an_excluded_endpoint_stays(deploy: Callable[..., Deployed]) -> None:
    ours = deploy()
    assert row_of(ours.name, exclude=[f"{ours.name[:-1]}?"]) == ("keep", "excluded")
    assert row_of(ours.name, exclude=["another-*"])[0] == "delete"


def test_an_endpoint_that_is_spared_at_the_last_moment_keeps_its_scaling(
    account: Account, deploy: Callable[..., Deployed], runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = deploy()
    run_task(
        partial(
            SageMakerScaleEndpointOperator,
            task_id="scale",
            endpoint_name=ours.name,
            min_capacity=1,
            max_capacity=3,
            target_invocations_per_instance=100,
            aws_conn_id=None,
        )
    )
    check = IdleEndpoints._check

    def begun_meanwhile(self: IdleEndpoints, *args: Any) -> None:  # noqa: ANN401 - of the method
        runs.states[ours.run] = "running"
        check(self, *args)

    monkeypatch.setattr(IdleEndpoints, "_check", begun_meanwhile)
    decision, reason = row_of(ours.name, dry_run=False)
    assert (decision, account.status(ours.name)) == ("keep", "InService")
    assert "has not ended" in reason
    scaling: Any = boto3.client("application-autoscaling", endpoint_url=account.url)
    targets = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{ours.name}/variant/AllTraffic"]
    )
    assert len(targets["ScalableTargets"]) == 1


def test_scaling_that_a_kill_after_the_endpoints_deletion_left_goes(
    account: Account, deploy: Callable[..., Deployed], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = deploy()
    run_task(
        partial(
            SageMakerScaleEndpointOperator,
            task_id="scale",
            endpoint_name=ours.name,
            min_capacity=1,
            max_capacity=3,
            target_invocations_per_instance=100,
            aws_conn_id=None,
        )
    )
    removed: list[str] = []

    def killed(*_: object) -> list[str]:
        raise TaskKilled("killed right after the endpoint was deleted")

    with monkeypatch.context() as patched:
        patched.setattr(idle_deletion, "remove_for_good", killed)
        with pytest.raises(TaskKilled):
            idle(dry_run=False)
    assert account.status(ours.name) is None
    original = remove_for_good

    def counted(hook: Any, aws: Any, name: str) -> list[str]:  # noqa: ANN401 - of the function
        removed.append(name)
        return original(hook, aws, name)

    monkeypatch.setattr(idle_deletion, "remove_for_good", counted)
    assert row_of(ours.name, dry_run=False)[0] == "deleted"
    assert ours.name in removed
    scaling: Any = boto3.client("application-autoscaling", endpoint_url=account.url)
    there = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{ours.name}/variant/AllTraffic"]
    )
    assert there["ScalableTargets"] == []
    alarms: Any = boto3.client("cloudwatch", endpoint_url=account.url)
    names = [alarm["AlarmName"] for alarm in alarms.describe_alarms()["MetricAlarms"]]
    assert not [name for name in names if ours.name in name]


def test_an_endpoint_of_another_airflow_stays(
    account: Account, deploy: Callable[..., Deployed], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = deploy()
    monkeypatch.setattr(idle_endpoints, "base_url", lambda: "https://other.example.com")
    decision, reason = row_of(ours.name, dry_run=False, delete_of_unknown_dags=True)
    assert (decision, account.status(ours.name)) == ("keep", "InService")
    assert reason.endswith("belongs to another Airflow (another base_url)")


def test_the_run_that_deployed_last_counts_though_it_changed_nothing(
    account: Account, deploy: Callable[..., Deployed], runs: Runs
) -> None:
    first = deploy()
    second, third = (deploy(first.name, first.model) for _ in range(2))
    tags = tags_of(account, first.name)
    assert MadeIn.from_tag(tags[CREATED_IN_TAG]) == made_in(first)
    assert MadeIn.from_tag(tags[DEPLOYED_IN_TAG]) == made_in(third)
    runs.states[third.run] = "running"
    assert row_of(first.name)[1] == f"run {third.run[1]} of DAG {third.run[0]} has not ended"
    runs.states[third.run] = "failed"
    runs.states[second.run] = "running"
    assert row_of(first.name)[0] == "delete"
    runs.states[first.run] = "running"
    assert row_of(first.name)[0] == "keep"


def test_a_deployment_that_tags_nothing_keeps_what_it_relies_on(
    account: Account, deploy: Callable[..., Deployed]
) -> None:
    ours = deploy()
    deploy(ours.name, ours.model, cleanup_on_failure=False)
    assert row_of(ours.name)[1].startswith("its tags do not name the task that made it")
    untagged = deploy(cleanup_on_failure=False)
    assert untagged.name not in idle()["endpoints"]


def test_a_failed_endpoint_goes_and_so_does_what_a_killed_task_left(
    account: Account, deploy: Callable[..., Deployed], requests: Requests
) -> None:
    left, failed = deploy(), deploy()
    account.sagemaker.delete_endpoint(EndpointName=left.name)
    account.sagemaker.delete_endpoint(EndpointName=failed.name)
    for each in (left, failed):
        account.wait_for_endpoint(each.name, "endpoint_deleted")
    made = made_in(failed)
    tags = human_tags({OWNER_TAG: made.owner, CREATED_IN_TAG: str(made.as_tag())})
    account.sagemaker.delete_model(ModelName=failed.model)
    account.create_model_without_artefact(failed.model)
    account.sagemaker.create_endpoint(
        EndpointName=failed.name,
        EndpointConfigName=account.configs(failed.name)[0],
        Tags=tags,  # type: ignore[arg-type] # plain dicts
    )
    with pytest.raises(Exception, match="Failed"):
        account.wait_for_endpoint(failed.name)
    result = idle(dry_run=False)
    reasons = {name: result["endpoints"][name]["reason"] for name in (left.name, failed.name)}
    assert reasons[left.name].startswith("configurations without an endpoint")
    assert reasons[failed.name].startswith("it is Failed")
    for each in (left, failed):
        assert result["endpoints"][each.name]["decision"] == "deleted"
        assert (account.status(each.name), account.configs(each.name)) == (None, [])


def human_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"created-by": "airflow-sm-plugin"},
        {"airflow-sm-plugin": "created-by"},
        {"airflow_sm_plugin:created-by": "x", "airflow_sm_plugin:created-in": "a/b/c@"},
        {"Airflow-sm-plugin:created-by": "x"},
        {"airflow-sm-plugin:created-by-hand": "x"},
        {ENDPOINT_TAG: "x"},
    ],
    ids=str,
)
def test_tags_that_are_like_ours_are_not_ours(account: Account, runs: Runs, tags: Mapping[str, str]) -> None:
    name, model = unique("endpoint"), account.create_model(multi_model=True)
    account.sagemaker.create_endpoint(
        EndpointName=name,
        EndpointConfigName=account.create_config(model),
        Tags=human_tags(tags),  # type: ignore[arg-type] # plain dicts
    )
    account.wait_for_endpoint(name)
    assert name not in idle(dry_run=False, delete_of_unknown_dags=True)["endpoints"]
    assert account.status(name) == "InService"


@pytest.mark.parametrize("tags", [{OWNER_TAG: "by-hand"}, {OWNER_TAG: "x", CREATED_IN_TAG: "a/b/c@"}])
def test_our_tags_on_an_endpoint_of_a_person_are_no_proof(
    account: Account, runs: Runs, tags: Mapping[str, str]
) -> None:
    name, model = unique("endpoint"), account.create_model(multi_model=True)
    config = account.create_config(model)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=human_tags(tags))  # type: ignore[arg-type] # plain dicts
    account.wait_for_endpoint(name)
    decision, reason = row_of(name, dry_run=False, delete_of_unknown_dags=True)
    assert (decision, account.status(name)) == ("keep", "InService")
    assert (
        reason == f"it has configuration {config}, which our operators did not make for it, or which is gone"
    )


def test_tags_copied_from_our_endpoint_to_a_persons_are_no_proof(
    account: Account, deploy: Callable[..., Deployed]
) -> None:
    """Nor does it help that the copy has the configuration of ours: it was made for another endpoint."""
    ours, copy = deploy(), unique("endpoint")
    account.sagemaker.create_endpoint(
        EndpointName=copy,
        EndpointConfigName=config_of(account, ours.name),
        Tags=human_tags(tags_of(account, ours.name)),  # type: ignore[arg-type] # plain dicts
    )
    account.wait_for_endpoint(copy)
    result = idle(dry_run=False, delete_models=True)
    assert result["endpoints"][copy]["decision"] == "keep"
    assert account.status(copy) == "InService"
    assert config_of(account, copy) in account.configs(ours.name)
    assert result["endpoints"][ours.name]["decision"] == "deleted"
    # What is left has no endpoint of its own, and another one uses it.
    assert row_of(ours.name, dry_run=False)[1].startswith("another endpoint uses configuration")


def test_an_endpoint_that_a_person_updated_stays(account: Account, deploy: Callable[..., Deployed]) -> None:
    ours = deploy()
    config = account.create_config(ours.model)
    account.sagemaker.update_endpoint(EndpointName=ours.name, EndpointConfigName=config)
    account.wait_for_endpoint(ours.name)
    assert row_of(ours.name, dry_run=False)[0] == "keep"
    assert account.status(ours.name) == "InService"


def test_an_endpoint_created_again_by_a_person_stays_with_the_configuration_that_it_uses(
    account: Account, deploy: Callable[..., Deployed]
) -> None:
    ours = deploy()
    config = config_of(account, ours.name)
    account.sagemaker.delete_endpoint(EndpointName=ours.name)
    account.wait_for_endpoint(ours.name, "endpoint_deleted")
    account.sagemaker.create_endpoint(EndpointName=ours.name, EndpointConfigName=config)
    account.wait_for_endpoint(ours.name)
    assert ours.name not in idle(dry_run=False)["endpoints"]
    assert (account.status(ours.name), account.configs(ours.name)) == ("InService", [config])


def test_an_endpoint_that_changes_after_the_table_was_made_stays(
    account: Account, deploy: Callable[..., Deployed], runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run begins, and relies on the endpoint, between the decision and the deletion."""
    ours = deploy()
    answered = 0

    def count(dag_id: str, **which: Any) -> int:  # noqa: ANN401 - as above
        nonlocal answered
        answered += dag_id == ours.run[0]
        if answered > 2:
            runs.states[ours.run] = "running"
        return runs.count(dag_id, **which)

    monkeypatch.setattr(idle_endpoints, "count_dag_runs", count)
    assert row_of(ours.name, dry_run=False) == (
        "keep",
        f"run {ours.run[1]} of DAG {ours.run[0]} has not ended",
    )
    assert answered > 2
    assert account.status(ours.name) == "InService"


def test_without_permission_to_read_metrics_nothing_is_idle(
    account: Account, deploy: Callable[..., Deployed]
) -> None:
    ours = deploy()
    with denied(account, "monitoring:GetMetricData"):
        decision, reason = row_of(ours.name, dry_run=False)
    assert (decision, account.status(ours.name)) == ("keep", "InService")
    assert reason.startswith("not known when it was invoked: cloudwatch:GetMetricData: AWS answered")
    assert "AccessDenied" in reason


def test_without_permission_to_read_tags_nothing_is_deleted(
    account: Account, deploy: Callable[..., Deployed]
) -> None:
    ours = deploy()
    with denied(account, "ListTags"):
        decision, reason = row_of(ours.name, dry_run=False)
    assert (decision, reason) == ("keep", "its tags cannot be read (sagemaker:ListTags)")
    assert account.status(ours.name) == "InService"


def test_without_permission_to_find_resources_the_task_fails_and_names_it(
    account: Account, runs: Runs
) -> None:
    with (
        denied(account, "tagging:GetResources"),
        pytest.raises(Exception, match="tag:GetResources: AWS answered") as e,
    ):
        idle()
    assert AccessDenied.__name__ in str(e.value)


@pytest.mark.parametrize("hours", [0, -1, "many"])
def test_bad_hours_are_refused(runs: Runs, hours: object, aws: str) -> None:
    with pytest.raises(Exception, match="idle_hours") as caught:
        idle(idle_hours=hours)
    assert InvalidRequest.__name__ in str(caught.value)
