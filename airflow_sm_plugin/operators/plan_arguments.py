"""Read the arguments that say what a batch's inputs are, once their templates are rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import task_instance_owner, writer_of
from airflow_sm_plugin.core.input_selection import patterns
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.template_values import boolean, choice, text
from airflow_sm_plugin.exceptions import InvalidRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings


class PlanArguments(Protocol):
    """The arguments that say what a batch's inputs are, as the operator stores them."""

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


def plan_settings(given: PlanArguments, context: Context, *, max_shards: int = 1) -> PlanSettings:
    """Return what to plan, with every limit checked that can be before inputs are listed.

    :raises InvalidRequest: naming the argument, its value, the limit and the remedy
    """
    from airflow_sm_plugin.batches.listing import InputSource
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


def _required(value: object, name: str) -> str:
    if (found := text(value, name)) is None:
        raise InvalidRequest(
            f"{name} is needed, an s3:// prefix, unless shard is given: one of the plan task's references"
        )
    return found
