"""CreateModel's refusals: read off the recorded texts, each an error with its remedy; only a new role's passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin import exceptions
from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.local.faults.recorded import recorded_answers
from airflow_sm_plugin.resources.model import ROLE_SECONDS, may_pass, refusal

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
MEANINGS = {
    "the model's artefact is missing": Meaning.MODEL_DATA_MISSING,
    "the model's artefact cannot be read": Meaning.MODEL_DATA_UNREADABLE,
    "the execution role cannot be assumed": Meaning.ROLE_NOT_ASSUMABLE,
    "the execution role may not pull the image": Meaning.IMAGE_UNREADABLE,
    "the image's repository does not admit SageMaker": Meaning.IMAGE_UNREADABLE,
    "the model's name is taken": Meaning.ALREADY_EXISTS,
}
"""The meanings of CreateModel's recorded answers; the others are mistakes in the request."""
ERRORS = {
    Meaning.MODEL_DATA_MISSING: (exceptions.ModelDataNotFound, "upload the artefact"),
    Meaning.MODEL_DATA_UNREADABLE: (exceptions.ModelDataNotAccessible, f"allow role {ROLE} to s3:GetObject"),
    Meaning.ROLE_NOT_ASSUMABLE: (exceptions.ExecutionRoleNotAssumable, f"see that role {ROLE} exists"),
    Meaning.IMAGE_UNREADABLE: (exceptions.ImageNotAccessible, f"allow role {ROLE} to pull from ECR"),
}
OF_CREATE_MODEL = [row for row in recorded_answers().values() if row.operation == "CreateModel"]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "s3://bucket/model.tar.gz",
        'Could not find model "m"',
        'Cannot create already existing model "m"',
        'Could not find endpoint "e"',
        "Could not access model data at s3://b/k",
    ]
)


def _meaning(situation: str, value: str) -> tuple[Meaning, str]:
    row = recorded_answers()[situation]
    names = ("uri", "role", "region", "image", "arn", "number", "limit", "size", "status")
    text = str(row.filled(dict.fromkeys(names, value))["message"])
    return meaning_of(row.code, text, row.status), text


@pytest.mark.parametrize("row", OF_CREATE_MODEL, ids=lambda row: row.situation)
def test_every_recorded_answer_of_create_model_is_understood(row: object) -> None:
    situation = row.situation  # type: ignore[attr-defined] # a RecordedAnswer
    assert _meaning(situation, "value")[0] is MEANINGS.get(situation, Meaning.REFUSED)


@pytest.mark.parametrize("situation", [one for one in MEANINGS if MEANINGS[one] in ERRORS])
@given(value=NAMES)
def test_names_of_artefact_role_and_image_do_not_change_the_meaning(situation: str, value: str) -> None:
    """A key or an image whose name reads like another answer does not change the meaning."""
    if "image" in situation and not (value and value.split() == [value]):
        value = "image"  # neither a role's ARN nor an image's URI has blanks
    assert _meaning(situation, value)[0] is MEANINGS[situation]


@pytest.mark.parametrize("situation", [one for one in MEANINGS if MEANINGS[one] in ERRORS])
def test_each_refusal_becomes_an_error_with_subject_and_remedy(situation: str) -> None:
    meaning, text = _meaning(situation, "s3://bucket/model.tar.gz")
    error = refusal(meaning, text, model_name="churn", role=ROLE, region="eu-west-1", waited=61)
    kind, remedy = ERRORS[meaning]
    assert type(error) is kind
    assert not error.retryable
    assert str(error).startswith(f"model churn is not created\nReason: {text}\nDo: ")
    assert remedy in error.do


@pytest.mark.parametrize("meaning", [one for one in Meaning if one not in ERRORS])
def test_a_refusal_for_another_reason_is_no_model_error(meaning: Meaning) -> None:
    assert refusal(meaning, "text", model_name="m", role=ROLE, region="r", waited=0) is None


@pytest.mark.parametrize("meaning", list(Meaning))
def test_only_a_role_that_is_not_seen_is_waited_for_and_a_minute_at_most(meaning: Meaning) -> None:
    assert may_pass(meaning, waited=0) is (meaning is Meaning.ROLE_NOT_ASSUMABLE)
    assert may_pass(meaning, waited=ROLE_SECONDS - 1) is (meaning is Meaning.ROLE_NOT_ASSUMABLE)
    assert not may_pass(meaning, waited=ROLE_SECONDS)
