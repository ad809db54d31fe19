"""What is reported of an endpoint's containers while it is Creating, and that nothing is reported twice."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.resources.container_start import CHECK_SECONDS, ContainerLines, ContainerStart

BEGAN = 1_000.0
FINE = ContainerLines("group stream", ["Loading the model", "Serving"])
BROKEN = ContainerLines(
    "group stream",
    [
        "Loading the model",
        "Traceback (most recent call last):",
        "  import torchx",
        "ModuleNotFoundError: torchx",
    ],
)


def start() -> ContainerStart:
    return ContainerStart("churn", BEGAN)


def test_the_first_check_and_each_later_one_comes_after_a_minute() -> None:
    assert not start().is_due(BEGAN + CHECK_SECONDS - 1)
    assert start().is_due(BEGAN + CHECK_SECONDS)
    checked, _ = start().checked(None, now=BEGAN + 70)
    assert not checked.is_due(BEGAN + 70 + CHECK_SECONDS - 1)
    assert checked.is_due(BEGAN + 70 + CHECK_SECONDS)


def test_without_a_container_after_some_minutes_there_is_one_line() -> None:
    early, nothing = start().checked(None, now=BEGAN + 200)
    assert nothing is None
    late, report = early.checked(None, now=BEGAN + 260)
    assert report is not None
    assert report.is_warning
    assert report.message.startswith(
        "endpoint churn is still Creating after 4 min 20 s, and no container runs yet: SageMaker waits for capacity"
    )
    assert late.checked(None, now=BEGAN + 900)[1] is None


def test_a_container_that_runs_is_reported_once_and_its_later_errors_still() -> None:
    runs, report = start().checked(FINE, now=BEGAN + 60)
    assert report is not None
    assert not report.is_warning
    assert report.message.endswith("a container runs, and logs to group stream")
    again, nothing = runs.checked(FINE, now=BEGAN + 120)
    assert nothing is None
    over, errors = again.checked(BROKEN, now=BEGAN + 180)
    assert errors is not None
    assert errors.is_warning
    assert list(errors.lines) == BROKEN.lines[1:]
    assert not over.is_due(BEGAN + 9_999)


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: no space left on device",
        "java.lang.IllegalStateException: x",
        "Killed",
        "ValueError: 3",
        "[FATAL] out of memory",
        "/opt/ml/model/code/inference.py: No such file or directory",
    ],
)
def test_such_a_line_is_an_error(line: str) -> None:
    assert ContainerLines("s", ["fine", line, "next"]).errors == [line, "next"]


@pytest.mark.parametrize("line", ["Loading", "0 failures", "unkilled workers", "GET /ping 200"])
def test_such_a_line_is_none(line: str) -> None:
    assert ContainerLines("s", [line]).errors == []


def test_a_denied_check_is_the_last_and_an_unanswered_one_is_repeated() -> None:
    over, report = start().unchecked("not authorized", now=BEGAN + 60, is_denied=True)
    assert report is not None
    assert not report.is_warning
    assert "not authorized" in report.message
    assert over.is_over
    third = start()
    for number in (1, 2):
        third, nothing = third.unchecked("no answer", now=BEGAN + 60 * number, is_denied=False)
        assert (nothing, third.is_over) == (None, False)
    third, report = third.unchecked("no answer", now=BEGAN + 180, is_denied=False)
    assert report is not None
    assert third.is_over
