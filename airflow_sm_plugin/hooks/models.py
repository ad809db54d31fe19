"""SageMaker's control plane: models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.core.model import ModelSpec
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import ModelNotFound, ResourceConflict
from airflow_sm_plugin.hooks.errors import meaning, translated
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls


class ModelCalls(SageMakerCalls):
    """Create, describe and delete models. Every method may be repeated."""

    def create_model(self, spec: ModelSpec) -> tuple[str, str, bool]:
        """Create the model, or find it already there with the same content.

        :return: name, ARN, and whether this call created it
        :raises ResourceConflict: the name is taken by a model with other content
        """
        request = spec.parameters()
        name = request["ModelName"]
        with translated(f"sagemaker:CreateModel {name}"):
            try:
                return name, str(self.client.create_model(**request)["ModelArn"]), True
            except ClientError as error:
                if meaning(error) is not Meaning.ALREADY_EXISTS:
                    raise
        there = self.describe_model(name)
        differences = self._differences(spec, there)
        if differences:
            raise ResourceConflict(
                f"model {name} exists already with other content: {'; '.join(differences)} differ. "
                f"Choose another name, leave the name out to derive one from the content, or delete the model"
            )
        self.log.info("model %s exists already with the same content: reused", name)
        return name, str(there["ModelArn"]), False

    def _differences(self, spec: ModelSpec, there: Mapping[str, Any]) -> list[str]:
        found = spec.differences(there)
        if found or not spec.has_given_name:
            return found  # a derived name tells all of the content, the artefacts' ETags included
        return spec.tag_differences(self.tags_of(there["ModelArn"]) or {})

    def describe_model(self, name: str) -> Mapping[str, Any]:
        """Describe a model.

        :raises ModelNotFound: there is none of that name
        """
        found = self._model(name)
        if found is None:
            raise ModelNotFound(f"there is no SageMaker model {name} in {self.conn_region_name}")
        return found

    def model_arn(self, name: str) -> str | None:
        """Return a model's ARN, None when there is none of that name."""
        found = self._model(name)
        return None if found is None else str(found["ModelArn"])

    def delete_model(self, name: str) -> bool:
        """Delete a model; say whether there was one."""
        return self._gone(f"sagemaker:DeleteModel {name}", lambda: self.client.delete_model(ModelName=name))

    def _model(self, name: str) -> Mapping[str, Any] | None:
        return self._found(
            f"sagemaker:DescribeModel {name}", lambda: self.client.describe_model(ModelName=name)
        )
