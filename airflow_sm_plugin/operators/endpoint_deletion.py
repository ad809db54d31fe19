"""Delete a SageMaker endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.template_values import as_text, boolean, is_given, seconds, sequence


class SageMakerDeleteEndpointOperator(SageMakerInferenceOperator):
    """Delete an endpoint, its scaling, its configurations and, on request, its models. Missing ones are no error.

    Suitable for a teardown. The task first waits for a change in progress to end, as SageMaker demands, and ends when
    the endpoint is gone. It deletes the endpoint that has the name when the try begins, whoever created it. One that is
    meanwhile created under the name remains, with everything that is left of the earlier one.

    Its configurations are the one that it serves and those that ``SageMakerDeployEndpointOperator`` created for it, by
    their tag ``airflow-sm-plugin:endpoint``. They are deleted also without an endpoint, since a killed try can leave
    them. A warning names what remains: a configuration or model that another endpoint uses, and a model without a tag
    of our operators (``airflow-sm-plugin:…``), unless ``model_names`` contains it. All of them remain where
    ``sagemaker:ListEndpoints`` or ``sagemaker:ListTags`` is not permitted.

    Returns on XCom: ``{"endpoint_name", "deleted": ["endpoint …", "endpoint configuration …", "model …"], "missing":
    [...]}``.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param delete_config: delete its configurations, earlier ones included; default True
    :param delete_models: delete the models that its configurations name and our operators created; default False
    :param remove_scaling: first remove the scalable target, its policies and our alarms; default True. Pass False where
        Application Auto Scaling cannot be reached
    :param model_names: further models to delete, whoever created them, also without an endpoint; empty entries are
        ignored, since a template can render to nothing
    :param max_wait_seconds: default 4500: SageMaker deletes no endpoint in status Creating, and one whose container
        crashes stays Creating for up to an hour
    :param poll_interval: default 10
    :raises EndpointDeadlineExceeded: the endpoint still exists at the deadline
    """

    not_templated = ()

    def __init__(
        self,
        *,
        endpoint_name: str,
        delete_config: bool | str = True,
        delete_models: bool | str = False,
        remove_scaling: bool | str = True,
        model_names: Sequence[str] | str = (),
        max_wait_seconds: float | str = 4_500,
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
        from airflow_sm_plugin.endpoints.deletion import EndpointDeletion
        from airflow_sm_plugin.endpoints.noted_scaling import remove_for_good

        with self.reading_arguments():
            model_names = sequence(self.model_names, "model_names") or ()
            name = check_name(self.endpoint_name, "endpoint name")
            with_config = boolean(self.delete_config, "delete_config")
            with_models = boolean(self.delete_models, "delete_models")
            with_scaling = boolean(self.remove_scaling, "remove_scaling")
            max_wait = seconds(self.max_wait_seconds, "max_wait_seconds")
            poll_interval = seconds(self.poll_interval, "poll_interval", positive=True)
            # Only the configuration has the models' names: a retry needs it while one of the models is left.
            named = list(
                dict.fromkeys(as_text(model, "model_names") for model in model_names if is_given(model))
            )
            with self.naming_what_is_left(name):
                deletion = EndpointDeletion(self.control_plane(), name)
                scaling = remove_for_good(self.control_plane(), self.aws, name) if with_scaling else []
                existed = {f"scaling {resource}": True for resource in scaling}
                existed[f"endpoint {name}"] = deletion.delete_endpoint(
                    max_wait=max_wait, poll_interval=poll_interval
                )
                models = deletion.delete_models(named, of_configs=with_models)
                existed |= {f"model {model}": model_existed for model, model_existed in models.items()}
                if with_config:
                    configs = deletion.delete_configs().items()
                    existed |= {
                        f"endpoint configuration {config}": config_existed
                        for config, config_existed in configs
                    }
            deleted = [resource for resource in existed if existed[resource]]
            missing = [resource for resource in existed if not existed[resource]]
            stays = [resource for resource in deletion.found if resource not in existed]
            self.log.info("deleted: %s", ", ".join(deleted) or "nothing")
            if missing:
                self.log.info("did not exist any more: %s", ", ".join(missing))
            if stays:
                self.log.info("stays, and costs nothing: %s", ", ".join(stays))
            return {"endpoint_name": name, "deleted": deleted, "missing": missing}
