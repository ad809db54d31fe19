"""Task groups: a batch through a multi-model endpoint, distributed over Airflow's workers."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow_sm_plugin._compat import BaseOperator, TaskGroup
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.operators.multi_model import (
    PLAN_KEY,
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)

if TYPE_CHECKING:
    from airflow_sm_plugin._compat import XComArg

_SET_BY_GROUP = frozenset({"self", "kwargs", "shard", "plan_location", "multiple_outputs"})

_NOT_FOR_A_SHARD = frozenset(
    {
        *("inputs", "outputs", "target_model", "inputs_type", "include", "exclude", "output_name"),
        *("check_models", "on_missing_model", "empty_ok", "check_inputs", "state_prefix"),
        *("on_error", "tolerated_failure_ratio"),
    }
)
"""Arguments of the plan and the merge that the batch tasks do not get."""

_SHARD_NAME = "shard {{ task.shard.shard + 1 }}: {{ task.shard.models }} models"
"""Template of a mapped task's name in Airflow's user interface."""


def multi_model_batch(
    group_id: str = "multi_model_batch",
    *,
    endpoint_name: str,
    inputs: str,
    outputs: str,
    max_active_shards: int | None = None,
    task_arguments: Mapping[str, Any] | None = None,
    outlets: Sequence[Any] = (),
    **arguments: Any,  # noqa: ANN401 - the operators' own arguments
) -> TaskGroup:
    """Build plan → batch, mapped over the plan's shards → merge, as one task group.

    The merge runs after failed batch tasks too, and it alone fails because of failed records, so that one report always
    exists; a batch task fails only when its shard could not be processed. While failures can be transient and retries
    are left, a batch task retries, and repeats only those. :func:`report_of` passes the report to other tasks.

    :param max_active_shards: limit of simultaneous shards in a DAG run; default Airflow's own limits. Each shard has
        its own ``max_concurrent_transforms`` and ``max_warm_models``
    :param task_arguments: Airflow's arguments of all three tasks: ``retries``, ``pool``, ``queue``, …
    :param outlets: assets that the merge updates when the batch has succeeded
    :param arguments: of the three operators in :mod:`airflow_sm_plugin.operators.multi_model`, as are the first three;
        each operator gets those that it takes
    :raises TypeError: none of the three has such an argument
    """
    given = {"endpoint_name": endpoint_name, "inputs": inputs, "outputs": outputs, **arguments}
    of_plan = _arguments_of(SageMakerPlanMultiModelBatchOperator)
    of_batch = _arguments_of(SageMakerMultiModelBatchOperator) - _NOT_FOR_A_SHARD
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
            **{"map_index_template": _SHARD_NAME, **common},
        ).expand(shard=plan.output)
        merge = SageMakerMergeBatchReportOperator(
            task_id="merge",
            plan_location=_plan_location(plan.task_id),
            **_some(given, of_merge),
            **(common | {"outlets": list(outlets)} if outlets else common),
        )
        batch >> merge
    return group


def report_of(group: TaskGroup) -> XComArg:
    """Refer other tasks to the summary of the report of a :func:`multi_model_batch`."""
    merge = cast("SageMakerMergeBatchReportOperator", group.get_child_by_label("merge"))
    return merge.output


def _plan_location(task_id: str) -> str:
    """Template of the plan's location, which renders to nothing after an estimate, and to ``None`` without a plan."""
    plan = f"ti.xcom_pull(task_ids='{task_id}', key='{PLAN_KEY}')"
    return f"{{{{ ({plan} or {{'plan_location': None}}).plan_location }}}}"


def _arguments_of(operator: type[BaseOperator]) -> frozenset[str]:
    parameters = inspect.signature(operator.__init__).parameters
    aws_parameters = inspect.signature(SageMakerInferenceOperator.__init__).parameters
    return frozenset({*parameters, *aws_parameters}) - _SET_BY_GROUP


def _some(given: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}


def _check(given: Mapping[str, Any], names: frozenset[str]) -> None:
    """Refuse arguments that no task takes, and Airflow's own."""
    for name in given.keys() - names:
        similar = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        if name in inspect.signature(BaseOperator.__init__).parameters:
            hint = ": Airflow's own arguments go into task_arguments, for all three tasks"
        raise TypeError(f"multi_model_batch() has no argument {name!r}{hint}")
