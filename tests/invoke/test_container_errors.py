"""Status and words of a container's error answer, as its server writes them and as others quote them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.invoke.failure import ContainerError, container_error

REFUSED, OVERLOADED, GONE = ContainerError.REFUSED, ContainerError.OVERLOADED, ContainerError.GONE
TOO_LARGE, NO_ROOM = ContainerError.TOO_LARGE, ContainerError.NO_ROOM


def mms(code: int, kind: str, message: str) -> str:
    return json.dumps({"code": code, "type": kind, "message": message})


@pytest.mark.parametrize(
    ("status", "words", "meant"),
    [
        (503, mms(503, "InternalServerException", "Prediction failed"), REFUSED),
        (503, "Prediction failed", REFUSED),
        (503, mms(503, "InternalServerException", "downstream: ServiceUnavailableException"), REFUSED),
        (503, mms(503, "WlmCapacityException", "Worker queue capacity exceeded for model: m"), OVERLOADED),
        (503, "No worker is available to serve request for model: m", OVERLOADED),
        (503, "Model m has no worker to serve inference request.", OVERLOADED),
        (503, "", OVERLOADED),
        (503, "<html>503 Service Temporarily Unavailable</html>", OVERLOADED),
        (429, "slow down", OVERLOADED),
        (500, mms(500, "InternalServerException", "Worker died."), GONE),
        (507, mms(507, "InternalServerException", "Worker died."), GONE),
        (400, "Worker died.", REFUSED),
        (500, "ValueError: could not convert string to float: 'Worker died in 1999'", REFUSED),
        (0, "", GONE),
        (502, "", GONE),
        (504, "", GONE),
        (507, mms(507, "InternalServerException", "Out of resources"), TOO_LARGE),
        (507, "CUDA out of memory. Tried to allocate 2.00 GiB", TOO_LARGE),
        (507, "RESOURCE_EXHAUSTED: OOM when allocating tensor", TOO_LARGE),
        (507, "std::bad_alloc", TOO_LARGE),
        (507, mms(507, "InternalServerException", "System out of memory"), NO_ROOM),
        (507, "Insufficient memory to load model m.", NO_ROOM),
        (507, "", NO_ROOM),
        (None, "anything", REFUSED),
        (400, "bad record", REFUSED),
        (500, "", REFUSED),
        (503, "{", OVERLOADED),
        (503, "{" * 100_000, OVERLOADED),
    ],
)
def test_words_decide_where_the_status_does_not(
    status: int | None, words: str, meant: ContainerError
) -> None:
    assert container_error(status, words) is meant


@given(st.none() | st.integers(0, 999), st.text())
def test_any_answer_means_something(status: int | None, words: str) -> None:
    assert container_error(status, words).passes == (container_error(status, words) is not REFUSED)
