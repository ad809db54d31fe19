"""Task groups: a whole batch through a multi-model endpoint, spread over Airflow's workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_sm_plugin._compat import TaskGroup
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from airflow_sm_plugin.operators.multi_model_plan import PLAN_KEY

if TYPE_CHECKING:
    from airflow_sm_plugin._compat import XComArg

_OF_PLAN = frozenset(
    {
        "target_model",
        "inputs_type",
        "output_name",
        "max_shards",
        "check_models",
        "on_missing_model",
        "on_rerun",
        "empty_ok",
        "check_inputs",
        "state_prefix",
        "plan_only",
    }
)
_OF_PLAN_TOO = frozenset({"split_type", "batch_strategy", "max_payload_in_mb", "on_rerun"})
_OF_MERGE = frozenset({"on_error", "tolerated_failure_ratio", "output_kms_key_id", "output_acl"})
_OF_AWS = ("aws_conn_id", "region_name", "verify", "botocore_config")


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

    The merge runs whatever became of the batch tasks and is the one that fails when records did, so that there is one
    report; a batch task fails only when its shard could not be done. While failures may pass and it has retries left, a
    batch task retries, and does only those again.

    :func:`report_of` gives the group's report for other tasks.

    :param endpoint_name: of a real-time multi-model endpoint (templated)
    :param inputs: ``s3://bucket/prefix`` or a manifest (templated)
    :param outputs: ``s3://bucket/prefix`` of the results (templated)
    :param max_active_shards: shards of one DAG run that are done at the same time; default Airflow's own limits. Each
        has its own ``max_concurrent_transforms`` and ``max_warm_models``
    :param task_arguments: Airflow's arguments of all three tasks: ``retries``, ``pool``, ``queue``, …
    :param arguments: of :class:`~airflow_sm_plugin.operators.multi_model.SageMakerPlanMultiModelBatchOperator`,
        :class:`~airflow_sm_plugin.operators.multi_model.SageMakerMultiModelBatchOperator` and
        :class:`~airflow_sm_plugin.operators.multi_model.SageMakerMergeBatchReportOperator`; each goes where it belongs
    :raises TypeError: none of the three has such an argument
    """
    common = {
        **(task_arguments or {}),
        **{name: arguments.pop(name) for name in _OF_AWS if name in arguments},
    }
    to_plan = {name: value for name, value in arguments.items() if name in _OF_PLAN | _OF_PLAN_TOO}
    to_merge = {name: value for name, value in arguments.items() if name in _OF_MERGE | {"failure_rows"}}
    of_batch = (arguments.keys() - _OF_PLAN - {"failure_rows", "on_error", "tolerated_failure_ratio"}) | (
        arguments.keys() & _OF_PLAN_TOO
    )
    to_batch = {name: arguments[name] for name in of_batch}
    with TaskGroup(group_id) as group:
        plan = SageMakerPlanMultiModelBatchOperator(
            task_id="plan", endpoint_name=endpoint_name, inputs=inputs, outputs=outputs, **to_plan, **common
        )
        batch = SageMakerMultiModelBatchOperator.partial(
            task_id="batch",
            endpoint_name=endpoint_name,
            on_error="tolerate",
            max_active_tis_per_dagrun=max_active_shards,
            **to_batch,
            **common,
        ).expand(shard=plan.output)
        merge = SageMakerMergeBatchReportOperator(
            task_id="merge",
            plan_location=_plan_location(plan.task_id),
            **to_merge,
            **common,
        )
        batch >> merge
    return group


def report_of(group: TaskGroup) -> XComArg:
    """Return the report's summary of a :func:`multi_model_batch`, for tasks that go on with it."""
    merge = cast("SageMakerMergeBatchReportOperator", group.get_child_by_label("merge"))
    return merge.output


def _plan_location(task_id: str) -> str:
    """Return the template of where the plan lies; empty when it was only estimated, ``None`` when there is none."""
    plan = f"ti.xcom_pull(task_ids='{task_id}', key='{PLAN_KEY}')"
    return f"{{{{ ({plan} or {{'plan_location': None}}).plan_location }}}}"
