"""Deploy and delete SageMaker endpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.base import SageMakerInferenceOperator, broken_wait, failing_well, task_instance_owner
from airflow_sm_plugin.core import deployment_guardrails
from airflow_sm_plugin.core.container_logs import endpoint_log_group
from airflow_sm_plugin.core.endpoint_config import AsyncSection, EndpointConfigSpec, Variant
from airflow_sm_plugin.core.endpoint_status import EndpointState, EndpointVerdict
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.ownership import with_owner
from airflow_sm_plugin.core.production_variant import whole_number
from airflow_sm_plugin.core.template_values import seconds
from airflow_sm_plugin.exceptions import EndpointError, InvalidRequest
from airflow_sm_plugin.links import EndpointConsoleLink, EndpointLogsLink, persist_endpoint

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
    from airflow_sm_plugin.hooks.deployment import Deployment


class SageMakerDeployEndpointOperator(SageMakerInferenceOperator):
    """Have an endpoint serve a model, real-time or asynchronous: created, updated, or left alone when it does already.

    The endpoint's name is yours and stays; the configuration's name is derived from its content, so that a retry
    finds what it made and a change makes a new one. What is in progress is waited out first. InService is a success
    only with the wanted configuration: SageMaker ends a failed update InService with the old one.

    When the task fails, times out or is killed, what it created is deleted again (``cleanup_on_failure``): a teardown
    does not run when its setup failed. It is best effort, since SageMaker deletes no endpoint that is still being
    created: after its own errors the task waits for that, up to ``cleanup_wait_seconds``, after a kill 20 seconds; a
    retry completes what a killed try left. An endpoint found already there is never deleted.

    Returns on XCom: ``{"endpoint_name", "endpoint_arn", "endpoint_config_name", "status", "action": "created" |
    "updated" | "unchanged"}``.

    :param endpoint_name: up to 63 letters, digits and inner hyphens (templated)
    :param model_name: the model to serve (templated)
    :param production_variants: instead of ``model_name`` and the arguments of its one variant: up to ten variants as
        SageMaker spells them (``VariantName``, ``ModelName``, ``InstanceType``, ``InitialInstanceCount`` or
        ``ServerlessConfig``, …) (templated)
    :param instance_type: e.g. ``ml.m5.xlarge``, the default (templated)
    :param initial_instance_count: default 1 (templated)
    :param variant_name: the production variant's name; default ``AllTraffic`` (templated)
    :param async_output_path: S3 prefix for results; makes the endpoint asynchronous (templated)
    :param async_failure_path: S3 prefix for failure objects; without it SageMaker writes none, and a wait for a failed
        invocation ends by its deadline only (templated)
    :param async_success_topic: SNS topic's ARN (templated)
    :param async_error_topic: SNS topic's ARN (templated)
    :param max_concurrent_invocations_per_instance: 1 to 1000; default SageMaker's choice
    :param kms_key_id: key that encrypts asynchronous results (templated)
    :param volume_kms_key_id: key that encrypts the instances' storage (templated)
    :param data_capture_config: SageMaker's DataCaptureConfig (templated)
    :param deployment_config: SageMaker's DeploymentConfig, how an update shifts traffic: ``BlueGreenUpdatePolicy``
        (all at once, canary, linear) or ``RollingUpdatePolicy``, and ``AutoRollbackConfiguration`` with up to ten
        alarms; a creation ignores it (templated)
    :param retain_variant_properties: an update keeps instance counts and weights as they are, for endpoints that
        scale themselves; default False
    :param keep_configs: how many earlier configurations derived for this endpoint stay when a new one serves; None
        keeps all; default 1 (templated)
    :param delete_old_models: delete the models that only removed configurations name and that our operators made;
        default False
    :param on_failed: what to do about an endpoint found Failed: ``fail``, the default, or ``recreate``
    :param container_log_lines: how many of the containers' last log lines the task's log shows when the endpoint
        fails; default 20, 0 shows none
    :param tags: tags of endpoint and configuration (templated)
    :param wait_for_completion: default True
    :param max_wait_seconds: default 3600
    :param poll_interval: seconds between looks; default 30
    :param deferrable: wait in the triggerer; default Airflow's ``[operators] default_deferrable``
    :param cleanup_on_failure: delete what this task created when it fails, times out or is killed, and tag what it
        creates so that the next try knows it (asks for ``sagemaker:AddTags`` and ``sagemaker:ListTags``); default True
    :param cleanup_wait_seconds: how long cleaning up may take, since SageMaker deletes no endpoint that is still being
        created; default 1800
    :raises InvalidRequest: an argument breaks a limit; not retried
    :raises ModelNotFound: no such model; not retried
    :raises EndpointFailed: it ended Failed, with SageMaker's reason; retried
    :raises EndpointUnchangeable: it was there and Failed; not retried
    :raises EndpointRolledBack: the update failed; not retried
    :raises EndpointDeadlineExceeded: not in service in time; retried
    """

    template_fields: Sequence[str] = (
        *SageMakerInferenceOperator.template_fields,
        "endpoint_name",
        "model_name",
        "production_variants",
        "instance_type",
        "initial_instance_count",
        "variant_name",
        "async_output_path",
        "async_failure_path",
        "async_success_topic",
        "async_error_topic",
        "kms_key_id",
        "volume_kms_key_id",
        "max_concurrent_invocations_per_instance",
        "data_capture_config",
        "deployment_config",
        "keep_configs",
        "tags",
    )
    operator_extra_links = (EndpointConsoleLink(), EndpointLogsLink())

    def __init__(
        self,
        *,
        endpoint_name: str,
        model_name: str | None = None,
        production_variants: Sequence[Mapping[str, Any]] | None = None,
        instance_type: str = "ml.m5.xlarge",
        initial_instance_count: int = 1,
        variant_name: str = "AllTraffic",
        async_output_path: str | None = None,
        async_failure_path: str | None = None,
        async_success_topic: str | None = None,
        async_error_topic: str | None = None,
        max_concurrent_invocations_per_instance: int | None = None,
        kms_key_id: str | None = None,
        volume_kms_key_id: str | None = None,
        data_capture_config: Mapping[str, Any] | None = None,
        deployment_config: Mapping[str, Any] | None = None,
        retain_variant_properties: bool = False,
        keep_configs: int | None = 1,
        delete_old_models: bool = False,
        on_failed: Literal["fail", "recreate"] = "fail",
        container_log_lines: int = 20,
        tags: Mapping[str, str] | None = None,
        wait_for_completion: bool = True,
        max_wait_seconds: float = 3_600,
        poll_interval: float = 30,
        deferrable: bool | None = None,
        cleanup_on_failure: bool = True,
        cleanup_wait_seconds: float = 1_800,
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

    def execute(self, context: Context) -> dict[str, Any]:
        """Create or update, then wait."""
        with failing_well():
            deployment = self._deployment(context)
            persist_endpoint(
                context, region_name=deployment.region_name, endpoint_name=deployment.spec.endpoint_name
            )
            with deployment.cleaning_up():
                action = deployment.act()
                if not (deployment.pending and self.wait_for_completion and self.deferrable):
                    verdict = deployment.wait(finished=self.wait_for_completion)
                    return self._result(context, deployment, verdict, action)
            self._defer(deployment, action)
            raise EndpointError("Airflow did not defer")  # defer() raises

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Judge what the trigger saw last."""
        with failing_well():
            action, created = event["note"]["action"], event["note"]["created"]
            deployment = self._deployment(context, created=created, touched=action != "unchanged")
            with deployment.cleaning_up():
                if event["status"] == "error":
                    raise broken_wait(f"waiting for endpoint {self.endpoint_name}", event)
                return self._result(
                    context, deployment, EndpointVerdict.from_mapping(event["verdict"]), action
                )

    def on_kill(self) -> None:
        """Delete what this task created, as far as SageMaker lets it be deleted at once."""
        if self._working_on is not None:
            self._working_on.abort()

    def _result(
        self, context: Context, deployment: Deployment, verdict: EndpointVerdict, action: str
    ) -> dict[str, Any]:
        if verdict.state is EndpointState.FAILED:
            group = endpoint_log_group(self.endpoint_name)
            self.container_logs().show_tail(
                group, lines=whole_number(self.container_log_lines, "container_log_lines")
            )
        deployment.check(verdict, finished=self.wait_for_completion)
        if verdict.state is EndpointState.SERVING and (action == "updated" or _is_retry(context)):
            deployment.tidy()
        return deployment.describe() | {"action": action}

    def _deployment(
        self, context: Context, created: Sequence[str] = (), *, touched: bool = False
    ) -> Deployment:
        from airflow_sm_plugin.hooks.deployment import Deployment, DeploymentOptions

        owner = task_instance_owner(context) if self.cleanup_on_failure else None
        options = DeploymentOptions(
            max_wait=seconds(self.max_wait_seconds, "max_wait_seconds"),
            poll_interval=seconds(self.poll_interval, "poll_interval", positive=True),
            cleanup_wait=seconds(self.cleanup_wait_seconds, "cleanup_wait_seconds"),
            cleanup_on_failure=self.cleanup_on_failure,
            recreate_failed=self._recreates_failed(),
            deployment_config=deployment_guardrails.checked(self.deployment_config)
            if self.deployment_config
            else None,
            retain_variant_properties=self.retain_variant_properties,
            keep_configs=None
            if self.keep_configs is None
            else whole_number(self.keep_configs, "keep_configs"),
            delete_old_models=self.delete_old_models,
        )
        spec = self._spec(owner)
        self._working_on = Deployment(
            self.control_plane(), spec, options, owner=owner, created=created, touched=touched
        )
        return self._working_on

    def _recreates_failed(self) -> bool:
        if self.on_failed not in ("fail", "recreate"):
            raise InvalidRequest(f"on_failed must be 'fail' or 'recreate', not {self.on_failed!r}")
        return self.on_failed == "recreate"

    def _spec(self, owner: str | None = None) -> EndpointConfigSpec:
        return EndpointConfigSpec(
            endpoint_name=self.endpoint_name,
            variants=self._variants(),
            async_section=self._async_section(),
            data_capture=self.data_capture_config,
            volume_kms_key_id=self.volume_kms_key_id or None,
            tags=with_owner(self.tags or {}, owner),
        ).checked()

    def _variants(self) -> list[Variant]:
        if (self.model_name is None) == (self.production_variants is None):
            raise InvalidRequest("give either model_name (one variant) or production_variants")
        if self.production_variants is not None:
            return [Variant.from_mapping(variant) for variant in self.production_variants]
        return [
            Variant(
                model_name=str(self.model_name),
                instance_type=self.instance_type,
                initial_instance_count=whole_number(self.initial_instance_count, "initial_instance_count"),
                variant_name=self.variant_name,
            )
        ]

    def _async_section(self) -> AsyncSection | None:
        concurrency = self.max_concurrent_invocations_per_instance
        section = AsyncSection(
            output_path=self.async_output_path or None,
            failure_path=self.async_failure_path or None,
            success_topic=self.async_success_topic or None,
            error_topic=self.async_error_topic or None,
            max_concurrent_invocations_per_instance=(
                None
                if concurrency is None
                else whole_number(concurrency, "max_concurrent_invocations_per_instance")
            ),
            kms_key_id=self.kms_key_id or None,
        )
        return None if section == AsyncSection(output_path=None) else section

    def _defer(self, deployment: Deployment, action: str) -> None:
        from airflow_sm_plugin.triggers.endpoint import EndpointServingTrigger
        from airflow_sm_plugin.triggers.polling import GRACE_SECONDS

        self.defer(
            trigger=EndpointServingTrigger(
                endpoint_name=deployment.spec.endpoint_name,
                wanted_config=deployment.spec.config_name,
                note={"action": action, "created": deployment.created},
                deadline=time.time() + float(self.max_wait_seconds),
                poll_interval=float(self.poll_interval),
                aws=self.aws.as_mapping(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=float(self.max_wait_seconds) + GRACE_SECONDS),
        )


def _is_retry(context: Context) -> bool:
    ti = context.get("ti")
    return ti is not None and ti.try_number > 1


class SageMakerDeleteEndpointOperator(SageMakerInferenceOperator):
    """Delete an endpoint with its scaling, models where asked, its configurations; missing is fine. Fit for a teardown.

    What is in progress is waited out first, as SageMaker demands, and the task ends when the endpoint is gone. Its
    configurations are the one that it serves and those that :class:`SageMakerDeployEndpointOperator` derived for it,
    which are looked for also when the endpoint is gone: a killed try may have left them.

    Returns on XCom: ``{"endpoint_name", "deleted": ["endpoint …", "endpoint configuration …", "model …"], "missing":
    [...]}``.

    :param endpoint_name: (templated)
    :param delete_config: delete its configurations, earlier ones included; default True
    :param delete_models: delete the models that its configurations name; default False
    :param remove_scaling: remove Application Auto Scaling's policies, our alarms and the scalable target first; default
        True. Say False where Application Auto Scaling cannot be reached
    :param model_names: further models to delete, also when there is no endpoint; empty entries are passed over, so
        that a template may render to nothing (templated)
    :param max_wait_seconds: default 1800
    :param poll_interval: seconds between looks; default 10
    :raises EndpointDeadlineExceeded: still there in the end; retried
    """

    template_fields: Sequence[str] = (
        *SageMakerInferenceOperator.template_fields,
        "endpoint_name",
        "model_names",
    )

    def __init__(
        self,
        *,
        endpoint_name: str,
        delete_config: bool = True,
        delete_models: bool = False,
        remove_scaling: bool = True,
        model_names: Sequence[str] = (),
        max_wait_seconds: float = 1_800,
        poll_interval: float = 10,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.delete_config = delete_config
        self.delete_models = delete_models
        self.remove_scaling = remove_scaling
        self.model_names = model_names
        self.max_wait_seconds = max_wait_seconds
        self.poll_interval = poll_interval

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete in order: scaling, endpoint, models, configuration."""
        with failing_well():
            if isinstance(self.model_names, str):
                raise InvalidRequest(
                    f"model_names must be a list of names, not the text {self.model_names!r}"
                )
            name = check_name(self.endpoint_name, "endpoint name")
            hook = self.control_plane()
            description = hook.describe_endpoint(name)
            served = [description["EndpointConfigName"]] if description else []
            # A retry, when the endpoint is gone, finds no others: what is deleted must not depend on the try.
            configs = list(dict.fromkeys([*served, *hook.derived_endpoint_configs(name)]))
            models = self._models_of(hook, configs) if self.delete_models else []
            scaling = self._remove_scaling(name) if self.remove_scaling else []
            done = {f"scaling {what}": True for what in scaling}
            done[f"endpoint {name}"] = hook.delete_endpoint(
                name,
                max_wait=seconds(self.max_wait_seconds, "max_wait_seconds"),
                poll_interval=seconds(self.poll_interval, "poll_interval", positive=True),
            )
            # Only the configuration tells which models: a retry must find it as long as one of them is left.
            for model in dict.fromkeys([*models, *filter(None, self.model_names)]):
                done[f"model {model}"] = hook.delete_model(model)
            for config in configs if self.delete_config else ():
                done[f"endpoint configuration {config}"] = hook.delete_endpoint_config(config)
            deleted = [what for what, existed in done.items() if existed]
            missing = [what for what, existed in done.items() if not existed]
            self.log.info("deleted: %s; missing: %s", ", ".join(deleted) or "-", ", ".join(missing) or "-")
            return {"endpoint_name": name, "deleted": deleted, "missing": missing}

    def _remove_scaling(self, endpoint_name: str) -> list[str]:
        from airflow_sm_plugin.hooks.autoscaling import EndpointScaling

        return EndpointScaling(self.aws).remove_scaling(endpoint_name)

    def _models_of(self, hook: SageMakerControlPlaneHook, configs: Sequence[str]) -> list[str]:
        found = filter(None, map(hook.describe_endpoint_config, configs))
        return [variant["ModelName"] for config in found for variant in config.get("ProductionVariants", ())]
