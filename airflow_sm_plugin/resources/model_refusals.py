"""Turn CreateModel's refusals into errors that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    ExecutionRoleNotAssumable,
    ImageNotAccessible,
    ModelCreationRefused,
    ModelDataNotAccessible,
    ModelDataNotFound,
)

ROLE_SECONDS = 60.0
"""For how long a role that cannot be assumed is taken for a new one: IAM is consistent within a minute."""


@dataclass(frozen=True)
class _Refusal:
    error: type[ModelCreationRefused]
    remedy: str


_REFUSALS: Mapping[Meaning, _Refusal] = {
    Meaning.MODEL_DATA_MISSING: _Refusal(
        ModelDataNotFound, "Upload the artefact, or mend its location in model_data_url or the container"
    ),
    Meaning.MODEL_DATA_UNREADABLE: _Refusal(
        ModelDataNotAccessible,
        "See that the bucket exists and lies in region {region}, and allow role {role} to s3:GetObject and "
        "s3:ListBucket there (and to kms:Decrypt, if a key of yours encrypts the artefact)",
    ),
    Meaning.IMAGE_UNREADABLE: _Refusal(
        ImageNotAccessible,
        "See that the image and its tag exist in region {region}, allow role {role} to pull from ECR, and, if the "
        "repository is another account's, have its policy admit this one",
    ),
    Meaning.ROLE_NOT_ASSUMABLE: _Refusal(
        ExecutionRoleNotAssumable,
        "It was repeated for {waited:.0f} s, since a new role is not seen at once. See that role {role} exists and "
        "that its trust policy lets sagemaker.amazonaws.com assume it",
    ),
}


def may_pass(meaning: Meaning, *, waited: float) -> bool:
    """Decide whether CreateModel is to be repeated: only an unknown role comes to be known.

    :param waited: seconds since the first refusal
    """
    return meaning is Meaning.ROLE_NOT_ASSUMABLE and waited < ROLE_SECONDS


def refusal(
    meaning: Meaning, message: str, *, model_name: str, role: str, region: str, waited: float
) -> ModelCreationRefused | None:
    """Return the error that a refusal amounts to; None for what says nothing of artefact, image and role.

    :param message: SageMaker's own text, which names the artefact or the image
    :param waited: seconds for which CreateModel was repeated
    """
    known = _REFUSALS.get(meaning)
    if known is None:
        return None
    remedy = known.remedy.format(region=region, role=role, waited=waited)
    return known.error(f"model {model_name} is not created. SageMaker answered: {message} {remedy}")
