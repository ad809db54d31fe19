"""Deploy SageMaker endpoints. The operator that deletes them can also be imported from here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.base import SageMakerInferenceOperator, check_event, task_instance_of, try_of
from airflow_sm_plugin.core.names import DEPLOYED_TAG, endpoint_log_group, mark_of, times_of, with_owner
from airflow_sm_plugin.core.template_values import (
    boolean,
    choice,
    mapping,
    mappings,
    seconds,
    text,
    whole_number,
)
from airflow_sm_plugin.endpoints.options import DeploymentNote, DeploymentOptions, checked_guardrails
from airflow_sm_plugin.exceptions import EndpointError, InvalidRequest
from airflow_sm_plugin.killable import Killable
from airflow_sm_plugin.links import DataCaptureLink, EndpointConsoleLink, EndpointLogsLink, persist_endpoint
from airflow_sm_plugin.operators.arguments import whole_number_if_given
from airflow_sm_plugin.resources.endpoint_config import AsyncSection, EndpointConfigSpec, Variant
from airflow_sm_plugin.resources.endpoint_status import EndpointState, EndpointVerdict
from airflow_sm_plugin.resources.made_in import MadeIn
from airflow_sm_plugin.resources.tags import read_tags

if TYPE_CHECKING:
    from airflow_sm_plugin.endpoints.deployment import Deployment
    from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator
    from airflow_sm_plugin.triggers.endpoint import EndpointTrigger

__all__ = ["SageMakerDeleteEndpointOperator", "SageMakerDeployEndpointOperator"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    if name != "SageMakerDeleteEndpointOperator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator

    return SageMakerDeleteEndpointOperator


class SageMakerDeployEndpointOperator(SageMakerInferenceOperator):
    """Create or update an endpoint, real-time or asynchronous, unless it serves the wanted configuration already.

    The endpoint's name is the given one; its configuration's name is derived from the content, so that a retry reuses
    the configuration and a change creates a new one. The task first waits for an operation in progress to end.
    InService is a success only with the wanted configuration: after a failed update SageMaker reports InService with
    the old one.

    An update resets instance counts and weights that Application Auto Scaling or a person has changed since; the log
    warns of each scaled variant. With ``retain_variant_properties=True``, which endpoints that scale need, they stay,
    and SageMaker silently ignores a changed ``initial_instance_count`` or weight.

    When the task fails, times out or is killed, it deletes what it created (``cleanup_on_failure``): Airflow runs no
    teardown after a failed setup. SageMaker deletes no endpoint in status Creating, so the cleanup is best effort:

    - after an error of the task it waits up to ``cleanup_wait_seconds``;
    - after Airflow's execution time-out it waits 20 seconds;
    - when the task is killed it requests the deletion once;
    - while the task is deferred, the trigger waits almost as long as Airflow permits (Airflow 3.3 and later,
      ``[triggerer] on_kill_timeout``, 30 seconds).

    An endpoint that is still Creating then remains, which the log says, and costs money until a retry continues with it
    or ``SageMakerDeleteEndpointOperator`` has run. An endpoint that existed before the task, that has served, or that
    another task deploys to is never deleted; ``docs/endpoints.md`` has the checks.

    A model that was deleted and created again under its name counts as another model, and gets another configuration;
    without ``sagemaker:DescribeModel`` that is not detected.

    Returns on XCom: ``{"endpoint_name", "endpoint_arn", "endpoint_config_name", "status", "action": "created" |
    "updated" | "unchanged"}``.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param production_variants: instead of ``model_name`` and the arguments of its single variant: up to ten variants in
        SageMaker's form (``VariantName``, ``ModelName``, ``InstanceType``, ``InitialInstanceCount`` or
        ``ServerlessConfig``, …)
    :param instance_type: default ``ml.m5.xlarge``
    :param initial_instance_count: default 1
    :param variant_name: default ``AllTraffic``
    :param async_output_path: S3 prefix for results; makes the endpoint asynchronous
    :param async_failure_path: S3 prefix for failure objects; without it SageMaker writes none, and a wait for a failed
        invocation ends only at its deadline
    :param async_success_topic: SNS topic's ARN, as is ``async_error_topic``
    :param max_concurrent_invocations_per_instance: 1 to 1000; default SageMaker's choice
    :param kms_key_id: key that encrypts asynchronous results
    :param volume_kms_key_id: key that encrypts the instances' storage
    :param data_capture_config: SageMaker's DataCaptureConfig: which requests and responses are stored in S3
    :param deployment_config: SageMaker's DeploymentConfig, which shifts the traffic of an update:
        ``BlueGreenUpdatePolicy`` (all at once, canary, linear) or ``RollingUpdatePolicy``, and
        ``AutoRollbackConfiguration`` with up to ten alarms; a creation ignores it
    :param retain_variant_properties: an update keeps instance counts and weights, for endpoints that scale; default
        False
    :param on_scaled: SageMaker refuses to remove a variant that is registered with Application Auto Scaling, or to
        change its instance type. ``fail``, the default, fails before anything is created; ``rescale`` deregisters the
        variant, updates, and then, also after a failed update, restores capacities, policies, scheduled actions and
        alarms. Tags of the endpoint record them meanwhile, so that after a kill the next try or deployment restores
        them, whatever its ``on_scaled`` (needs ``sagemaker:ListTags``, ``AddTags`` and ``DeleteTags``)
    :param keep_configs: number of this endpoint's earlier configurations that are kept when a new one serves; None
        keeps all; default 1. Their tag ``airflow-sm-plugin:endpoint`` identifies them; configurations without it, or
        used by another endpoint, are kept with a warning (needs ``sagemaker:ListEndpoints``)
    :param delete_old_models: delete the models of removed configurations, if our operators created them and no
        configuration that is kept for this endpoint, or used by another, names them; default False
    :param on_failed: reaction to an endpoint that is already Failed: ``fail``, the default, or ``recreate``
    :param tags: tags of endpoint and configuration, up to 46; the operator adds its own. The log warns of an existing
        resource that cannot be tagged
    :param max_wait_seconds: for an operation in progress, and again for the endpoint to serve; default 4500, since an
        endpoint whose container crashes stays Creating for up to an hour before it is Failed
    :param wait_for_completion: wait until the endpoint serves; default True. With False the task succeeds once the
        change is requested: earlier configurations are then kept, and ``on_scaled="rescale"`` is refused
    :param cleanup_on_failure: delete what this task created when it fails, times out or is killed, and tag what it
        creates so that the next try recognizes it (needs ``sagemaker:ListTags``, without which nothing is deleted);
        default True
    :param cleanup_wait_seconds: limit of the cleanup, since an endpoint that will never serve stays Creating for up to
        an hour; default 3600
    :raises ModelNotFound: no such model
    :raises EndpointError: EndpointFailed, EndpointUnchangeable, EndpointScaled, EndpointRolledBack, EndpointTakenOver,
        EndpointConfigNotFound, EndpointDeadlineExceeded
    """

    not_templated = ("deferrable",)
    none_fields = ("keep_configs",)
    operator_extra_links = (EndpointConsoleLink(), EndpointLogsLink(), DataCaptureLink())

    def __init__(
        self,
        *,
        endpoint_name: str,
        model_name: str | None = None,
        production_variants: Sequence[Mapping[str, Any]] | str | None = None,
        instance_type: str = "ml.m5.xlarge",
        initial_instance_count: int | str = 1,
        variant_name: str = "AllTraffic",
        async_output_path: str | None = None,
        async_failure_path: str | None = None,
        async_success_topic: str | None = None,
        async_error_topic: str | None = None,
        kms_key_id: str | None = None,
        volume_kms_key_id: str | None = None,
        max_concurrent_invocations_per_instance: int | str | None = None,
        data_capture_config: Mapping[str, Any] | str | None = None,
        deployment_config: Mapping[str, Any] | str | None = None,
        retain_variant_properties: bool | str = False,
        on_scaled: str = "fail",
        keep_configs: int | str | None = 1,
        delete_old_models: bool | str = False,
        on_failed: str = "fail",
        container_log_lines: int | str = 20,
        tags: Mapping[str, str] | str | None = None,
        wait_for_completion: bool | str = True,
        max_wait_seconds: float | str = 4_500,
        poll_interval: float | str = 30,
        deferrable: bool | None = None,
        cleanup_on_failure: bool | str = True,
        cleanup_wait_seconds: float | str = 3_600,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.model_name = model_name
        self.production_variants = production_variants
        self.instance_type = instance_type
        self.initial_instance_count = initial_instance_count
        self.variant_name = variant_name
        self.async_output_path = async_output_path
        self.async_failure_path = async_failure_path
        self.async_success_topic = async_success_topic
        self.async_error_topic = async_error_topic
        self.max_concurrent_invocations_per_instance = max_concurrent_invocations_per_instance
        self.kms_key_id = kms_key_id
        self.volume_kms_key_id = volume_kms_key_id
        self.data_capture_config = data_capture_config
        self.deployment_config = deployment_config
        self.retain_variant_properties = retain_variant_properties
        self.on_scaled = on_scaled
        self.keep_configs = keep_configs
        self.delete_old_models = delete_old_models
        self.on_failed = on_failed
        self.container_log_lines = container_log_lines
        self.tags = tags
        self.wait_for_completion = wait_for_completion
        self.max_wait_seconds = max_wait_seconds
        self.poll_interval = poll_interval
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.cleanup_on_failure = cleanup_on_failure
        self.cleanup_wait_seconds = cleanup_wait_seconds
        self._working_on: Deployment | None = None
        self._waiting = Killable()

    def execute(self, context: Context) -> dict[str, Any]:
        with self.reading_arguments():
            return self._go_on(context, self._deployment(context))

    def execute_when_changeable(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue when the operation that was in progress has ended, or its deadline has passed."""
        with self.reading_arguments():
            return self._go_on(context, self._deployment(context, event["note"]), event)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Conclude from the last description that the trigger polled."""
        with self.reading_arguments():
            deployment = self._deployment(context, event["note"])
            with deployment.on_failure():
                self._check_event(event)
                verdict = EndpointVerdict.from_mapping(event["verdict"])
                return self._result(context, deployment, verdict, event["note"]["action"])

    def on_kill(self) -> None:
        """Restore the scaling that this task removed, and delete what it created, as far as SageMaker permits now."""
        try:
            if self._working_on is not None:
                self._working_on.at_once()
        finally:
            super().on_kill()
            self._waiting.on_kill()

    def _go_on(
        self, context: Context, deployment: Deployment, event: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Take steps and wait in between, until the endpoint serves; a deferrable task defers for each wait."""
        with deployment.on_failure():
            self._check_event(event or {})
            while True:
                action = deployment.act()
                waits = deployment.pending and deployment.options.wait_for_completion
                if action is not None and not waits:
                    return self._result(context, deployment, deployment.poll(), action)
                if self.deferrable:
                    break
                event = self._event_here(self._trigger(deployment, action))
                self._check_event(event)
                if action is not None:
                    verdict = EndpointVerdict.from_mapping(event["verdict"])
                    return self._result(context, deployment, verdict, action)
        method_name = "execute_when_changeable" if action is None else "execute_complete"
        self.defer_to(self._trigger(deployment, action), method_name)
        raise EndpointError("Airflow did not defer")  # defer_to() raises

    def _event_here(self, trigger: EndpointTrigger) -> Mapping[str, Any]:
        """Wait in this process. A time-out ends only the wait: the cleanup after it still calls SageMaker."""
        self._waiting = Killable()
        self.check_not_killed()
        return self._waiting.run_until_killed(trigger.event_here())

    def _check_event(self, event: Mapping[str, Any]) -> None:
        check_event(f"waiting for endpoint {self.endpoint_name}", event)

    def _result(
        self, context: Context, deployment: Deployment, verdict: EndpointVerdict, action: str
    ) -> dict[str, Any]:
        if verdict.state in (EndpointState.FAILED, EndpointState.ROLLED_BACK):
            self.container_logs().show_tail(
                endpoint_log_group(self.endpoint_name),
                lines=deployment.options.container_log_lines,
                since=deployment.requested_at,
            )
        if verdict.state is EndpointState.SERVING:
            deployment.cleanup.no_more()
        deployment.put_back_scaling(verdict, action)
        deployment.check(verdict)
        deployment.cleanup.no_more()
        deployment.log_serving(verdict, action)
        if verdict.state is EndpointState.SERVING and (action == "updated" or try_of(context).number > 1):
            deployment.earlier.tidy()
        result = deployment.result(verdict) | {"action": action}
        deployment.update_tags(result["endpoint_arn"])
        return result

    def _deployment(self, context: Context, note: Mapping[str, Any] | None = None) -> Deployment:
        """Create the deployment; after a deferral create it from the note of the process before."""
        from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
        from airflow_sm_plugin.endpoints.deployment import Deployment

        options = self._options()
        made_in = task_instance_of(context) if options.cleanup_on_failure else None
        owner = None if made_in is None else made_in.owner
        try_number = try_of(context).number
        hook, spec = self.control_plane(), self._spec(made_in, try_number)
        earlier_note = None if note is None else DeploymentNote.from_mapping(note)
        models_created_at: Mapping[str, float]
        if earlier_note is not None:
            models_created_at = earlier_note.models_created_at
        else:
            # Before any check: the links are most useful after a failure.
            persist_endpoint(
                context,
                self.console(hook),
                endpoint_name=spec.endpoint_name,
                data_capture=spec.data_capture,
            )
            models = hook.models.find_all(spec.model_names)
            spec.check_models(models)
            models_created_at = times_of(models)
        self._working_on = Deployment(
            hook,
            replace(spec, models_created_at=models_created_at),
            options,
            EndpointScaling(self.aws, before_call=self.check_not_killed),
            owner=owner,
            try_number=try_number,
            note=earlier_note,
        )
        return self._working_on

    def _trigger(self, deployment: Deployment, action: str | None) -> EndpointTrigger:
        """Create the trigger of the next wait: without an action until a change is permitted, then until it serves.

        Each wait has its own deadline, which the same wait keeps when it starts again.
        """
        from airflow_sm_plugin.triggers.endpoint import EndpointChangeableTrigger, EndpointServingTrigger

        kind: type[EndpointTrigger] = EndpointChangeableTrigger if action is None else EndpointServingTrigger
        return kind(
            endpoint_name=deployment.spec.endpoint_name,
            wanted_config=deployment.spec.config_name,
            note=deployment.note(action).as_mapping(),
            deadline=deployment.deadline if action is None else time.time() + deployment.options.max_wait,
            poll_interval=deployment.options.poll_interval,
            cleanup=deployment.cleanup_after_kill(),
            container_log_lines=deployment.options.container_log_lines,
            aws=self.aws.as_mapping(),
        )

    def _options(self) -> DeploymentOptions:
        guardrails = mapping(self.deployment_config, "deployment_config")
        rescale = choice(self.on_scaled, "on_scaled", ("fail", "rescale")) == "rescale"
        waits = boolean(self.wait_for_completion, "wait_for_completion")
        if rescale and not waits:
            raise InvalidRequest(
                "on_scaled='rescale' puts the scaling back when the update has ended, so the task has to wait for "
                "that: leave wait_for_completion=False out"
            )
        return DeploymentOptions(
            max_wait=seconds(self.max_wait_seconds, "max_wait_seconds"),
            poll_interval=seconds(self.poll_interval, "poll_interval", positive=True),
            wait_for_completion=waits,
            cleanup_wait=seconds(self.cleanup_wait_seconds, "cleanup_wait_seconds"),
            cleanup_on_failure=boolean(self.cleanup_on_failure, "cleanup_on_failure"),
            recreate_failed=choice(self.on_failed, "on_failed", ("fail", "recreate")) == "recreate",
            deployment_config=checked_guardrails(guardrails) if guardrails else None,
            retain_variant_properties=boolean(self.retain_variant_properties, "retain_variant_properties"),
            rescale=rescale,
            keep_configs=whole_number_if_given(self.keep_configs, "keep_configs"),
            delete_old_models=boolean(self.delete_old_models, "delete_old_models"),
            container_log_lines=whole_number(self.container_log_lines, "container_log_lines"),
        )

    def _spec(self, made_in: MadeIn | None, try_number: int) -> EndpointConfigSpec:
        owner, readable = (None, None) if made_in is None else (made_in.owner, made_in.as_tag())
        return EndpointConfigSpec(
            endpoint_name=self.endpoint_name,
            variants=self._variants(),
            async_section=self._async_section(),
            data_capture=mapping(self.data_capture_config, "data_capture_config"),
            volume_kms_key_id=text(self.volume_kms_key_id, "volume_kms_key_id"),
            tags=with_owner(read_tags(self.tags, "tags") or {}, owner, readable),
            endpoint_tags={DEPLOYED_TAG: mark_of(owner, try_number)} if owner else {},
        ).checked()

    def _variants(self) -> Sequence[Variant]:
        variants = mappings(self.production_variants, "production_variants")
        model_name = text(self.model_name, "model_name")
        if (model_name is None) == (variants is None):
            raise InvalidRequest("give either model_name (one variant) or production_variants")
        if variants is not None:
            return [Variant.from_mapping(variant) for variant in variants]
        count = whole_number(self.initial_instance_count, "initial_instance_count", at_least=None)
        return [
            Variant(
                model_name=str(model_name),
                instance_type=self.instance_type,
                initial_instance_count=count,
                variant_name=self.variant_name,
            )
        ]

    def _async_section(self) -> AsyncSection | None:
        section = AsyncSection(
            output_path=text(self.async_output_path, "async_output_path"),
            failure_path=text(self.async_failure_path, "async_failure_path"),
            success_topic=text(self.async_success_topic, "async_success_topic"),
            error_topic=text(self.async_error_topic, "async_error_topic"),
            max_concurrent_invocations_per_instance=whole_number_if_given(
                self.max_concurrent_invocations_per_instance,
                "max_concurrent_invocations_per_instance",
                at_least=None,
            ),
            kms_key_id=text(self.kms_key_id, "kms_key_id"),
        )
        return None if section == AsyncSection(output_path=None) else section
