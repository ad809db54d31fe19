"""A try of create, update and delete is over after every AWS call, one per trial, as when its process is killed.

The next try comes to the same end as undisturbed: nothing missing, nothing left over, nothing made or paid for twice.
``tests/e2e/test_kill_table.py`` kills real processes, once for each verb.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from tests.endpoint_trials import (
    REGIONS,
    End,
    Trial,
    Verb,
    begun,
    effects,
    end_of,
    in_region,
    key_of,
    may_execute,
    operator_of,
    without_marks,
)
from tests.support import Account, TaskInstanceDouble, context_for, run_task

pytestmark = pytest.mark.slow


class Dead(BaseException):
    """The try's process was killed: nothing that it does from now on reaches AWS."""


@dataclass(frozen=True)
class Call:
    """The n-th call of an operation; how often an operator polls shifts no other operation's."""

    operation: str
    number: int


class Life(threading.local):
    """The calls that the try in this thread has made, and after which of them its process is killed."""

    last: Call | None = None
    dead: bool = False
    calls: list[Call]


@dataclass(frozen=True)
class Outcome:
    """The course of a trial: its end, its effects, the calls of the first try, and whether that was killed."""

    end: End
    effects: Counter[tuple[str, str]]
    calls: list[Call]
    killed: bool


@pytest.fixture(autouse=True)
def _quick(account: Account) -> Iterator[None]:
    with account.settings(
        endpoint_creating_seconds=0.1, endpoint_updating_seconds=0.1, endpoint_deleting_seconds=0.1
    ):
        yield


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, shared_clients: None) -> Life:
    """Have every boto3 client that a hook uses note its calls, each once it is answered, and die after the last."""
    life = Life()
    make = AwsGenericHook.get_client_type

    def note(model: Any, **_: object) -> None:  # noqa: ANN401 - botocore's operation model
        earlier = sum(call.operation == model.name for call in life.calls)
        life.calls.append(Call(model.name, earlier + 1))
        life.dead = life.dead or life.calls[-1] == life.last
        die_if_dead()

    def die_if_dead(**_: object) -> None:
        if life.dead:
            raise Dead

    def make_noting(hook: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the provider's
        client: Any = make(hook, *args, **kwargs)
        if not hasattr(client, "meta"):
            return client  # a trigger's, which runs in the triggerer
        client.meta.events.register("before-call", die_if_dead, unique_id="die if dead")
        client.meta.events.register("after-call", note, unique_id="note")
        return client

    monkeypatch.setattr(AwsGenericHook, "get_client_type", make_noting)
    return life


def outcome(
    account: Account, verb: Verb, life: Life, *, kill_after: Call | None, deferrable: bool
) -> Outcome:
    """Run one trial in the account's region."""
    trial = begun(account, verb)
    life.last, life.calls = kill_after, []
    killed = False
    try:
        _run(trial, 1, deferrable=deferrable)
    except Dead:
        killed = True
    calls, life.last, life.dead = list(life.calls), None, False
    if killed:
        _run(trial, 2, deferrable=deferrable)
    trial_outcome = Outcome(end_of(account, trial), without_marks(effects(account, trial)), calls, killed)
    if account.status(trial.name) is not None:  # the next trial there would list it as well
        account.sagemaker.delete_endpoint(EndpointName=trial.name)
        account.wait_for_endpoint(trial.name, "endpoint_deleted")
    return trial_outcome


def _run(trial: Trial, try_number: int, *, deferrable: bool) -> None:
    arguments = {} if trial.verb == "delete" else {"deferrable": deferrable}
    ti = TaskInstanceDouble(run_id=trial.name, task_id=trial.verb, try_number=try_number)
    run_task(
        partial(operator_of, trial, poll_interval=0.3, max_wait_seconds=600, **arguments), context_for(ti)
    )


ALONE = REGIONS[1:]
"""Not the first, where other tests have endpoints: an operator describes them as well, now more, now fewer."""
CREATED = {"CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint"}
UPDATED = {"CreateEndpointConfig", "UpdateEndpoint", "DeleteEndpointConfig", "DeleteModel"}
POLL = "DescribeEndpoint"
DELETED = {
    "DeleteEndpoint",
    "DeleteEndpointConfig",
    "DeleteModel",
    "DeleteScalingPolicy",
    "DeregisterScalableTarget",
    "DeleteAlarms",
}


@pytest.mark.parametrize(
    ("verb", "expected", "deferrable"),
    [
        ("create", CREATED, False),
        ("create", CREATED, True),
        ("update", UPDATED, False),
        ("update", UPDATED, True),
        ("delete", DELETED, False),
    ],
)
def test_a_try_killed_after_any_call_comes_to_the_same_end(
    account: Account, life: Life, verb: Verb, expected: Collection[str], *, deferrable: bool
) -> None:
    free = queue.SimpleQueue[str]()
    for region in ALONE:
        free.put(region)

    def trial(kill_after: Call | None) -> Outcome:
        region = free.get()
        try:
            there = in_region(account, region)
            return outcome(there, verb, life, kill_after=kill_after, deferrable=deferrable)
        finally:
            free.put(region)

    peace = trial(None)
    with ThreadPoolExecutor(len(ALONE), initializer=may_execute) as pool:
        outcomes = list(pool.map(trial, peace.calls))
    assert set(expected) <= {call.operation for call in peace.calls}
    for point, trial_outcome in zip(peace.calls, outcomes, strict=True):
        # How often it polls depends on the machine's speed as well; everything else is called each time.
        assert trial_outcome.killed or (point.operation == POLL and point.number > 1), (
            f"not killed after {point}"
        )
        assert not trial_outcome.killed or trial_outcome.calls[-1] == point
        message = f"killed after call {len(trial_outcome.calls)}: {trial_outcome.calls}"
        assert trial_outcome.end == peace.end, message
        assert key_of(trial_outcome.effects) == key_of(peace.effects), message
        assert max(trial_outcome.effects.values()) == 1, message
