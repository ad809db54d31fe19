"""Two operators on one endpoint: each call of one is held, one after the other, while the other runs to its end.

Whatever becomes of the one, the endpoint that the other left serving is there, and so are its configuration and model.
The one exception: a deletion that is held itself. SageMaker has no conditional deletion, see docs/endpoints.md.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin._compat import BaseOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from tests.endpoint_trials import call_log, control, in_region, may_execute
from tests.support import IMAGE, POLL, ROLE, Account, TaskInstanceDouble, context_for, run_task, unique

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

pytestmark = pytest.mark.slow

HELD = 3600
"""Seconds that no call is held for: its rule is forgotten first."""
REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1")
"""A trial has a region to itself, since operators list all endpoints of their region."""
LONGEST = 600.0


@dataclass(frozen=True)
class Subject:
    """An endpoint's name in a region, and two models to serve behind it."""

    account: Account
    region: str
    name: str = field(default_factory=lambda: unique("race"))

    @property
    def client(self) -> SageMakerClient:
        return in_region(self.account, self.region).sagemaker

    def model(self, number: int) -> str:
        """Create a model that our operators may delete; its endpoints start no process."""
        name = f"{self.name}-m{number}"
        self.client.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/models/"},
            Tags=[{"Key": "airflow-sm-plugin:content", "Value": "made here"}],
        )
        return name

    def deploy(self, run: str, number: int, **arguments: Any) -> Any:  # noqa: ANN401 - what the task returns
        make = partial(
            SageMakerDeployEndpointOperator,
            task_id="deploy",
            endpoint_name=self.name,
            model_name=f"{self.name}-m{number}",
            **{"deferrable": False, "max_wait_seconds": 600, **self._usual(), **arguments},
        )
        return self._run(make, run)

    def delete(self, run: str) -> Any:  # noqa: ANN401 - as above
        make = partial(
            SageMakerDeleteEndpointOperator,
            task_id="delete",
            endpoint_name=self.name,
            delete_models=True,
            remove_scaling=False,
            **self._usual(),
        )
        return self._run(make, run)

    def _usual(self) -> dict[str, Any]:
        return {"aws_conn_id": None, "region_name": self.region, "poll_interval": POLL}

    def _run(self, make: Callable[[], BaseOperator], run: str) -> Any:  # noqa: ANN401 - as above
        return run_task(make, context_for(TaskInstanceDouble(run_id=run)))

    def endpoint(self) -> tuple[Any, ...] | None:
        """Return CreationTime, status and configuration, None when there is none."""
        with contextlib.suppress(ClientError):
            seen = self.client.describe_endpoint(EndpointName=self.name)
            return seen["CreationTime"], seen["EndpointStatus"], seen["EndpointConfigName"]
        return None

    def settled(self) -> tuple[Any, ...] | None:
        """Return the same once nothing is in progress: a task whose time was over leaves its update to SageMaker."""
        give_up = time.monotonic() + LONGEST
        while (seen := self.endpoint()) is not None and seen[1] in ("Creating", "Updating"):
            assert time.monotonic() < give_up
            time.sleep(POLL)
        return seen

    def wreck(self) -> None:
        """Leave an endpoint that has Failed."""
        control(self.account, "PUT", f"endpoints/{self.name}/next", {"on": "create", "end": "Failed"})
        with pytest.raises(Exception, match="is Failed"):
            self.deploy("wreck", 0, cleanup_on_failure=False)

    def remove(self) -> None:
        """Remove the endpoint, so that operators of other trials do not list it."""
        control(self.account, "DELETE", f"faults?resource=*{self.name}*")
        if self.endpoint() is not None:
            self.client.delete_endpoint(EndpointName=self.name)


@dataclass(frozen=True)
class Race:
    """The initial state, the held operator's action, and the other's."""

    held: Callable[[Subject], Any]
    other: Callable[[Subject], Any]
    before: Callable[[Subject], Any] = lambda _: None


def _slow(subject: Subject) -> None:
    """Have the next creation take longer than a poll takes."""
    control(subject.account, "PUT", f"endpoints/{subject.name}/next", {"on": "create", "seconds": 0.5})


def _twice(subject: Subject) -> None:
    for number in (0, 1):
        subject.deploy("before", number, keep_configs=None)


def too_late(subject: Subject) -> Any:  # noqa: ANN401 - what the task returns
    """Create it, find that it takes too long, and clean up."""
    return subject.deploy("held", 0, max_wait_seconds=0, keep_configs=0)


def as_a_later_try(subject: Subject) -> Any:  # noqa: ANN401 - what the task returns
    """Deploy in a later try of the very task that is held: an orphan of its own is left behind."""
    make = partial(
        SageMakerDeployEndpointOperator,
        task_id="deploy",
        endpoint_name=subject.name,
        model_name=f"{subject.name}-m0",
        deferrable=False,
        max_wait_seconds=600,
        **subject._usual(),
    )
    return run_task(make, context_for(TaskInstanceDouble(run_id="held", try_number=2)))


RACES = {
    "deploy, deploy another": Race(
        lambda subject: subject.deploy("held", 0), lambda subject: subject.deploy("other", 1)
    ),
    "deploy, deploy the same": Race(
        lambda subject: subject.deploy("held", 0), lambda subject: subject.deploy("other", 0)
    ),
    "clean up, deploy another": Race(too_late, lambda subject: subject.deploy("other", 1), _slow),
    "clean up, deploy the same": Race(too_late, lambda subject: subject.deploy("other", 0), _slow),
    "clean up, deploy the same again as a later try": Race(
        too_late,
        as_a_later_try,
        _slow,
    ),
    "delete, deploy the same": Race(
        lambda subject: subject.delete("held"),
        lambda subject: subject.deploy("other", 0),
        lambda subject: subject.deploy("before", 0),
    ),
    "tidy, deploy what is tidied": Race(
        lambda subject: subject.deploy("held", 2, keep_configs=0, delete_old_models=True),
        lambda subject: subject.deploy("other", 0, keep_configs=None),
        _twice,
    ),
    "recreate, recreate": Race(
        lambda subject: subject.deploy("held", 0, on_failed="recreate"),
        lambda subject: subject.deploy("other", 1, on_failed="recreate"),
        Subject.wreck,
    ),
}


def hold(subject: Subject, after: int) -> None:
    """Hold the call after so many that name the endpoint, its configurations or models."""
    rule = {"operation": "sagemaker:*", "resource": f"*{subject.name}*", "fault": "latency", "seconds": HELD}
    control(subject.account, "POST", "faults", [rule | {"after": after, "times": 1}])


def rule_of(subject: Subject) -> Mapping[str, Any]:
    rules = control(subject.account, "GET", "faults")["rules"]
    return next(rule for rule in rules if rule["resource"] == f"*{subject.name}*")


@dataclass(frozen=True)
class Course:
    """The course of a race: the held call, both operators' ends, the endpoint after the other's end and after both."""

    call: str
    held: str
    other: str
    between: tuple[object, ...] | None
    finally_: tuple[object, ...] | None
    missing: list[str]


def run(subject: Subject, race: Race, after: int) -> Course | None:
    """Run the race with this call held; None where there are not so many."""
    hold(subject, after)
    since = cast("int", call_log(subject.account, operation="-")["sequence"])
    end = queue.SimpleQueue[str]()

    def held() -> None:
        may_execute()
        end.put(ended(lambda: race.held(subject)))

    thread = threading.Thread(target=held)
    thread.start()
    give_up = time.monotonic() + LONGEST
    while not rule_of(subject)["struck"]:
        if not thread.is_alive():
            return None
        assert time.monotonic() < give_up
        time.sleep(POLL)
    other = ended(lambda: race.other(subject))
    between = subject.endpoint()
    control(subject.account, "DELETE", f"faults?resource=*{subject.name}*")
    thread.join(LONGEST)
    assert not thread.is_alive(), "the held operator does not end"
    calls = cast("list[dict[str, Any]]", call_log(subject.account, since=since, service="*")["calls"])
    (call,) = {
        one["operation"] for one in calls if one["fault"] == "latency" and subject.name in one["resource"]
    }
    after_both = subject.settled()
    return Course(call, end.get(), other, between, after_both, _missing(subject, after_both))


def ended(work: Callable[[], Any]) -> str:
    try:
        return str(work().get("action", "deleted"))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this operator's end
        return f"{type(error).__name__}: {error}"


def _missing(subject: Subject, endpoint: tuple[Any, ...] | None) -> list[str]:
    """Name what the endpoint serves and is not there."""
    if endpoint is None:
        return []
    there = subject.client
    try:
        config = there.describe_endpoint_config(EndpointConfigName=endpoint[2])
        for variant in config["ProductionVariants"]:
            there.describe_model(ModelName=variant["ModelName"])
    except ClientError as error:
        return [str(error)]
    return []


def prepared(account: Account, region: str, race: Race) -> Subject:
    subject = Subject(account, region)
    for number in range(3):
        subject.model(number)
    race.before(subject)
    return subject


def calls_of(account: Account, race: Race) -> int:
    """Count the calls of the undisturbed operator."""
    subject = prepared(account, REGIONS[0], race)
    hold(subject, 10_000)
    ended(lambda: race.held(subject))
    calls = int(rule_of(subject)["matched"])
    subject.remove()
    return calls


@pytest.fixture(autouse=True)
def _quick(account: Account, shared_clients: None) -> Iterator[None]:
    with account.settings(
        endpoint_creating_seconds=0.15, endpoint_updating_seconds=0.1, endpoint_deleting_seconds=0.1
    ):
        yield
    control(account, "DELETE", "faults")
    control(account, "DELETE", "endpoints")


@pytest.mark.parametrize("race", RACES.values(), ids=RACES.keys())
def test_whatever_becomes_of_one_what_the_other_left_serving_is_there(account: Account, race: Race) -> None:
    regions = queue.SimpleQueue[str]()
    for region in REGIONS:
        regions.put(region)

    def trial(after: int) -> Course | None:
        region = regions.get()
        subject = prepared(account, region, race)
        try:
            return run(subject, race, after)
        finally:
            subject.remove()
            regions.put(region)

    calls = calls_of(account, race)
    with ThreadPoolExecutor(len(REGIONS), initializer=may_execute) as pool:
        courses = [course for course in pool.map(trial, range(calls)) if course is not None]
    assert len(courses) > calls / 2
    for number, course in enumerate(courses):
        message = f"call {number} of {calls} held: {course}"
        if "ModelNotFound" in course.other:
            continue  # it was deleted with what served it, before the other used it
        assert course.other in ("created", "updated", "unchanged"), message
        assert course.between is not None, message
        if course.call.startswith("Delete"):
            continue
        if course.held == "deleted" and course.other != "created":
            continue  # asked by name to delete the very endpoint that the other has found there
        assert course.finally_ is not None, message
        assert course.finally_[:2] == (course.between[0], "InService"), message
        assert course.missing == [], message
