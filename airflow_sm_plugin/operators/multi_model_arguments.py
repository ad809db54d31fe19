"""The arguments of the multi-model operators as settings, with every limit checked that can be before AWS is asked.

Each function takes an operator whose templates are rendered, and raises InvalidRequest, naming the argument, its value,
the limit and the remedy. The modules of the batch are imported when they are needed: DAG files parse without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import reveal, task_instance_owner, writer_of
from airflow_sm_plugin.batches.templates import check_template
from airflow_sm_plugin.core.input_selection import patterns
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.template_values import (
    boolean,
    choice,
    is_given,
    number,
    seconds,
    text,
    whole_number,
)
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.request import MAX_PAYLOAD_BYTES, InvokeRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
    from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
    from airflow_sm_plugin.multi_model.report.tolerance import Tolerance

_MEGABYTE = 1_048_576


class PlanArguments(Protocol):
    """What a batch's inputs are."""

    endpoint_name: str
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

    @property
    def inputs(self) -> str | None:
        """Where the inputs are."""

    @property
    def outputs(self) -> str | None:
        """Where the results go."""


class SplitArguments(Protocol):
    """How inputs become payloads."""

    split_type: str
    batch_strategy: str
    max_payload_in_mb: float | str


class ObjectArguments(Protocol):
    """How objects are kept."""

    output_kms_key_id: str | None
    output_acl: str | None


class ToleranceArguments(Protocol):
    """How many failures a batch tolerates."""

    on_error: str
    tolerated_failure_ratio: float | str | None


class EngineArguments(SplitArguments, Protocol):
    """How a batch invokes its models."""

    endpoint_name: str
    content_type: str | None
    accept: str | None
    max_records: int | str | None
    skip_header: bool | str
    compression_type: str
    assemble_with: str
    join_source: str
    custom_attributes: str | None
    keep_response_attributes: bool | str
    target_variant: str | None
    max_concurrent_transforms: int | str
    max_warm_models: int | str | None
    attempts: int | str
    max_payload_seconds: float | str
    model_load_seconds: float | str
    isolate_bad_records: bool | str
    error_text_limit: int | str


def plan_settings(given: PlanArguments, context: Context, *, max_shards: int = 1) -> PlanSettings:
    """Return what to plan."""
    from airflow_sm_plugin.batches.inputs import InputSource
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings

    return PlanSettings(
        endpoint_name=given.endpoint_name,
        source=InputSource(
            location=_required(given.inputs, "inputs"),
            inputs_type=given.inputs_type,
            include=patterns(given.include, "include"),
            exclude=patterns(given.exclude, "exclude"),
            check_inputs=boolean(given.check_inputs, "check_inputs"),
        ),
        outputs=_required(given.outputs, "outputs"),
        owner=task_instance_owner(context) or digest("outside of Airflow"),
        target_model=text(given.target_model, "target_model"),
        output_name=given.output_name,
        max_shards=max_shards,
        writer=writer_of(context),
        restart=choice(given.on_rerun, "on_rerun", ("resume", "restart")) == "restart",
        check_models=boolean(given.check_models, "check_models"),
        fail_on_missing=choice(given.on_missing_model, "on_missing_model", ("record", "fail")) == "fail",
        empty_ok=boolean(given.empty_ok, "empty_ok"),
        state_prefix=text(given.state_prefix, "state_prefix"),
    ).checked()


def split_options(
    given: SplitArguments, *, skip_header: bool = False, max_records: int | None = None
) -> SplitOptions:
    """Return how inputs become payloads."""
    from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions

    return SplitOptions(
        split_type=str(given.split_type),
        batch_strategy=given.batch_strategy,
        max_payload_bytes=_payload_bytes(given.max_payload_in_mb),
        skip_header=skip_header,
        max_records=max_records,
    ).checked()


def object_options(given: ObjectArguments) -> ObjectOptions:
    """Return how what the operator writes to S3 is kept."""
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions

    return ObjectOptions(
        kms_key_id=text(given.output_kms_key_id, "output_kms_key_id"),
        acl=text(given.output_acl, "output_acl"),
    )


def tolerance_of(given: ToleranceArguments) -> Tolerance:
    """Return how many failures a batch tolerates."""
    from airflow_sm_plugin.multi_model.report.tolerance import Tolerance

    ratio, name = given.tolerated_failure_ratio, "tolerated_failure_ratio"
    return Tolerance(
        on_error=choice(given.on_error, "on_error", ("fail", "tolerate")),
        failure_ratio=number(ratio, name) if is_given(ratio) else None,
    ).checked()


def engine_settings(given: EngineArguments, context: Context) -> EngineSettings:
    """Return how a batch invokes its models."""
    from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
    from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions

    ti = context.get("ti")
    split = split_options(
        given,
        skip_header=boolean(given.skip_header, "skip_header"),
        max_records=_optional_count(given.max_records, "max_records"),
    )
    content_type, accept = text(given.content_type, "content_type"), text(given.accept, "accept")
    target_variant = text(given.target_variant, "target_variant")
    custom_attributes = text(reveal(given.custom_attributes), "custom_attributes")
    if custom_attributes is not None:
        check_template(custom_attributes, argument="custom_attributes")
    InvokeRequest(
        endpoint_name=given.endpoint_name,
        body=b"",
        content_type=content_type,
        accept=accept,
        target_variant=target_variant,
    ).checked()
    return EngineSettings(
        endpoint_name=given.endpoint_name,
        content_type=content_type,
        accept=accept,
        target_variant=target_variant,
        split=split,
        output=OutputOptions(
            assemble_with=str(given.assemble_with),
            join_source=str(given.join_source),
            content_type=content_type,
            accept=accept,
        ).checked(split.split_type),
        gunzip=choice(str(given.compression_type), "compression_type", ("None", "Gzip")) == "Gzip",
        custom_attributes=custom_attributes,
        fields={
            "run": str(getattr(ti, "run_id", "")),
            "dag_id": str(getattr(ti, "dag_id", "")),
            "task_id": str(getattr(ti, "task_id", "")),
        },
        keep_attributes=boolean(given.keep_response_attributes, "keep_response_attributes"),
        max_concurrent_transforms=whole_number(
            given.max_concurrent_transforms, "max_concurrent_transforms", at_least=1
        ),
        max_warm_models=_optional_count(given.max_warm_models, "max_warm_models"),
        attempts=whole_number(given.attempts, "attempts", at_least=1),
        payload_seconds=seconds(given.max_payload_seconds, "max_payload_seconds", positive=True),
        model_load_seconds=seconds(given.model_load_seconds, "model_load_seconds", positive=True),
        isolate_bad_records=boolean(given.isolate_bad_records, "isolate_bad_records"),
        error_text_limit=whole_number(given.error_text_limit, "error_text_limit"),
    )


def _required(value: object, name: str) -> str:
    if (location := text(value, name)) is None:
        raise InvalidRequest(
            f"{name} is needed, an s3:// prefix, unless shard is given: one of the plan task's references"
        )
    return location


def _optional_count(value: object, name: str) -> int | None:
    return whole_number(value, name, at_least=1) if is_given(value) else None


def _payload_bytes(max_payload_in_mb: object) -> int:
    size = number(max_payload_in_mb, "max_payload_in_mb") * _MEGABYTE
    if not 1 <= size <= MAX_PAYLOAD_BYTES:
        too_small = ", which is less than one byte" if 0 < size < 1 else ""
        raise InvalidRequest(
            f"max_payload_in_mb is {max_payload_in_mb}{too_small}, InvokeEndpoint takes payloads of one byte up to "
            f"{MAX_PAYLOAD_BYTES // _MEGABYTE} MB"
        )
    return int(size)
