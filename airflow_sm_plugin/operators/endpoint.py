"""Deploy SageMaker endpoints. The operator that deletes them can be imported from here as well."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.base import SageMakerInferenceOperator, broken_wait, task_instance_owner, try_of
from airflow_sm_plugin.core.names import endpoint_log_group, times_of
from airflow_sm_plugin.endpoints.options import DeploymentNote
from airflow_sm_plugin.exceptions import EndpointError
from airflow_sm_plugin.killable import Killable
from airflow_sm_plugin.links import DataCaptureLink, EndpointConsoleLink, EndpointLogsLink, persist_endpoint
from airflow_sm_plugin.operators.deployment_arguments import options_of, spec_of
from airflow_sm_plugin.resources.endpoint_status import EndpointState, EndpointVerdict

if TYPE_CHECKING:
    from airflow_sm_plugin.endpoints.deployment import Deployment
    from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator
    from airflow_sm_plugin.triggers.endpoint import EndpointTrigger

__all__ = ["SageMakerDeleteEndpointOperator", "SageMakerDeployEndpointOperator"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    """Import the operator that deletes when it is asked for."""
    if name != "SageMakerDeleteEndpointOperator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator

    return SageMakerDeleteEndpointOperator


class SageMakerDeployEndpointOperator(SageMakerInferenceOperator):
    """Have an endpoint serve a model, real-time or asynchronous: created, updated, or left alone when it does already.

    The endpoint's name is yours and stays; the configuration's name is derived from its content, so that a retry
    finds what it made and a change makes a new one. What is in progress there is waited out first, deferred where the
    task is ``deferrable``. InService is a success only with the wanted configuration: SageMaker ends a failed update
    InService with the old one.

    An update sets instance counts and weights to those of the configuration, also where Application Auto Scaling or a
    person has changed them since; the log warns of each variant that was scaled. Otherwise a change of
    ``initial_instance_count`` or of a weight would be ignored without a word. Endpoints that scale themselves want
    ``retain_variant_properties=True``.

    When the task fails, times out or is killed, what it created is deleted again (``cleanup_on_failure``): a teardown
    does not run when its setup failed. It is best effort, since SageMaker deletes no endpoint that is still being
    created: after its own errors the task waits for that, up to ``cleanup_wait_seconds``; after its execution time-out
    20 seconds at most; when it is killed it asks once, at once; when it is killed while deferred, its trigger waits
    almost as long as Airflow lets it (Airflow 3.3 and later, ``[triggerer] on_kill_timeout``, 30 seconds). An endpoint
    that is still being created then stays, which the log says, and costs money until a retry has gone on with it or
    ``SageMakerDeleteEndpointOperator`` has run. Marked as successful while it is deferred, the task deletes nothing.
    Never cleaned up are an endpoint that the task has seen serving, one that it found, and one that another deployment
    has created again, updated or deployed to since: tags, configuration and creation time are checked immediately
    before each deletion (``docs/endpoints.md``). An error that says nothing of the endpoint, such as throttling, leaves
    one that is being created or serves to the retry.

    A model that was deleted and created again under its name is another model, and makes another configuration; without
    ``sagemaker:DescribeModel`` that is not seen.

    Returns on XCom: ``{"endpoint_name", "endpoint_arn", "endpoint_config_name", "status", "action": "created" |
    "updated" | "unchanged"}``.

    ``deferrable`` and other shared arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param endpoint_name: up to 63 letters, digits and inner hyphens
    :param model_name: the model to serve
    :param production_variants: instead of ``model_name`` and the arguments of its one variant: up to ten variants as
        SageMaker spells them (``VariantName``, ``ModelName``, ``InstanceType``, ``InitialInstanceCount`` or
        ``ServerlessConfig``, …)
    :param instance_type: e.g. ``ml.m5.xlarge``, the default
    :param initial_instance_count: default 1
    :param variant_name: the production variant's name; default ``AllTraffic``
    :param async_output_path: S3 prefix for results; makes the endpoint asynchronous
    :param async_failure_path: S3 prefix for failure objects; without it SageMaker writes none, and a wait for a failed
        invocation ends by its deadline only
    :param async_success_topic: SNS topic's ARN
    :param async_error_topic: SNS topic's ARN
    :param max_concurrent_invocations_per_instance: 1 to 1000; default SageMaker's choice
    :param kms_key_id: key that encrypts asynchronous results
    :param volume_kms_key_id: key that encrypts the instances' storage
    :param data_capture_config: SageMaker's DataCaptureConfig
    :param deployment_config: SageMaker's DeploymentConfig, how an update shifts traffic: ``BlueGreenUpdatePolicy``
        (all at once, canary, linear) or ``RollingUpdatePolicy``, and ``AutoRollbackConfiguration`` with up to ten
        alarms; a creation ignores it
    :param retain_variant_properties: an update keeps instance counts and weights as they are, for endpoints that
        scale themselves; default False
    :param on_scaled: what to do where an update changes the instance type of a variant that is registered with
        Application Auto Scaling, or removes it, which SageMaker refuses: ``fail``, the default, before anything is
        created; or ``rescale``: deregister it, update, and put back its capacities, policies and scheduled actions,
        and have its policies' alarms set them off again, also when the update failed. Meanwhile tags of the endpoint
        keep them, so that the next try or deployment, whatever its ``on_scaled``, puts back what a killed one took
        down, with a warning (asks for ``sagemaker:ListTags``, ``AddTags`` and ``DeleteTags``)
    :param keep_configs: how many earlier configurations made for this endpoint stay when a new one serves; None keeps
        all; default 1. Their tag tells (``airflow-sm-plugin:endpoint``); those without it stay, with a warning, and so
        do those that another endpoint uses (asks for ``sagemaker:ListEndpoints``)
    :param delete_old_models: delete the models of removed configurations, those that our operators made and that no
        configuration kept for this endpoint, or used by another, names; default False
    :param on_failed: what to do about an endpoint found Failed: ``fail``, the default, or ``recreate``
    :param container_log_lines: shown when the endpoint fails or its update is rolled back; default 20
    :param tags: tags of endpoint and configuration, up to 48; some of ours are added. Where an existing one cannot be
        tagged, the log warns
    :param wait_for_completion: default True
    :param max_wait_seconds: for what is in progress before, and again for the endpoint to serve; default 4500, since an
        endpoint whose container crashes stays Creating for up to an hour before it is Failed
    :param poll_interval: default 30
    :param cleanup_on_failure: delete what this task created when it fails, times out or is killed, and tag what it
        creates so that the next try knows it (asks for ``sagemaker:ListTags``, without which nothing is deleted);
        default True
    :param cleanup_wait_seconds: how long cleaning up may take, since SageMaker deletes no endpoint that is still being
        created, up to an hour where it will never serve; default 3600
    :raises InvalidRequest: an argument breaks a limit; not retried
    :raises ModelNotFound: no such model; not retried
    :raises EndpointFailed: it ended Failed, with SageMaker's reason; retried
    :raises EndpointUnchangeable: it was there and Failed; not retried
    :raises EndpointScaled: a variant that scales would change its instance type or go; not retried
    :raises EndpointRolledBack: the update failed; not retried
    :raises EndpointTakenOver: another deployment has put its configuration there meanwhile; not retried
    :raises EndpointConfigNotFound: the configuration was deleted, again and again, before it was used; retried
    :raises EndpointDeadlineExceeded: not in service in time; retried
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
        """Go on when what was in progress before has ended, or its time has."""
        with self.reading_arguments():
            return self._go_on(context, self._deployment(context, event["note"]), event)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Judge the last description that the trigger saw."""
        with self.reading_arguments():
            deployment = self._deployment(context, event["note"])
            with deployment.on_failure():
                self._raise_broken(event)
                verdict = EndpointVerdict.from_mapping(event["verdict"])
                return self._result(context, deployment, verdict, event["note"]["action"])

    def on_kill(self) -> None:
        """Put back the scaling that this task took down, and delete what it created.

        As far as SageMaker permits that at once; then call nothing more.
        """
        try:
            if self._working_on is not None:
                self._working_on.at_once()
        finally:
            super().on_kill()
            self._waiting.on_kill()

    def _go_on(
        self, context: Context, deployment: Deployment, event: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Act, and wait for the end; defer instead of either wait where asked to."""
        with deployment.on_failure():
            self._raise_broken(event or {})
            while True:
                action = deployment.act()
                waits = deployment.pending and deployment.options.wait_for_completion
                if action is not None and not waits:
                    return self._result(context, deployment, deployment.poll(), action)
                if self.deferrable:
                    break
                event = self._event_here(self._trigger(deployment, action))
                self._raise_broken(event)
                if action is not None:
                    verdict = EndpointVerdict.from_mapping(event["verdict"])
                    return self._result(context, deployment, verdict, action)
        self._defer(deployment, action)
        raise EndpointError("Airflow did not defer")  # defer() raises

    def _event_here(self, trigger: EndpointTrigger) -> Mapping[str, Any]:
        """Wait in this process. A time-out ends the wait alone: cleaning up after it still calls SageMaker."""
        self._waiting = Killable()
        self.check_not_killed()
        return self._waiting.run_until_killed(trigger.event_here())

    def _raise_broken(self, event: Mapping[str, Any]) -> None:
        if event.get("status") == "error":
            raise broken_wait(f"waiting for endpoint {self.endpoint_name}", event)

    def _result(
        self, context: Context, deployment: Deployment, verdict: EndpointVerdict, action: str
    ) -> dict[str, Any]:
        if verdict.state in (EndpointState.FAILED, EndpointState.ROLLED_BACK):
            self.container_logs().show_tail(
                endpoint_log_group(self.endpoint_name), lines=deployment.options.container_log_lines
            )
        if verdict.state is EndpointState.SERVING:
            deployment.cleanup.no_more()
        deployment.put_back_scaling(verdict, action)
        deployment.check(verdict)
        deployment.cleanup.no_more()
        if verdict.state is EndpointState.SERVING and (action == "updated" or try_of(context).number > 1):
            deployment.earlier.tidy()
        result = deployment.result(verdict) | {"action": action}
        deployment.update_tags(result["endpoint_arn"])
        return result

    def _deployment(self, context: Context, note: Mapping[str, Any] | None = None) -> Deployment:
        """Make the deployment; after a deferral make it again from the note of the process before."""
        from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
        from airflow_sm_plugin.endpoints.deployment import Deployment

        options = options_of(vars(self))
        owner = task_instance_owner(context) if options.cleanup_on_failure else None
        try_number = try_of(context).number
        hook, spec = self.control_plane(), spec_of(vars(self), owner, try_number)
        left = None if note is None else DeploymentNote.from_mapping(note)
        models_created_at: Mapping[str, float]
        if left is not None:
            models_created_at = left.models_created_at
        else:
            # First of all: a task that fails needs its links most.
            persist_endpoint(
                context,
                region_name=hook.conn_region_name,
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
            note=left,
        )
        return self._working_on

    def _trigger(self, deployment: Deployment, action: str | None) -> EndpointTrigger:
        """Return the next wait: without an action until the endpoint may be changed, then until it serves.

        Each wait has its own deadline; begun again, the same wait keeps the first one.
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
            aws=self.aws.as_mapping(),
        )

    def _defer(self, deployment: Deployment, action: str | None) -> None:
        from airflow_sm_plugin.triggers.polling import GRACE_SECONDS

        trigger = self._trigger(deployment, action)
        self.defer(
            trigger=trigger,
            method_name="execute_when_changeable" if action is None else "execute_complete",
            timeout=timedelta(seconds=max(0.0, trigger.deadline - time.time()) + GRACE_SECONDS),
        )
