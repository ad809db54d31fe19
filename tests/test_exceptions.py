"""Every error class has its own description, and determines whether a retry helps."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle

import pytest

from airflow_sm_plugin import exceptions
from airflow_sm_plugin.exceptions import SageMakerInferenceError

pytestmark = pytest.mark.airflow

CLASSES = [
    error_class
    for error_class in vars(exceptions).values()
    if inspect.isclass(error_class) and issubclass(error_class, SageMakerInferenceError)
]
RETRYABLE = {
    "AnswerLost",
    "AsyncInferenceTimedOut",
    "AutoMLJobStillRunning",
    "BatchUnfinished",
    "CredentialsExpired",
    "EndpointConfigNotFound",
    "EndpointDeadlineExceeded",
    "EndpointFailed",
    "EndpointNotInService",
    "ModelLoadTimeout",
    "ModelUnavailable",
    "PlanReplaced",
    "ServiceUnavailable",
    "TaskKilled",
    "Throttled",
}


def test_a_retry_helps_these_errors_and_no_others() -> None:
    assert {error_class.__name__ for error_class in CLASSES if error_class.retryable} == RETRYABLE


def test_the_file_has_each_kind_of_errors_together() -> None:
    """It reads as a tree: a direct subclass of the root, then its own subclasses."""
    kinds = [
        next(parent for parent in error_class.__mro__ if SageMakerInferenceError in parent.__bases__)
        for error_class in CLASSES[1:]
    ]
    sections = [kind for kind, _ in itertools.groupby(kinds)]
    assert len(sections) == len(set(sections))


def test_the_root_is_not_retried_unless_a_class_says_so() -> None:
    assert SageMakerInferenceError.retryable is False


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_class_says_when_it_happens(error_class: type[SageMakerInferenceError]) -> None:
    assert (error_class.__doc__ or "").strip().endswith(".")
    assert "__doc__" in vars(error_class), "it inherits its parent's description"


@pytest.mark.parametrize("error_class", CLASSES)
def test_an_error_survives_the_way_between_processes_with_its_text(
    error_class: type[SageMakerInferenceError],
) -> None:
    """Airflow's task and supervisor are two processes."""
    error = error_class("endpoint churn is Failed")
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - made here
        assert type(copied) is error_class
        assert str(copied) == "endpoint churn is Failed"


def test_an_error_may_have_lines_of_its_own_and_takes_none_from_outside() -> None:
    error = exceptions.BatchFailed("2 of 3 failed.", "s3://b/a\nINFO done: ModelError")
    for same in (error, copy.copy(error), type(error)(*error.args)):
        assert str(same) == "2 of 3 failed.\ns3://b/a\\nINFO done: ModelError"
    assert str(exceptions.BatchFailed()) == ""


def test_a_wrong_argument_is_a_value_error_as_python_expects() -> None:
    assert issubclass(exceptions.InvalidRequest, ValueError)
