"""Read the arguments of a deployment, after templates are rendered: numbers and booleans can be text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin.core.names import DEPLOYED_TAG, mark_of, with_owner
from airflow_sm_plugin.core.template_values import (
    boolean,
    choice,
    is_given,
    mapping,
    mappings,
    seconds,
    text,
    whole_number,
)
from airflow_sm_plugin.endpoints.options import DeploymentOptions, checked_guardrails
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.endpoint_config import AsyncSection, EndpointConfigSpec, Variant
from airflow_sm_plugin.resources.tags import read_tags


def options_of(arguments: Mapping[str, Any]) -> DeploymentOptions:
    """Return how the endpoint is deployed.

    :raises InvalidRequest: an argument is not what it must be
    """
    guardrails = mapping(arguments["deployment_config"], "deployment_config")
    rescale = choice(arguments["on_scaled"], "on_scaled", ("fail", "rescale")) == "rescale"
    waits = boolean(arguments["wait_for_completion"], "wait_for_completion")
    if rescale and not waits:
        raise InvalidRequest(
            "on_scaled='rescale' puts the scaling back when the update has ended, so the task has to wait for that: "
            "leave wait_for_completion=False out"
        )
    return DeploymentOptions(
        max_wait=seconds(arguments["max_wait_seconds"], "max_wait_seconds"),
        poll_interval=seconds(arguments["poll_interval"], "poll_interval", positive=True),
        wait_for_completion=waits,
        cleanup_wait=seconds(arguments["cleanup_wait_seconds"], "cleanup_wait_seconds"),
        cleanup_on_failure=boolean(arguments["cleanup_on_failure"], "cleanup_on_failure"),
        recreate_failed=choice(arguments["on_failed"], "on_failed", ("fail", "recreate")) == "recreate",
        deployment_config=checked_guardrails(guardrails) if guardrails else None,
        retain_variant_properties=boolean(
            arguments["retain_variant_properties"], "retain_variant_properties"
        ),
        rescale=rescale,
        keep_configs=whole_number(arguments["keep_configs"], "keep_configs")
        if is_given(arguments["keep_configs"])
        else None,
        delete_old_models=boolean(arguments["delete_old_models"], "delete_old_models"),
        container_log_lines=whole_number(arguments["container_log_lines"], "container_log_lines"),
    )


def spec_of(
    arguments: Mapping[str, Any], owner: str | None = None, try_number: int = 1
) -> EndpointConfigSpec:
    """Return the configuration that the endpoint is to serve.

    :param owner: names the task instance in a tag of what it creates
    :param try_number: the task instance's, in another tag of an endpoint that it creates
    :raises InvalidRequest: an argument breaks a limit
    """
    return EndpointConfigSpec(
        endpoint_name=arguments["endpoint_name"],
        variants=_variants(arguments),
        async_section=_async_section(arguments),
        data_capture=mapping(arguments["data_capture_config"], "data_capture_config"),
        volume_kms_key_id=text(arguments["volume_kms_key_id"], "volume_kms_key_id"),
        tags=with_owner(read_tags(arguments["tags"], "tags") or {}, owner),
        endpoint_tags={DEPLOYED_TAG: mark_of(owner, try_number)} if owner else {},
    ).checked()


def _variants(arguments: Mapping[str, Any]) -> Sequence[Variant]:
    variants = mappings(arguments["production_variants"], "production_variants")
    model_name = text(arguments["model_name"], "model_name")
    if (model_name is None) == (variants is None):
        raise InvalidRequest("give either model_name (one variant) or production_variants")
    if variants is not None:
        return [Variant.from_mapping(variant) for variant in variants]
    return [
        Variant(
            model_name=str(model_name),
            instance_type=arguments["instance_type"],
            initial_instance_count=whole_number(
                arguments["initial_instance_count"], "initial_instance_count", at_least=None
            ),
            variant_name=arguments["variant_name"],
        )
    ]


def _async_section(arguments: Mapping[str, Any]) -> AsyncSection | None:
    concurrency = arguments["max_concurrent_invocations_per_instance"]
    section = AsyncSection(
        output_path=text(arguments["async_output_path"], "async_output_path"),
        failure_path=text(arguments["async_failure_path"], "async_failure_path"),
        success_topic=text(arguments["async_success_topic"], "async_success_topic"),
        error_topic=text(arguments["async_error_topic"], "async_error_topic"),
        max_concurrent_invocations_per_instance=(
            None
            if not is_given(concurrency)
            else whole_number(concurrency, "max_concurrent_invocations_per_instance", at_least=None)
        ),
        kms_key_id=text(arguments["kms_key_id"], "kms_key_id"),
    )
    return None if section == AsyncSection(output_path=None) else section
