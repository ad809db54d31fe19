"""The one table that tells AWS's errors apart: every text and code of the live services that we act upon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.service_errors import Meaning, meaning_of

ARN = "arn:aws:sagemaker:eu-west-1:123456789012"
CONTROL_PLANE = [
    (f'Cannot create already existing endpoint "{ARN}:endpoint/churn".', Meaning.ALREADY_EXISTS),
    (
        f'Cannot create already existing endpoint configuration "{ARN}:endpoint-config/churn".',
        Meaning.ALREADY_EXISTS,
    ),
    (f'Cannot create already existing model "{ARN}:model/churn".', Meaning.ALREADY_EXISTS),
    (f'Could not find endpoint "{ARN}:endpoint/churn".', Meaning.NOT_FOUND),
    (f'Could not find endpoint configuration "{ARN}:endpoint-config/churn".', Meaning.NOT_FOUND),
    (f'Could not find model "{ARN}:model/churn".', Meaning.NOT_FOUND),
    (f"Could not find model '{ARN}:model/churn'.", Meaning.NOT_FOUND),
    ("Could not find requested job with name: churn", Meaning.NOT_FOUND),
    (f'Cannot update in-progress endpoint "{ARN}:endpoint/churn".', Meaning.IN_PROGRESS),
    ("1 validation error detected: Value 'x_y' at 'modelName' failed to satisfy constraint", Meaning.REFUSED),
]
RUNTIME = [
    (
        '{"ErrorCode":"NO_SUCH_ENDPOINT","Message":"Endpoint churn of account 123456789012 not found."}',
        Meaning.NOT_FOUND,
    ),
    ("Endpoint churn of account 123456789012 not found.", Meaning.NOT_FOUND),
    ("Endpoint churn does not support this inference type.", Meaning.WRONG_KIND),
    (
        (
            '{"ErrorCode":"TARGET_MODEL_HEADER_NOT_SUPPORTED","Message":"Endpoint churn is not a multi-model '
            'endpoint and does not support target model header."}'
        ),
        Meaning.NOT_MULTI_MODEL,
    ),
    ("Failed to download model data (bucket: b, key: k)", Meaning.NO_MODEL_DATA),
]
CODES = [
    ("ResourceNotFound", 400, Meaning.NOT_FOUND),
    ("NoSuchKey", 404, Meaning.NOT_FOUND),
    ("NoSuchBucket", 404, Meaning.NOT_FOUND),
    ("404", 404, Meaning.NOT_FOUND),
    ("ResourceInUse", 400, Meaning.ALREADY_EXISTS),
    ("403", 403, Meaning.ACCESS_DENIED),
    ("AccessDenied", 403, Meaning.ACCESS_DENIED),
    ("AccessDeniedException", 400, Meaning.ACCESS_DENIED),
    ("ExpiredToken", 400, Meaning.CREDENTIALS_EXPIRED),
    ("ExpiredTokenException", 400, Meaning.CREDENTIALS_EXPIRED),
    ("InvalidToken", 400, Meaning.CREDENTIALS_EXPIRED),
    ("InvalidAccessKeyId", 403, Meaning.CREDENTIALS_EXPIRED),
    ("InvalidClientTokenId", 403, Meaning.CREDENTIALS_EXPIRED),
    ("SignatureDoesNotMatch", 403, Meaning.CREDENTIALS_EXPIRED),
    ("UnrecognizedClientException", 400, Meaning.CREDENTIALS_EXPIRED),
    ("RequestTimeTooSkewed", 403, Meaning.CREDENTIALS_EXPIRED),
    ("Throttling", 400, Meaning.THROTTLED),
    ("ThrottlingException", 400, Meaning.THROTTLED),
    ("ThrottlingException", 429, Meaning.THROTTLED),
    ("TooManyRequestsException", 429, Meaning.THROTTLED),
    ("ModelNotReadyException", 429, Meaning.THROTTLED),
    ("ResourceLimitExceeded", 400, Meaning.THROTTLED),
    ("SlowDown", 503, Meaning.UNAVAILABLE),
    ("RequestTimeout", 400, Meaning.UNAVAILABLE),
    ("ServiceUnavailable", 503, Meaning.UNAVAILABLE),
    ("InternalFailure", 500, Meaning.UNAVAILABLE),
    ("InternalError", 500, Meaning.UNAVAILABLE),
    ("502", 502, Meaning.UNAVAILABLE),
    ("504", 504, Meaning.UNAVAILABLE),
    ("InternalDependencyException", 530, Meaning.UNAVAILABLE),
    ("ModelError", 424, Meaning.REFUSED),
    ("ValidationException", 400, Meaning.REFUSED),
    ("ValidationError", 400, Meaning.REFUSED),
    ("400", 400, Meaning.REFUSED),
    ("", 400, Meaning.REFUSED),
]


@pytest.mark.parametrize(("message", "expected"), CONTROL_PLANE)
def test_the_control_planes_one_code_is_classified_by_its_texts(message: str, expected: Meaning) -> None:
    assert meaning_of("ValidationException", message, 400) is expected


@pytest.mark.parametrize(("message", "expected"), RUNTIME)
def test_the_runtimes_one_code_is_classified_by_its_texts(message: str, expected: Meaning) -> None:
    assert meaning_of("ValidationError", message, 400) is expected


@pytest.mark.parametrize(("code", "status", "expected"), CODES)
def test_where_a_code_says_it_the_code_decides(code: str, status: int, expected: Meaning) -> None:
    assert meaning_of(code, "", status) is expected


def test_a_missing_artefact_is_no_missing_model() -> None:
    """CreateModel's text begins like the one about a missing model, but the remedy is another one."""
    message = (
        "Could not find model data at s3://bucket/model.tar.gz. Please make sure that the role "
        '"arn:aws:iam::123456789012:role/sagemaker" exists'
    )
    assert meaning_of("ValidationException", message, 400) is Meaning.MODEL_DATA_MISSING


def test_a_denied_action_is_denied_whatever_it_is_about() -> None:
    message = (
        f"User: {ARN}:user/x is not authorized to perform: sagemaker:DescribeEndpoint on resource: {ARN}"
    )
    assert meaning_of("AccessDeniedException", message, 400) is Meaning.ACCESS_DENIED


@given(st.from_regex(r"[A-Z][a-z]{9,12}Quux", fullmatch=True), st.text(alphabet="abc .", max_size=20))
def test_an_unknown_code_is_judged_by_its_http_status(code: str, message: str) -> None:
    """5xx may pass, 429 asks to slow down, 403 misses a permission, 413 is too large; other 4xx would come again."""
    judged = {status: meaning_of(code, message, status) for status in range(400, 600)}
    assert all(judged[status] is Meaning.UNAVAILABLE for status in range(500, 600))
    assert judged.pop(429) is Meaning.THROTTLED
    assert judged.pop(403) is Meaning.ACCESS_DENIED
    assert judged.pop(413) is Meaning.TOO_LARGE
    assert {judged[status] for status in judged if status < 500} == {Meaning.REFUSED}
