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
from airflow_sm_plugin.multi_model.engine.judgement import Evidence, PayloadFate, judge

RETRY, FAILED, ENDPOINT = PayloadFate.RETRY, PayloadFate.FAILED, PayloadFate.ENDPOINT


@pytest.mark.parametrize(
    ("code", "message", "status", "fate", "error", "slow_down"),
    [
        ("ModelNotReadyException", "", 429, PayloadFate.LOADING, ModelUnavailable, False),
        ("ThrottlingException", "Rate exceeded", 400, RETRY, Throttled, True),
        ("ThrottlingException", "Rate exceeded", 429, RETRY, Throttled, True),
        ("429", "", 429, RETRY, Throttled, True),
        ("ServiceUnavailable", "", 503, RETRY, ServiceUnavailable, True),
        ("InternalFailure", "", 500, RETRY, ServiceUnavailable, False),
        ("502", "", 502, RETRY, ServiceUnavailable, False),
        ("504", "", 504, RETRY, ServiceUnavailable, False),
        ("507", "", 507, PayloadFate.NO_MEMORY, ServiceUnavailable, True),
        ("InternalDependencyException", "", 530, RETRY, ServiceUnavailable, False),
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
            PayloadFate.NO_MODEL,
            TargetModelNotFound,
            False,
        ),
        ("AccessDeniedException", "not authorized", 403, ENDPOINT, AccessDenied, False),
    ],
)
def test_the_services_error_code_decides(  # noqa: PLR0917 - a table's columns
    code: str,
    message: str,
    status: int,
    fate: PayloadFate,
    error: type[SageMakerInferenceError],
    slow_down: bool,
) -> None:
    judgement = judge(CallFailure(code, message, status))
    assert (judgement.fate, judgement.error, judgement.slow_down) == (fate, error, slow_down)
    assert not judgement.loaded


@pytest.mark.parametrize(
    ("original", "fate", "error", "slow_down"),
    [
        (400, FAILED, ModelError, False),
        (500, FAILED, ModelError, False),
        (0, RETRY, ModelUnavailable, True),
        (429, RETRY, ModelUnavailable, True),
        (502, RETRY, ModelUnavailable, False),
        (503, RETRY, ModelUnavailable, True),
        (504, RETRY, ModelUnavailable, False),
        (507, PayloadFate.NO_MEMORY, ModelUnavailable, True),
    ],
)
def test_the_containers_status_decides_about_a_model_error(
    original: int, fate: PayloadFate, error: type[SageMakerInferenceError], slow_down: bool
) -> None:
    judgement = judge(CallFailure("ModelError", "Received client error", 424, original, "words"))
    assert (judgement.fate, judgement.error, judgement.status) == (fate, error, original)
    assert judgement.slow_down == slow_down


def test_a_model_that_refuses_is_loaded_and_one_without_memory_is_not() -> None:
    assert judge(CallFailure("ModelError", "", 424, 400)).loaded
    assert not judge(CallFailure("ModelError", "", 424, 507)).loaded


def test_no_answer_goes_again_and_slows_down_only_if_something_was_sent() -> None:
    unreachable = judge(CallFailure("EndpointConnectionError", "", kind="unreachable"))
    unanswered = judge(CallFailure("ReadTimeoutError", "", kind="unanswered"))
    assert (unreachable.fate, unreachable.slow_down) == (RETRY, False)
    assert (unanswered.fate, unanswered.slow_down) == (RETRY, True)


def test_a_request_that_cannot_be_sent_ends_the_task() -> None:
    judgement = judge(CallFailure("NoRegionError", "", kind="local"))
    assert (judgement.fate, judgement.error) == (ENDPOINT, InvalidRequest)


def conclusion(evidence: Evidence, *, untried: bool, began: float = 0.0, most: int = 1_000) -> int | None:
    """Count how many payloads that fail at every attempt it takes for a conclusion."""
    for count in range(1, most + 1):
        if evidence.exhausted(began=began) and evidence.concludes(float(count), can_try_others=untried):
            return count
    return None


def test_twenty_payloads_suffice_when_there_are_no_others() -> None:
    assert conclusion(Evidence(), untried=False) == 20


def test_fewer_payloads_prove_nothing() -> None:
    assert conclusion(Evidence(), untried=False, most=19) is None


def test_payloads_sent_before_a_trial_prove_nothing_while_others_can_be_tried() -> None:
    evidence = Evidence()
    assert conclusion(evidence, untried=True) is None
    assert evidence.concludes(0.0, can_try_others=False)


def test_payloads_from_three_positions_of_the_queue_suffice() -> None:
    assert conclusion(Evidence(), untried=True, began=2_000.0) == 20 + 4 + 4


def test_payloads_sent_before_the_last_success_prove_nothing() -> None:
    evidence = Evidence()
    evidence.clear(10.0)
    assert conclusion(evidence, untried=False, began=9.0) is None
    assert conclusion(evidence, untried=False, began=10.0) == 20


@pytest.mark.parametrize(("first", "enough"), [(True, 8), (False, None)])
def test_each_payload_is_denied_once(first: bool, enough: int | None) -> None:
    evidence = Evidence()
    needed = next((n for n in range(1, 100) if evidence.denied(began=0.0, first=first)), None)
    assert needed == enough


def test_eight_payloads_that_found_a_model_not_loaded_are_late() -> None:
    evidence = Evidence()
    evidence.unready = 7
    assert not evidence.is_late()
    evidence.unready += 1
    assert evidence.is_late()
