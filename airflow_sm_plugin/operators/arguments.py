"""Arguments that several operators take, read after templates are rendered and checked before any call of AWS.

Each function raises InvalidRequest, which names the argument, its value, the limit and the remedy. Modules of the
batches are imported inside the functions, so that DAG files parse without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import task_instance_owner, writer_of
from airflow_sm_plugin.core.input_selection import patterns
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.template_values import boolean, choice, is_given, number, text, whole_number
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.request import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
    from airflow_sm_plugin.multi_model.report.tolerance import Tolerance

_MEGABYTE = 1_048_576


class PlanArguments(Protocol):
    """An operator that plans a batch: as a task of its own, or before it invokes."""

    endpoint_name: str
    inputs: str | None
    outputs: str | None
    target_model: str | None
    inputs_type: str
    include: Sequence[str] | str | None
    exclude: Sequence[str] | str | None
    output_name: str
    check_models: bool | str
    on_missing_model: str
    on_rerun: str
    empty_ok: bool | str
    check_inputs: bool | str
    state_prefix: str | None


def plan_settings(operator: PlanArguments, context: Context, *, max_shards: int = 1) -> PlanSettings:
    from airflow_sm_plugin.batches.inputs import InputSource
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings

    return PlanSettings(
        endpoint_name=operator.endpoint_name,
        source=InputSource(
            location=_required(operator.inputs, "inputs"),
            inputs_type=operator.inputs_type,
            include=patterns(operator.include, "include"),
            exclude=patterns(operator.exclude, "exclude"),
            check_inputs=boolean(operator.check_inputs, "check_inputs"),
        ),
        outputs=_required(operator.outputs, "outputs"),
        owner=task_instance_owner(context) or digest("outside of Airflow"),
        target_model=text(operator.target_model, "target_model"),
        output_name=operator.output_name,
        max_shards=max_shards,
        writer=writer_of(context),
        restart=is_restart(operator.on_rerun),
        check_models=boolean(operator.check_models, "check_models"),
        fail_on_missing=choice(operator.on_missing_model, "on_missing_model", ("record", "fail")) == "fail",
        empty_ok=boolean(operator.empty_ok, "empty_ok"),
        state_prefix=text(operator.state_prefix, "state_prefix"),
    ).checked()


def split_options(
    split_type: object,
    batch_strategy: str,
    max_payload_in_mb: object,
    *,
    skip_header: bool = False,
    max_records: int | None = None,
) -> SplitOptions:
    from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions

    return SplitOptions(
        split_type=str(split_type),
        batch_strategy=batch_strategy,
        max_payload_bytes=_payload_bytes(max_payload_in_mb),
        skip_header=skip_header,
        max_records=max_records,
    ).checked()


def object_options(output_kms_key_id: object, output_acl: object) -> ObjectOptions:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions

    return ObjectOptions(
        kms_key_id=text(output_kms_key_id, "output_kms_key_id"), acl=text(output_acl, "output_acl")
    )


def tolerance_of(on_error: str, tolerated_failure_ratio: object) -> Tolerance:
    from airflow_sm_plugin.multi_model.report.tolerance import Tolerance

    ratio, name = tolerated_failure_ratio, "tolerated_failure_ratio"
    return Tolerance(
        on_error=choice(on_error, "on_error", ("fail", "tolerate")),
        failure_ratio=number(ratio, name) if is_given(ratio) else None,
    ).checked()


def is_restart(on_rerun: str) -> bool:
    return choice(on_rerun, "on_rerun", ("resume", "restart")) == "restart"


def whole_number_if_given(value: object, name: str, *, at_least: int | None = 0) -> int | None:
    return whole_number(value, name, at_least=at_least) if is_given(value) else None


def _required(value: object, name: str) -> str:
    if (location := text(value, name)) is None:
        raise InvalidRequest(
            f"{name} is needed, an s3:// prefix, unless shard is given: one of the plan task's references"
        )
    return location


def _payload_bytes(max_payload_in_mb: object) -> int:
    size = number(max_payload_in_mb, "max_payload_in_mb") * _MEGABYTE
    if not 1 <= size <= MAX_PAYLOAD_BYTES:
        too_small = ", which is less than one byte" if 0 < size < 1 else ""
        raise InvalidRequest(
            f"max_payload_in_mb is {max_payload_in_mb}{too_small}, InvokeEndpoint takes payloads of one byte up to "
            f"{MAX_PAYLOAD_BYTES // _MEGABYTE} MB"
        )
    return int(size)
