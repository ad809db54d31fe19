"""Task groups: a whole batch through a multi-model endpoint, spread over Airflow's workers."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_sm_plugin._compat import BaseOperator, TaskGroup
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from airflow_sm_plugin.operators.multi_model_plan import PLAN_KEY

if TYPE_CHECKING:
    from airflow_sm_plugin._compat import XComArg

_OURS = frozenset({"self", "kwargs", "shard", "plan_location", "multiple_outputs"})
"""Arguments that the group itself sets."""

_NOT_OF_A_SHARD = frozenset(
    {
        "inputs",
        "outputs",
        "target_model",
        "inputs_type",
        "include",
        "exclude",
        "output_name",
        "check_models",
        "on_missing_model",
        "empty_ok",
        "check_inputs",
        "state_prefix",
        "on_error",
        "tolerated_failure_ratio",
    }
)
"""Arguments of the plan and the merge that the batch tasks do not get."""


def multi_model_batch(
    group_id: str = "multi_model_batch",
    *,
    endpoint_name: str,
    inputs: str,
    outputs: str,
    max_active_shards: int | None = None,
    task_arguments: Mapping[str, Any] | None = None,
    **arguments: Any,  # noqa: ANN401 - the operators' own arguments
) -> TaskGroup:
    """Return plan → batch, mapped over the plan's shards → merge, as one task group.

    The merge runs whatever became of the batch tasks, and it alone fails when records did, so that there is one report;
    a batch task fails only when its shard could not be done. While failures may pass and it has retries left, a batch
    task retries, and does only those again.

    :func:`report_of` gives the group's report for other tasks.

    :param endpoint_name: of a real-time multi-model endpoint (templated)
    :param inputs: ``s3://bucket/prefix`` or a manifest (templated)
    :param outputs: ``s3://bucket/prefix`` of the results (templated)
    :param max_active_shards: shards of one DAG run that run at the same time; default Airflow's own limits. Each
        has its own ``max_concurrent_transforms`` and ``max_warm_models``
    :param task_arguments: Airflow's arguments of all three tasks: ``retries``, ``pool``, ``queue``, …
    :param arguments: of :class:`~airflow_sm_plugin.operators.multi_model.SageMakerPlanMultiModelBatchOperator`,
        :class:`~airflow_sm_plugin.operators.multi_model.SageMakerMultiModelBatchOperator` and
        :class:`~airflow_sm_plugin.operators.multi_model.SageMakerMergeBatchReportOperator`; each goes where it belongs
    :raises TypeError: none of the three has such an argument
    """
    given = {"endpoint_name": endpoint_name, "inputs": inputs, "outputs": outputs, **arguments}
    of_plan = _arguments_of(SageMakerPlanMultiModelBatchOperator)
    of_batch = _arguments_of(SageMakerMultiModelBatchOperator) - _NOT_OF_A_SHARD
    of_merge = _arguments_of(SageMakerMergeBatchReportOperator)
    _check(given, of_plan | of_batch | of_merge)
    common = dict(task_arguments or {})
    with TaskGroup(group_id) as group:
        plan = SageMakerPlanMultiModelBatchOperator(task_id="plan", **_some(given, of_plan), **common)
        batch = SageMakerMultiModelBatchOperator.partial(
            task_id="batch",
            on_error="tolerate",
            max_active_tis_per_dagrun=max_active_shards,
            **_some(given, of_batch),
            **common,
        ).expand(shard=plan.output)
        merge = SageMakerMergeBatchReportOperator(
            task_id="merge", plan_location=_plan_location(plan.task_id), **_some(given, of_merge), **common
        )
        batch >> merge
    return group


def report_of(group: TaskGroup) -> XComArg:
    """Return the report's summary of a :func:`multi_model_batch`, for tasks that go on with it."""
    merge = cast("SageMakerMergeBatchReportOperator", group.get_child_by_label("merge"))
    return merge.output


def _plan_location(task_id: str) -> str:
    """Return the template of the plan's location; empty when it was only estimated, ``None`` when there is none."""
    plan = f"ti.xcom_pull(task_ids='{task_id}', key='{PLAN_KEY}')"
    return f"{{{{ ({plan} or {{'plan_location': None}}).plan_location }}}}"


def _arguments_of(operator: type[BaseOperator]) -> frozenset[str]:
    """Return the names of an operator's own arguments, the AWS ones included."""
    return (
        frozenset(inspect.signature(operator.__init__).parameters)
        | frozenset(inspect.signature(SageMakerInferenceOperator.__init__).parameters)
    ) - _OURS


def _some(given: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}


def _check(given: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse arguments that would reach one of the tasks only, or none."""
    for name in given.keys() - known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if name in inspect.signature(BaseOperator.__init__).parameters:
            hint = ": Airflow's own arguments go into task_arguments, for all three tasks"
        raise TypeError(f"multi_model_batch() has no argument {name!r}{hint}")
