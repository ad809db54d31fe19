"""Calls of SageMaker's control plane about models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translated, words_of
from airflow_sm_plugin.core.names import is_made_here
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import AccessDenied, ModelNotFound, ResourceConflict, ServiceUnavailable
from airflow_sm_plugin.hooks.calls import found, removed
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls
from airflow_sm_plugin.resources.model import ModelSpec, may_pass, refusal

_ATTEMPTS = 3
"""Attempts to create a model that another process deletes each time. One repeat covers a single deletion that ran at
the same time; a third loss means that something deletes it steadily, which more attempts would not change."""
_ROLE_PAUSE = 5.0
"""Seconds between two attempts with an execution role that SageMaker cannot assume yet."""


class Models:
    """Create, describe and delete models. Every method can be repeated."""

    def __init__(self, hook: SageMakerCalls) -> None:
        self._hook = hook

    def create(self, spec: ModelSpec) -> tuple[str, str, bool]:
        """Create the model, or find it already there with the same content; then its tags become those asked for.

        :return: name, ARN, and whether this call created it
        :raises ResourceConflict: the name is taken by a model with other content
        :raises ModelCreationRefused: its artefact or image is missing, or may not be read; or its role is not seen
        :raises ServiceUnavailable: it is deleted again and again
        """
        name = spec.resolved_name()
        for _ in range(_ATTEMPTS):
            arn = self._created(spec)
            if arn is not None:
                return name, arn, True
            existing = self.find(name)
            if existing is not None:
                break
        else:
            raise ServiceUnavailable(
                f"model {name} was there at each of {_ATTEMPTS} attempts to create it, and gone right after",
                do="find out what deletes it; a retry starts from the beginning",
            )
        differences = self._differences(spec, existing)
        if differences:
            raise ResourceConflict(
                f"model {name} exists already with other content: {'; '.join(differences)} differ",
                do="choose another name, leave the name out to derive one from the content, or delete the model",
            )
        self._hook.log.info("model %s exists already with the same content: reused", name)
        self._hook.update_tags(str(existing["ModelArn"]), spec.tags)
        return name, str(existing["ModelArn"]), False

    def _created(self, spec: ModelSpec) -> str | None:
        """Create the model and return its ARN; None where the name is taken. Repeats while a new role is not seen."""
        request, began = spec.parameters(), time.monotonic()
        name = request["ModelName"]
        with translated(f"sagemaker:CreateModel {name}"):
            while isinstance(answer := self._answer(request), ClientError):
                if meaning(answer) is Meaning.ALREADY_EXISTS:
                    return None
                self._check_refusal(answer, spec, waited=time.monotonic() - began)
                self._hook.log.info(
                    "SageMaker cannot assume role %s yet: model %s is tried again",
                    spec.execution_role_arn,
                    name,
                )
                time.sleep(_ROLE_PAUSE)
        return answer

    def _answer(self, request: Mapping[str, Any]) -> str | ClientError:
        try:
            return str(self._hook.client.create_model(**request)["ModelArn"])
        except ClientError as refused:
            return refused

    def _check_refusal(self, error: ClientError, spec: ModelSpec, *, waited: float) -> None:
        """Return where CreateModel is to be repeated.

        :raises ModelCreationRefused: SageMaker misses what the model is made of
        :raises ClientError: as given, for any other refusal
        """
        if may_pass(meaning(error), waited=waited):
            return
        refused = refusal(
            meaning(error),
            words_of(error)[1],
            model_name=spec.resolved_name(),
            role=spec.execution_role_arn,
            region=self._hook.conn_region_name,
            waited=waited,
        )
        if refused is None:
            raise error
        raise refused from None

    def _differences(self, spec: ModelSpec, existing: Mapping[str, Any]) -> list[str]:
        differences = spec.differences(existing)
        if differences or not spec.has_given_name:
            return differences  # a derived name covers all of the content, the artefacts' ETags included
        return spec.tag_differences(self._hook.tags_of(existing["ModelArn"]) or {})

    def find(self, name: str) -> Mapping[str, Any] | None:
        return found(
            f"sagemaker:DescribeModel {name}", lambda: self._hook.client.describe_model(ModelName=name)
        )

    def describe(self, name: str) -> Mapping[str, Any]:
        """Describe a model.

        :raises ModelNotFound: there is none of that name
        """
        description = self.find(name)
        if description is None:
            raise ModelNotFound(
                f"there is no SageMaker model {name} in {self._hook.conn_region_name}",
                do="create it first, or correct its name or region_name",
            )
        return description

    def find_all(self, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Describe those models that exist; none without permission to describe."""
        try:
            descriptions = {name: self.find(name) for name in names}
        except AccessDenied as denied:
            self._hook.log.info(
                "a model created again under its name cannot be distinguished from the earlier one: %s",
                denied,
            )
            return {}
        return {name: description for name, description in descriptions.items() if description is not None}

    def is_made_here(self, name: str) -> bool:
        """Check by its tags that the model exists and that an operator of this package made it."""
        description = self.find(name)
        return description is not None and is_made_here(self._hook.tags_of(description["ModelArn"]))

    def delete(self, name: str) -> bool:
        return removed(
            f"sagemaker:DeleteModel {name}", lambda: self._hook.client.delete_model(ModelName=name)
        )
