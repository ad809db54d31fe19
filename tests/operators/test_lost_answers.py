"""Every AWS call of create, update and delete fails once, one per run: the end is the same, nothing happens twice.

The answer is lost after the call had its effect, the connection closes before, or the call is throttled. Mostly
botocore repeats the call; where its configuration forbids that, Airflow repeats the task.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from airflow_sm_plugin._compat import BaseOperator
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from tests.endpoint_trials import (
    MADE_ONCE,
    REGIONS,
    VERBS,
    End,
    Trial,
    Verb,
    begun,
    call_log,
    control,
    effects,
    end_of,
    in_region,
    key_of,
    may_execute,
    operator_of,
)
from tests.support import Account, TaskInstanceDouble, context_for, run_task

pytestmark = pytest.mark.slow

DESCRIBE = "sagemaker:DescribeEndpoint"
OTHERS = (DESCRIBE, "sagemaker:DescribeEndpointConfig")
"""What is called for others' endpoints as well, of which there are now more, now fewer: whether they use something."""
SERVICES = ("sagemaker", "application-autoscaling", "monitoring")
"""What these tasks call; a queue that an earlier test waited for may still be asked."""
POLL_SECONDS = 0.3
"""Longer than anything takes there, mostly: so most runs poll equally often."""

FAULTS = pytest.mark.parametrize("fault", ["lost_answer", "drop", "throttle"])
EVERY_VERB = pytest.mark.parametrize("verb", VERBS)
SENT_ONCE = {"retries": {"mode": "standard", "total_max_attempts": 1}}


@dataclass(frozen=True)
class Point:
    """One call of an undisturbed run: the n-th of its operation.

    :param named: whether the call names the endpoint, so that trials do not come in each other's way
    """

    operation: str
    before: int
    named: bool


@dataclass(frozen=True)
class Course:
    """The course of a run: its calls, its end, the calls that had an effect, and the errors its tries ended with."""

    points: list[Point]
    end: End
    effects: Counter[tuple[str, str]]
    errors: list[str]


@pytest.fixture(autouse=True)
def _quick(account: Account, shared_clients: None) -> Iterator[None]:
    with account.settings(
        endpoint_creating_seconds=0.1, endpoint_updating_seconds=0.1, endpoint_deleting_seconds=0.1
    ):
        yield


@pytest.fixture(autouse=True)
def _no_faults_stay(account: Account) -> Iterator[None]:
    yield
    _faults(account, "DELETE")


def _faults(account: Account, method: str, rules: object = None) -> dict[str, Any]:
    return control(account, method, "faults", rules)


def _operator(trial: Trial, **arguments: Any) -> Callable[[], BaseOperator]:  # noqa: ANN401 - the operator's own
    return partial(operator_of, trial, poll_interval=POLL_SECONDS, max_wait_seconds=600, **arguments)


def _errors_of(trial: Trial, *, tries: int, **arguments: Any) -> list[str]:  # noqa: ANN401 - as above
    """Run the task as Airflow does, with so many tries; an error that no retry mends comes out."""
    errors: list[str] = []
    for number in range(1, tries + 1):
        ti = TaskInstanceDouble(run_id=trial.name, task_id=trial.verb, try_number=number)
        try:
            run_task(_operator(trial, **arguments), context_for(ti))
        except SageMakerInferenceError as error:
            errors.append(f"{type(error).__name__}: {error}")
        else:
            return errors
    raise AssertionError(f"{trial.verb} failed {tries} times: {errors}")


def _undisturbed(account: Account, verb: Verb) -> Course:
    """Run it in peace, and note its calls."""
    trial = begun(account, verb)
    run_task(
        _operator(trial),
        context_for(TaskInstanceDouble(run_id=trial.name, task_id=verb)),
    )
    logged_calls = cast("list[dict[str, Any]]", call_log(account, since=trial.since, service="*")["calls"])
    seen: Counter[str] = Counter()
    points = []
    for call in logged_calls:
        operation = f"{call['service']}:{call['operation']}"
        if call["service"] not in SERVICES:
            continue
        if operation in OTHERS and trial.name not in (call["resource"] or ""):
            continue
        named = trial.name in (call["resource"] or "")
        points.append(Point(operation, seen[operation], named))
        seen[operation] += 1
    return _course(account, trial, points, [])


def _struck(account: Account, verb: Verb, point: Point, fault: str, **arguments: Any) -> Course:  # noqa: ANN401 - as above
    """Run it with this call struck."""
    trial = begun(account, verb)
    rule = {"operation": point.operation, "fault": fault, "after": point.before, "times": 1}
    if point.named:
        rule["resource"] = f"*{trial.name}*"
    _faults(account, "POST", [rule])
    errors = _errors_of(trial, tries=3, **arguments)
    plan = _faults(account, "GET")["rules"]
    _forget(account, rule)  # or it strikes the test itself, where the task called less often than in peace
    (struck,) = (one["struck"] for one in plan if all(one.get(key) == rule[key] for key in rule))
    # How often it polls depends on the machine's speed as well; everything else is called each time.
    assert struck == 1 or (point.operation == DESCRIBE and point.before), f"{rule} did not strike"
    return _course(account, trial, [], errors)


def _course(account: Account, trial: Trial, points: list[Point], errors: list[str]) -> Course:
    """Note how it went, and remove the endpoint, so that others' operators do not list it."""
    course = Course(points, end_of(account, trial), effects(account, trial), errors)
    if account.status(trial.name) is not None:
        account.sagemaker.delete_endpoint(EndpointName=trial.name)
    return course


def _forget(account: Account, rule: Mapping[str, object]) -> None:
    """Forget this trial's rule: of those that name the endpoint only its own, since others are at work."""
    resource = rule.get("resource")
    query = f"?{urlencode({'resource': resource})}" if resource else ""
    control(account, "DELETE", f"faults{query}")


def _all_struck(
    account: Account,
    verb: Verb,
    fault: str,
    **arguments: Any,  # noqa: ANN401 - as above
) -> Iterator[tuple[str, Course, Course]]:
    """Strike every call, one per run; yield what was struck, how it went and how it goes in peace."""
    peace = _undisturbed(account, verb)
    assert not [what for what, times in peace.effects.items() if times > 1]

    free = queue.SimpleQueue[str]()
    for region in REGIONS:
        free.put(region)

    def strike(point: Point) -> Course:
        region = free.get()
        try:
            return _struck(in_region(account, region), verb, point, fault, **arguments)
        finally:
            free.put(region)

    named = [point for point in peace.points if point.named]
    with ThreadPoolExecutor(len(REGIONS), initializer=may_execute) as pool:
        for point, course in zip(named, pool.map(strike, named), strict=True):
            yield f"{fault} at {point}", course, peace
    for point in peace.points:
        if not point.named:
            yield f"{fault} at {point}", strike(point), peace


@EVERY_VERB
@FAULTS
def test_a_call_that_fares_badly_once_changes_nothing(account: Account, verb: Verb, fault: str) -> None:
    for struck, course, peace in _all_struck(account, verb, fault):
        assert course.errors == [], struck
        assert course.end == peace.end, struck
        assert key_of(course.effects) == key_of(peace.effects), struck


@EVERY_VERB
@FAULTS
def test_where_botocore_repeats_nothing_the_next_try_comes_to_the_same_end(
    account: Account, verb: Verb, fault: str
) -> None:
    """A try that fails removes what it made (``cleanup_on_failure``), so it may be made again, after that."""
    for struck, course, peace in _all_struck(account, verb, fault, botocore_config=SENT_ONCE):
        assert not [error for error in course.errors if "already existing" in error], struck
        assert course.end == peace.end, struck
        removed = Counter(
            {what: n for (call, what), n in course.effects.items() if call.startswith("Delete")}
        )
        for (call, what), times in course.effects.items():
            if call in MADE_ONCE:
                assert times <= 1 + (removed[what] if call.startswith("Create") else 0), struck
