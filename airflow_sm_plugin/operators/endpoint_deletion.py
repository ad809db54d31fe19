"""Delete a SageMaker endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator, failing_well
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.template_values import boolean, seconds
from airflow_sm_plugin.exceptions import InvalidRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook


class SageMakerDeleteEndpointOperator(SageMakerInferenceOperator):
    """Delete an endpoint with its scaling, models where asked, its configurations; missing is fine. Fit for a teardown.

    What is in progress is waited out first, as SageMaker demands, and the task ends when the endpoint is gone. Its
    configurations are the one that it serves and those that ``SageMakerDeployEndpointOperator`` derived for it, which
    are looked for also when the endpoint is gone: a killed try may have left them.

    Returns on XCom: ``{"endpoint_name", "deleted": ["endpoint …", "endpoint configuration …", "model …"], "missing":
    [...]}``.

    All parameters are templated; numbers and booleans may be text.

    :param endpoint_name: the endpoint's name
    :param delete_config: delete its configurations, earlier ones included; default True
    :param delete_models: delete the models that its configurations name; default False
    :param remove_scaling: remove Application Auto Scaling's policies, our alarms and the scalable target first; default
        True. Say False where Application Auto Scaling cannot be reached
    :param model_names: further models to delete, also when there is no endpoint; empty entries are passed over, so
        that a template may render to nothing
    :param max_wait_seconds: default 1800
    :param poll_interval: seconds between looks; default 10
    :raises EndpointDeadlineExceeded: still there in the end; retried
    """

    template_fields: Sequence[str] = (
        *SageMakerInferenceOperator.template_fields,
        "endpoint_name",
        "delete_config",
        "delete_models",
        "remove_scaling",
        "model_names",
        "max_wait_seconds",
        "poll_interval",
    )

    def __init__(
        self,
        *,
        endpoint_name: str,
        delete_config: bool | str = True,
        delete_models: bool | str = False,
        remove_scaling: bool | str = True,
        model_names: Sequence[str] = (),
        max_wait_seconds: float | str = 1_800,
        poll_interval: float | str = 10,
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
            with_config = boolean(self.delete_config, "delete_config")
            with_models = boolean(self.delete_models, "delete_models")
            with_scaling = boolean(self.remove_scaling, "remove_scaling")
            max_wait = seconds(self.max_wait_seconds, "max_wait_seconds")
            poll_interval = seconds(self.poll_interval, "poll_interval", positive=True)
            hook = self.control_plane()
            description = hook.describe_endpoint(name)
            served = [description["EndpointConfigName"]] if description else []
            # A retry, when the endpoint is gone, finds no others: what is deleted must not depend on the try.
            configs = list(dict.fromkeys([*served, *hook.derived_endpoint_configs(name)]))
            models = self._models_of(hook, configs) if with_models else []
            scaling = self._remove_scaling(name) if with_scaling else []
            done = {f"scaling {what}": True for what in scaling}
            done[f"endpoint {name}"] = hook.delete_endpoint(
                name, max_wait=max_wait, poll_interval=poll_interval
            )
            # Only the configuration tells which models: a retry must find it as long as one of them is left.
            for model in dict.fromkeys([*models, *filter(None, self.model_names)]):
                done[f"model {model}"] = hook.delete_model(model)
            for config in configs if with_config else ():
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
