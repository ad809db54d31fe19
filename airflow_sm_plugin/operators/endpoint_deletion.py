"""Delete a SageMaker endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.template_values import as_text, boolean, is_given, seconds, sequence


class SageMakerDeleteEndpointOperator(SageMakerInferenceOperator):
    """Delete an endpoint with its scaling, models where asked, its configurations; missing is fine. Fit for a teardown.

    A change in progress is waited out first, as SageMaker demands, and the task ends when the endpoint is gone. The
    endpoint that has the name when the try begins is deleted, whoever made it; one created under the name meanwhile
    stays, with all that is left of the earlier one.

    Its configurations are the one that it serves and those that ``SageMakerDeployEndpointOperator`` made for it, by
    their tag ``airflow-sm-plugin:endpoint``; they are deleted also when the endpoint is gone, since a killed try may
    have left them. A configuration or model that another endpoint uses stays, with a warning, and so does a model that
    none of our operators made (their tags begin with ``airflow-sm-plugin:``), unless ``model_names`` names it; and all
    of them stay where ``sagemaker:ListEndpoints`` or ``sagemaker:ListTags`` is not permitted.

    Returns on XCom: ``{"endpoint_name", "deleted": ["endpoint …", "endpoint configuration …", "model …"], "missing":
    [...]}``.

    :param endpoint_name: the endpoint's name
    :param delete_config: delete its configurations, earlier ones included; default True
    :param delete_models: delete the models that its configurations name and our operators made; default False
    :param remove_scaling: remove Application Auto Scaling's policies, our alarms and the scalable target first; default
        True. Give False where Application Auto Scaling cannot be reached
    :param model_names: further models to delete, whoever made them, also when there is no endpoint; empty entries are
        passed over, so that a template may render to nothing
    :param max_wait_seconds: default 4500: SageMaker deletes no endpoint that is being created, and one whose container
        crashes stays Creating for up to an hour
    :param poll_interval: default 10
    :raises EndpointDeadlineExceeded: still there in the end; retried
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
        """Delete in order: scaling, endpoint, models, configuration."""
        from airflow_sm_plugin.endpoints.deletion import EndpointDeletion

        with self.reading_arguments():
            model_names = sequence(self.model_names, "model_names") or ()
            name = check_name(self.endpoint_name, "endpoint name")
            with_config = boolean(self.delete_config, "delete_config")
            with_models = boolean(self.delete_models, "delete_models")
            with_scaling = boolean(self.remove_scaling, "remove_scaling")
            max_wait = seconds(self.max_wait_seconds, "max_wait_seconds")
            poll_interval = seconds(self.poll_interval, "poll_interval", positive=True)
            deletion = EndpointDeletion(self.control_plane(), name)
            scaling = self._remove_scaling(name) if with_scaling else []
            done = {f"scaling {what}": True for what in scaling}
            done[f"endpoint {name}"] = deletion.delete_endpoint(
                max_wait=max_wait, poll_interval=poll_interval
            )
            # The models' names are in the configuration alone: a retry must find it as long as one of them is left.
            named = list(
                dict.fromkeys(as_text(model, "model_names") for model in model_names if is_given(model))
            )
            models = deletion.delete_models(named, of_configs=with_models)
            done |= {f"model {model}": there for model, there in models.items()}
            if with_config:
                configs = deletion.delete_configs()
                done |= {f"endpoint configuration {config}": there for config, there in configs.items()}
            deleted = [what for what, existed in done.items() if existed]
            missing = [what for what, existed in done.items() if not existed]
            self.log.info("deleted: %s; missing: %s", ", ".join(deleted) or "-", ", ".join(missing) or "-")
            return {"endpoint_name": name, "deleted": deleted, "missing": missing}

    def _remove_scaling(self, endpoint_name: str) -> list[str]:
        from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
        from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling

        scaling = EndpointScaling(self.aws)
        removed = scaling.remove_scaling(endpoint_name)
        # Should the endpoint not be deleted after all: its next deployment puts nothing back.
        NotedScaling(self.control_plane(), endpoint_name, scaling).give_up()
        return removed
