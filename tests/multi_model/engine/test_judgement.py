from __future__ import annotations

import pytest

from airflow_sm_plugin.exceptions import (
    AccessDenied,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    InvalidRequest,
    ModelError,
    ModelUnavailable,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
    Throttled,
)
from airflow_sm_plugin.invoke.failure import CallFailure
from airflow_sm_plugin.multi_model.engine.judgement import Verdict, judge

AGAIN, FAILED, ENDPOINT = Verdict.AGAIN, Verdict.FAILED, Verdict.ENDPOINT


@pytest.mark.parametrize(
    ("code", "message", "status", "verdict", "error", "slow_down"),
    [
        ("ModelNotReadyException", "", 429, Verdict.LOADING, ModelUnavailable, False),
        ("ThrottlingException", "Rate exceeded", 400, AGAIN, Throttled, True),
        ("ThrottlingException", "Rate exceeded", 429, AGAIN, Throttled, True),
        ("429", "", 429, AGAIN, Throttled, True),
        ("ServiceUnavailable", "", 503, AGAIN, ServiceUnavailable, True),
        ("InternalFailure", "", 500, AGAIN, ServiceUnavailable, False),
        ("502", "", 502, AGAIN, ServiceUnavailable, False),
        ("504", "", 504, AGAIN, ServiceUnavailable, False),
        ("507", "", 507, Verdict.NO_MEMORY, ServiceUnavailable, True),
        ("InternalDependencyException", "", 530, AGAIN, ServiceUnavailable, False),
        ("ValidationError", "something else", 400, FAILED, RequestRefused, False),
        ("ValidationError", "Endpoint e of account 1 not found.", 400, ENDPOINT, EndpointNotFound, False),
        (
            "ValidationError",
            "Endpoint e does not support this inference type.",
            400,
            ENDPOINT,
            EndpointNotRealTime,
            False,
        ),
        (
            "ValidationError",
            "Endpoint e is not a multi-model endpoint and does not support target model header.",
            400,
            ENDPOINT,
            EndpointNotMultiModel,
            False,
        ),
        (
            "ValidationError",
            "Failed to download model data (bucket: b, key: k)",
            400,
            Verdict.NO_MODEL,
            TargetModelNotFound,
            False,
        ),
        ("AccessDeniedException", "not authorized", 403, ENDPOINT, AccessDenied, False),
    ],
)
def test_what_an_answer_of_the_service_means(  # noqa: PLR0917 - a table's columns
    code: str,
    message: str,
    status: int,
    verdict: Verdict,
    error: type[SageMakerInferenceError],
    slow_down: bool,
) -> None:
    found = judge(CallFailure(code, message, status))
    assert (found.verdict, found.error, found.slow_down) == (verdict, error, slow_down)
    assert not found.loaded


@pytest.mark.parametrize(
    ("original", "verdict", "error", "slow_down"),
    [
        (400, FAILED, ModelError, False),
        (500, FAILED, ModelError, False),
        (0, AGAIN, ModelUnavailable, True),
        (429, AGAIN, ModelUnavailable, True),
        (502, AGAIN, ModelUnavailable, False),
        (503, AGAIN, ModelUnavailable, True),
        (504, AGAIN, ModelUnavailable, False),
        (507, Verdict.NO_MEMORY, ModelUnavailable, True),
    ],
)
def test_what_a_container_said_decides_about_a_model_error(
    original: int, verdict: Verdict, error: type[SageMakerInferenceError], slow_down: bool
) -> None:
    found = judge(CallFailure("ModelError", "Received client error", 424, original, "words"))
    assert (found.verdict, found.error, found.status) == (verdict, error, original)
    assert found.slow_down == slow_down


def test_a_model_that_refuses_is_loaded_and_one_without_memory_is_not() -> None:
    assert judge(CallFailure("ModelError", "", 424, 400)).loaded
    assert not judge(CallFailure("ModelError", "", 424, 507)).loaded


def test_no_answer_goes_again_and_slows_down_only_if_something_was_sent() -> None:
    unreachable = judge(CallFailure("EndpointConnectionError", "", kind="unreachable"))
    unanswered = judge(CallFailure("ReadTimeoutError", "", kind="unanswered"))
    assert (unreachable.verdict, unreachable.slow_down) == (AGAIN, False)
    assert (unanswered.verdict, unanswered.slow_down) == (AGAIN, True)


def test_what_cannot_be_sent_ends_the_task() -> None:
    found = judge(CallFailure("NoRegionError", "", kind="local"))
    assert (found.verdict, found.error) == (ENDPOINT, InvalidRequest)
