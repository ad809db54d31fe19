"""Create SageMaker models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator, SensitiveField, failing_well, reveal
from airflow_sm_plugin.core.model import ModelSpec
from airflow_sm_plugin.exceptions import InvalidRequest


class SageMakerCreateModelOperator(SageMakerInferenceOperator):
    """Create a SageMaker model of one container or a pipeline; a retry finds the model it made.

    Give ``image`` (with ``model_data_url`` and ``environment``) for one container, or ``containers`` for a pipeline.
    A model of that name with the same content is reused; with other content it is an error that shows the difference,
    environment values excepted.

    Returns on XCom: ``{"model_name", "model_arn", "created"}``.

    :param execution_role: ARN or name of the role that SageMaker runs the model with (templated)
    :param image: the container image's URI (templated)
    :param model_data_url: ``s3://…/model.tar.gz`` (templated)
    :param environment: the container's environment, text to text; masked in Airflow's rendered fields (templated)
    :param containers: definitions as SageMaker spells them (``Image``, ``ModelDataUrl``, ``Environment``, …), up to
        15, in pipeline order; masked in Airflow's rendered fields (templated)
    :param model_name: up to 63 letters, digits and inner hyphens; default ``<model_name_prefix>-<digest of the
        content>``, which stays the same over retries (templated)
    :param model_name_prefix: begins a derived name; default ``model`` (templated)
    :param vpc_config: ``{"SecurityGroupIds": [...], "Subnets": [...]}`` (templated)
    :param enable_network_isolation: no network in or out of the containers; default False
    :param tags: tags of the model (templated)
    :raises InvalidRequest: an argument breaks a limit; not retried
    :raises ResourceConflict: another model has this name; not retried
    """

    template_fields: Sequence[str] = (
        *SageMakerInferenceOperator.template_fields,
        "execution_role",
        "image",
        "model_data_url",
        "environment",
        "containers",
        "model_name",
        "model_name_prefix",
        "vpc_config",
        "tags",
    )
    environment = SensitiveField()
    containers = SensitiveField()

    def __init__(
        self,
        *,
        execution_role: str,
        image: str | None = None,
        model_data_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        containers: Sequence[Mapping[str, Any]] | None = None,
        model_name: str | None = None,
        model_name_prefix: str = "model",
        vpc_config: Mapping[str, Any] | None = None,
        enable_network_isolation: bool = False,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.execution_role = execution_role
        self.image = image
        self.model_data_url = model_data_url
        self.environment = environment
        self.containers = containers
        self.model_name = model_name
        self.model_name_prefix = model_name_prefix
        self.vpc_config = vpc_config
        self.enable_network_isolation = enable_network_isolation
        self.tags = tags

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the model or find it."""
        with failing_well():
            containers = self._container_definitions()
            hook = self.control_plane()
            spec = ModelSpec(
                containers=containers,
                execution_role_arn=hook.role_arn(self.execution_role) if self.execution_role else "",
                name=self.model_name or None,
                stem=self.model_name_prefix,
                vpc_config=self.vpc_config,
                enable_network_isolation=self.enable_network_isolation,
                tags=self.tags or {},
            ).checked()
            name, arn, created = hook.create_model(spec)
            self.log.info("model %s %s", name, "created" if created else "reused")
            return {"model_name": name, "model_arn": arn, "created": created}

    def _container_definitions(self) -> list[Mapping[str, Any]]:
        containers, environment = reveal(self.containers), reveal(self.environment)
        if (containers is None) == (self.image is None):
            raise InvalidRequest("give either image (one container) or containers (a pipeline)")
        if containers is not None:
            if self.model_data_url or environment:
                raise InvalidRequest(
                    "model_data_url and environment go with image; put them into containers instead"
                )
            return list(containers)
        one = {
            "Image": self.image,
            "ModelDataUrl": self.model_data_url,
            "Environment": dict(environment or {}),
        }
        return [{key: value for key, value in one.items() if value}]
