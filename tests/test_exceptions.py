"""The error tree is as its docstring draws it, and every class knows whether a retry helps."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from airflow_sm_plugin import exceptions
from airflow_sm_plugin.exceptions import SageMakerInferenceError

pytestmark = pytest.mark.airflow

CLASSES = [
    found
    for _, found in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(found, SageMakerInferenceError)
]
BRANCH = re.compile(r"^ {4}[├└]── (\w+\*?)(?:: (.*))?$")
LEAF = re.compile(r"(\w+\*?)(?: \((\w+\*?)\))?")


def drawn() -> dict[str, tuple[str, bool]]:
    """Return the tree as the docstring draws it: class → its parent, and whether it is marked (*)."""
    found: dict[str, tuple[str, bool]] = {}

    def note(name: str, parent: str) -> None:
        found[name.rstrip("*")] = (parent.rstrip("*"), name.endswith("*"))

    text = re.sub(r",\n {4}[│ ] {7}", ", ", exceptions.__doc__ or "")
    for match in filter(None, map(BRANCH.match, text.splitlines())):
        branch, leaves = match.groups()
        note(branch, "SageMakerInferenceError")
        for name, below in LEAF.findall(leaves or ""):
            note(name, branch)
            if below:
                note(below, name)
    return found


def test_the_tree_is_drawn_as_it_is() -> None:
    """Class by class: its name, its parent, and its mark."""
    real = {
        found.__name__: (found.__mro__[1].__name__, found.retryable)
        for found in CLASSES
        if found is not SageMakerInferenceError
    }
    assert drawn() == real


def test_the_root_is_not_retried_unless_a_class_says_so() -> None:
    assert SageMakerInferenceError.retryable is False


@pytest.mark.parametrize("found", CLASSES)
def test_every_class_says_when_it_happens(found: type[SageMakerInferenceError]) -> None:
    assert (found.__doc__ or "").strip().endswith(".")
    assert "__doc__" in vars(found), "not its parent's words"


@pytest.mark.parametrize("found", CLASSES)
def test_an_error_survives_the_way_between_processes_with_its_text(
    found: type[SageMakerInferenceError],
) -> None:
    """Airflow's task and supervisor are two processes."""
    error = found("endpoint churn is Failed")
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - made here
        assert type(copied) is found
        assert str(copied) == "endpoint churn is Failed"


def test_an_error_may_have_lines_of_its_own_and_takes_none_from_outside() -> None:
    error = exceptions.BatchFailed("2 of 3 failed.", "s3://b/a\nINFO done: ModelError")
    for same in (error, copy.copy(error), type(error)(*error.args)):
        assert str(same) == "2 of 3 failed.\ns3://b/a\\nINFO done: ModelError"
    assert str(exceptions.BatchFailed()) == ""


def test_a_wrong_argument_is_a_value_error_as_python_expects() -> None:
    assert issubclass(exceptions.InvalidRequest, ValueError)


WHOLE = exceptions.EndpointFailed(
    "endpoint churn is Failed",
    reason="no capacity\nin this zone",
    left_behind="endpoint churn (Failed, ml.m5.xlarge) stays",
    do="retry later",
)


def test_the_text_has_a_line_for_each_part_the_most_important_first() -> None:
    assert str(WHOLE).split("\n") == [
        "endpoint churn is Failed",
        "Reason: no capacity\\nin this zone",
        "Left behind: endpoint churn (Failed, ml.m5.xlarge) stays",
        "Do: retry later",
    ]
    assert str(exceptions.EndpointFailed("endpoint churn is Failed")) == "endpoint churn is Failed"


def test_what_is_left_behind_can_become_known_later() -> None:
    error = exceptions.EndpointFailed("it failed", do="retry")
    error.left_behind = "endpoint churn"
    assert str(error) == "it failed\nLeft behind: endpoint churn\nDo: retry"


def test_in_another_text_it_is_one_line() -> None:
    assert WHOLE.as_sentence == (
        "endpoint churn is Failed. Reason: no capacity\\nin this zone. Left behind: endpoint churn (Failed, "
        "ml.m5.xlarge) stays. Do: retry later"
    )


def test_it_survives_a_triggers_event_and_gets_the_wait_in_front() -> None:
    """The event has the text; the task makes the error again, and its parts stay apart."""
    again = exceptions.EndpointFailed.from_text(str(WHOLE)).during("waiting for endpoint churn")
    assert again.args == ("waiting for endpoint churn: endpoint churn is Failed",)
    assert (again.left_behind, again.do) == (WHOLE.left_behind, WHOLE.do)
    assert str(again).split("\n")[1:] == str(WHOLE).split("\n")[1:]


def test_a_line_that_only_begins_like_a_part_stays_the_first_line() -> None:
    assert exceptions.EndpointFailed.from_text("Reason: none").args == ("Reason: none",)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_a_copy_has_all_parts(again: object) -> None:
    assert str(again(WHOLE)) == str(WHOLE)  # type: ignore[operator]


def test_credentials_in_any_part_are_masked() -> None:
    error = exceptions.EndpointFailed(
        "a", reason="http://u:pw@h", left_behind="http://u:pw@h", do="http://u:pw@h"
    )
    assert "pw" not in str(error)
    assert "pw" not in error.as_sentence
