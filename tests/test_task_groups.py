"""The task group of plan, mapped batch and merged report: which argument goes where, and how its runs end."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import Template

from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from airflow_sm_plugin.task_groups import multi_model_batch, report_of
from tests.dags.conftest import logged_run
from tests.multi_model.multi_models import MultiModel
from tests.support import Account

if TYPE_CHECKING:
    from airflow.sdk import DAG, TaskGroup
else:
    try:
        from airflow.sdk import DAG
    except ImportError:  # Airflow 2.11
        from airflow.models.dag import DAG

pytestmark = pytest.mark.airflow

PLAN, BATCH, MERGE = (
    SageMakerPlanMultiModelBatchOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerMergeBatchReportOperator,
)
OWN = {"endpoint_name", "inputs", "outputs", "shard", "plan_location", "multiple_outputs"}
"""What the group gives to its tasks itself."""
SECRET = "planted-trace"


def _arguments(operator: type) -> set[str]:
    parameters = inspect.signature(operator.__init__).parameters.values()  # type: ignore[misc] # of a class
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY} - OWN


def _group(**arguments: Any) -> TaskGroup:  # noqa: ANN401 - the operators' own arguments
    with DAG("of_a_group", schedule=None):
        return multi_model_batch(
            "scores", endpoint_name="endpoint", inputs="s3://b/in/", outputs="s3://b/out/", **arguments
        )


def _tasks(group: TaskGroup) -> tuple[Any, Any, Any]:
    plan, batch, merge = (group.get_child_by_label(name) for name in ("plan", "batch", "merge"))
    return plan, batch, merge


def test_a_batch_task_for_each_shard_stands_between_plan_and_merge() -> None:
    plan, batch, merge = _tasks(_group())
    assert [plan.task_id, batch.task_id, merge.task_id] == ["scores.plan", "scores.batch", "scores.merge"]
    assert [type(plan), batch.operator_class, type(merge)] == [PLAN, BATCH, MERGE]
    assert batch.upstream_task_ids == {"scores.plan"}
    assert merge.upstream_task_ids == {"scores.batch"}
    assert set(batch.expand_input.value) == {"shard"}


def test_the_merge_runs_whatever_became_of_the_shards_and_is_the_one_that_judges() -> None:
    _, batch, merge = _tasks(_group(on_error="tolerate", tolerated_failure_ratio=0.1))
    assert merge.trigger_rule == "all_done"
    assert (merge.on_error, merge.tolerated_failure_ratio) == ("tolerate", 0.1)
    assert batch.partial_kwargs["on_error"] == "tolerate"
    assert "tolerated_failure_ratio" not in batch.partial_kwargs


@pytest.mark.parametrize(
    "argument", sorted(_arguments(PLAN) | _arguments(BATCH) - {"check_models"} | _arguments(MERGE))
)
def test_each_argument_reaches_the_tasks_that_have_it(argument: str) -> None:
    """Arguments that only a plan has, of a batch that plans nothing itself."""
    marker = f"{{{{ {argument} }}}}"
    plan, batch, merge = _tasks(_group(**{argument: marker}))
    reached = {
        name
        for name, value in (
            ("plan", getattr(plan, argument, None)),
            ("batch", batch.partial_kwargs.get(argument)),
            ("merge", getattr(merge, argument, None)),
        )
        if str(getattr(value, "value", value)) == marker
    }
    expected = {
        name
        for name, operator in (("plan", PLAN), ("batch", BATCH), ("merge", MERGE))
        if argument in _arguments(operator)
    }
    if "plan" in expected and argument not in {
        "split_type",
        "batch_strategy",
        "max_payload_in_mb",
        "on_rerun",
        "output_kms_key_id",
        "output_acl",
    }:
        expected -= {"batch"}
    if argument in {"on_error", "tolerated_failure_ratio"}:
        expected = {"merge"}
    assert reached == expected


def test_airflows_and_awss_arguments_are_those_of_all_three() -> None:
    given: dict[str, Any] = {"aws_conn_id": "mine", "region_name": "eu-west-1"}
    plan, batch, merge = _tasks(_group(**given, task_arguments={"retries": 4}))
    expected = {**given, "retries": 4}
    assert {name: batch.partial_kwargs[name] for name in expected} == expected
    for task in (plan, merge):
        assert {name: getattr(task, name) for name in expected} == expected


def test_outlets_are_those_of_the_merge_which_fails_when_the_batch_has() -> None:
    plan, batch, merge = _tasks(_group(outlets=["s3://b/out/"]))
    assert merge.outlets == ["s3://b/out/"]
    assert not plan.outlets
    assert not batch.partial_kwargs.get("outlets")


def test_a_mapped_task_is_named_after_its_shard() -> None:
    _, batch, _ = _tasks(_group())
    template = Template(batch.partial_kwargs["map_index_template"])
    shard = {"shard": 1, "models": 20, "plan_location": "s3://b/plan"}
    assert template.render(task=SimpleNamespace(shard=shard)) == "shard 2: 20 models"
    _, batch, _ = _tasks(_group(task_arguments={"map_index_template": "mine"}))
    assert batch.partial_kwargs["map_index_template"] == "mine"


def test_shards_at_the_same_time_are_bounded_where_asked() -> None:
    _, batch, _ = _tasks(_group(max_active_shards=2))
    assert batch.partial_kwargs["max_active_tis_per_dagrun"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targt_model": "x"}, "multi_model_batch.* no argument 'targt_model'"),
        ({"shard": {}}, "no argument 'shard'"),
        ({"plan_location": "s3://b/x"}, "no argument 'plan_location'"),
        ({"retries": 3}, "'retries'.*task_arguments"),
    ],
)
def test_an_unknown_argument_is_refused_by_name(arguments: Mapping[str, Any], message: str) -> None:
    """Airflow's own as well: given here, it would be a guess which of the tasks is meant."""
    with pytest.raises(TypeError, match=message):
        _group(**arguments)


def test_a_group_is_chained_as_a_task_is() -> None:
    try:
        from airflow.providers.standard.operators.empty import EmptyOperator
    except ImportError:  # Airflow 2.11
        from airflow.operators.empty import EmptyOperator  # type: ignore[no-redef,import-not-found]
    with DAG("of_a_chain", schedule=None):
        group = multi_model_batch("scores", endpoint_name="e", inputs="s3://b/i/", outputs="s3://b/o/")
        first, last = EmptyOperator(task_id="first"), EmptyOperator(task_id="last")
        first >> group >> last
        report = report_of(group)
    assert first.downstream_task_ids == {"scores.plan"}
    assert last.upstream_task_ids == {"scores.merge"}
    assert report.operator.task_id == "scores.merge"  # type: ignore[attr-defined] # a plain XComArg


def test_two_groups_fit_into_one_dag() -> None:
    with DAG("of_two", schedule=None) as dag:
        for name in ("one", "two"):
            multi_model_batch(name, endpoint_name="e", inputs="s3://b/i/", outputs="s3://b/o/")
    assert len(dag.task_ids) == 6


# Runs


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> MultiModel:
    """Three inputs of two models, of which one has no artefact; one record in nine is bad."""
    multi_model = MultiModel.deployed(module_account, ["a"])
    multi_model.put("a", "1.csv", "x,1\nbad,2\nx,3\n")
    multi_model.put("a", "2.csv", "y,1\ny,2\ny,3\ny,4\n")
    multi_model.put("b", "1.csv", "z,1\nz,2\n")
    return multi_model


@pytest.fixture(scope="module")
def ran(airflow_db: None, endpoint: MultiModel) -> tuple[dict[str, Any], str]:
    """One run of groups that end in every way, and its tasks' logs."""
    conf = {
        "endpoint": endpoint.name,
        "inputs": f"{endpoint.root}/in/",
        "outputs": f"{endpoint.root}/groups",
        "secret": SECRET,
    }
    folder = Path(__file__).parent / "dags" / "folder"
    return logged_run(folder, "multi_model_groups", url=endpoint.account.url, conf=conf)


Ran = tuple[Mapping[str, Any], str]


@pytest.mark.slow
def test_a_run_ends_with_a_report_that_adds_up_and_goes_on(ran: Ran, endpoint: MultiModel) -> None:
    run, _ = ran
    states = {task: state for task, state in run["tasks"].items() if task.startswith(("whole", "after"))}
    assert states == dict.fromkeys(
        ("whole.plan", "whole.batch[0]", "whole.batch[1]", "whole.merge", "after"), "success"
    )
    summary = run["xcoms"]["after"]["return_value"]
    assert summary == run["xcoms"]["whole.merge"]["return_value"]
    assert (summary["inputs"], summary["records"], summary["succeeded"], summary["failed"]) == (3, 9, 6, 3)
    assert (summary["shards"], summary["shards_missing"], summary["models_failed"]) == (2, 0, 2)
    report = json.loads(endpoint.account.read(summary["report_location"]))
    assert report["records"] == 9
    for copy in ("report.json", "report.html"):
        assert endpoint.account.read(f"{summary['outputs']}/{copy}")
    output = endpoint.account.read(f"{summary['outputs']}/model=a/1.csv.out").decode()
    assert output == "a/x,1\na/x,3\n"


@pytest.mark.slow
def test_failures_that_are_not_tolerated_fail_the_merge_alone(ran: Ran) -> None:
    run, log = ran
    assert run["tasks"]["strict.batch[0]"] == "success"
    assert run["tasks"]["strict.merge"] == "failed"
    assert "BatchFailed" in log


@pytest.mark.slow
def test_an_estimate_ends_green_and_reports_nothing(ran: Ran, endpoint: MultiModel) -> None:
    run, log = ran
    assert {task: state for task, state in run["tasks"].items() if task.startswith("estimate")} == {
        "estimate.plan": "success",
        "estimate.batch": "skipped",
        "estimate.merge": "skipped",
    }
    assert run["xcoms"]["estimate.plan"]["return_value"] == []
    assert "nothing is invoked" in log
    assert _keys(endpoint, "estimate") == []


@pytest.mark.slow
def test_nothing_to_do_is_an_empty_report(ran: Ran) -> None:
    run, _ = ran
    assert run["tasks"]["empty.batch"] == "skipped"
    assert run["tasks"]["empty.merge"] == "success"
    summary = run["xcoms"]["empty.merge"]["return_value"]
    assert (summary["inputs"], summary["records"], summary["shards"]) == (0, 0, 0)


@pytest.mark.slow
def test_a_failed_plan_fails_the_merge_which_says_why(ran: Ran) -> None:
    run, log = ran
    assert {task: state for task, state in run["tasks"].items() if task.startswith("broken")} == {
        "broken.plan": "failed",
        "broken.batch": "upstream_failed",
        "broken.merge": "failed",
    }
    assert "EndpointNotFound" in log
    assert "the plan task left no plan" in log


@pytest.mark.slow
def test_custom_attributes_stay_out_of_airflow(ran: Ran, endpoint: MultiModel) -> None:
    """The run's conf holds them, being the author's own doing; ours shows them nowhere."""
    run, log = ran
    assert run["rendered"]["whole.batch[0]"]["custom_attributes"] == "***"
    assert SECRET not in json.dumps(run)
    assert SECRET not in "".join(line for line in log.splitlines() if "airflow_sm_plugin" in line)


def _keys(endpoint: MultiModel, group: str) -> list[str]:
    prefix = f"{endpoint.root}/groups/{group}".removeprefix(f"s3://{endpoint.account.bucket}/")
    listing = endpoint.account.s3.list_objects_v2(Bucket=endpoint.account.bucket, Prefix=prefix)
    return [listed_object["Key"] for listed_object in listing.get("Contents", [])]
