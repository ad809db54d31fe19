"""A batch whose processes are SIGKILLed: one row for each input, and no accepted request is sent twice.

``AIRFLOW_SM_KILL_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.async_inference.batch import round_run as round_progress
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart
from airflow_sm_plugin.core.number_sets import numbers_of
from airflow_sm_plugin.exceptions import FencedOff
from tests.async_inference.batch.async_batches import OBEDIENT, calls, faults, invocations_of
from tests.async_inference.batch.batch_tasks import BatchTry, outputs_of
from tests.async_inference.batch.killed_batch import process_of, wait
from tests.support import BLOCKING, Account, unique
from tests.task_runs import Deferral, event_of

pytestmark = pytest.mark.slow

COUNT = 36
KILLED_TRIES = 1
SLOW = 9
"""Requests a second of a step that is killed: the ledger then intends few at a time, and soon has the accepted ones."""
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "4"))


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture(scope="module")
def gated_endpoint(module_account: Account) -> str:
    return module_account.deploy(BLOCKING, asynchronous=True)


def wait_until(is_so: Callable[[], object], process: BaseProcess | None = None) -> None:
    """Wait for something; pytest's own limit ends a wait in vain."""
    while not is_so():
        assert process is None or process.is_alive(), "it ended before it could be killed"
        time.sleep(0.1)


class Batch:
    """A batch whose inputs fail at their first inference, so that each step but the last sends some.

    The last of them has its result when its gate is opened, so that the first step defers.
    """

    def __init__(self, account: Account, endpoint: str, log: Path, gate: Path, **arguments: Any) -> None:  # noqa: ANN401 - the operator's
        self.account = account
        self._endpoint = endpoint
        self._bodies = [f"once {unique('n')}" for _ in range(COUNT - 1)] + [f"gate {gate}"]
        self.first = BatchTry.of_inputs(account, endpoint, self._bodies, **arguments)
        self._log = log
        self._log_start = log.stat().st_size
        self._before = invocations_of(account, endpoint)
        self.left_in_doubt: set[tuple[int, int]] = set()
        """By kills: these alone may be sent twice."""

    def accepting(self, count: int) -> AbstractContextManager[None]:
        """Have the endpoint accept so many of the batch, and throttle all others, for the block."""
        rule = {"fault": "throttle", "operation": "InvokeEndpointAsync", "resource": self._endpoint}
        return faults(self.account, {**rule, "after": count})

    def kill_while_it_sends(self, step: Callable[[], object], *, after: int) -> set[tuple[int, int]]:
        """SIGKILL a step when the ledger has accepted and doubtful requests; return the accepted ones.

        :param after: how many the endpoint accepts, so that the step cannot end before
        """
        accepted = len(self.accepted())
        with self.accepting(after), process_of(step) as process:
            wait_until(lambda: len(self.accepted()) > accepted and self.doubts(), process)
        self.left_in_doubt |= self.doubts()
        return self.accepted()

    def ledgers(self) -> dict[int, Ledger]:
        """Return the ledger of each round that has begun."""
        ledgers: dict[int, Ledger] = {}
        bucket, _, prefix = self.first.arguments["ledger_prefix"].removeprefix("s3://").partition("/")
        pages = self.account.s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{prefix}/_batch/"
        )
        for key in sorted(one["Key"] for page in pages for one in page.get("Contents", [])):
            match = re.search(r"/plan-000/round-(\d+)/ledger/", key)
            if match:
                part = LedgerPart.from_json(self.account.read(f"s3://{bucket}/{key}"))
                number = int(match[1])
                ledgers[number] = ledgers.get(number, Ledger(COUNT)).after(part)
        return ledgers

    def accepted(self) -> set[tuple[int, int]]:
        """Return round and number of the accepted requests."""
        return {(number, n) for number, ledger in self.ledgers().items() for n in numbers_of(ledger.accepted)}

    def doubts(self) -> set[tuple[int, int]]:
        """Return round and number of the doubtful requests."""
        return {(number, n) for number, ledger in self.ledgers().items() for n in numbers_of(ledger.doubtful)}

    def owner(self) -> int:
        """Return the claim under which the first round's ledger was written last."""
        ledgers = self.ledgers()
        return ledgers[1].claim if ledgers else -1

    def times_invoked(self) -> Counter[tuple[int, int]]:
        """Return how often the endpoint worked on each round and number, once it has worked on all it accepted."""
        done = re.compile(
            rf"asynchronous invocation \S+-r(\d+)-(\d{{7}}) of {re.escape(self._endpoint)} (?:completed|failed)"
        )

        def read() -> list[tuple[str, str]]:
            with self._log.open(errors="replace") as log:
                log.seek(self._log_start)
                return done.findall(log.read())

        accepted = invocations_of(self.account, self._endpoint) - self._before
        wait_until(lambda: len(read()) >= accepted)
        return Counter((int(round_number), int(number)) for round_number, number in read())

    def check(self, summary: dict[str, Any]) -> None:
        """Hold the report to one row for each input, each with its own output."""
        assert outputs_of(self.account, summary) == [body.upper().encode() for body in self._bodies]


@pytest.fixture
def _dead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed by a test sends nothing more."""
    monkeypatch.setattr(round_progress, "SIGN_OF_LIFE_SECONDS", 0.0)


@pytest.mark.usefixtures("_growing_patience", "_dead_at_once")
@pytest.mark.parametrize("resend", [False, True], ids=["wait", "resend"])
def test_killed_at_any_moment_it_goes_on_where_it_stood(
    account: Account, endpoint: str, embedded_log: Path, gate: Path, resend: bool
) -> None:
    """While it sends after ``execute``, and while it sends what failed once more after its trigger fired."""
    batch = Batch(account, endpoint, embedded_log, gate, on_unknown="resend" if resend else "wait")
    moments = random.Random(SEED)  # noqa: S311 - moments of a test
    accepted: set[tuple[int, int]] = set()
    for number in range(1, KILLED_TRIES + 1):
        step = batch.first.again(number, max_rate=SLOW).execute
        accepted |= batch.kill_while_it_sends(step, after=moments.randint(6, 9))
    deferral = batch.first.again(KILLED_TRIES + 1, max_wait_seconds=600).execute()
    assert isinstance(deferral, Deferral)
    accepted |= batch.accepted()
    gate.touch()
    batch.times_invoked()
    over = replace(deferral, trigger_arguments={**deferral.trigger_arguments, "deadline": 0.0})
    # The first poll ends the wait for requests that were never sent.
    slow = batch.first.again(KILLED_TRIES + 1, max_rate=SLOW, max_wait_seconds=0.001)
    resumed = partial(slow.resume, deferral, event_of(over.trigger))
    accepted |= batch.kill_while_it_sends(resumed, after=moments.randint(6, 9))
    assert {number for number, _ in accepted} == {1, 2}
    batch.check(batch.first.again(KILLED_TRIES + 2).run())
    times = batch.times_invoked()
    accepted -= batch.left_in_doubt
    assert accepted
    assert all(times[request] == 1 for request in accepted), "an accepted request was sent again"
    if not resend:
        assert set(times.values()) == {1}, "a request was sent twice"


@pytest.mark.usefixtures("_growing_patience")
def test_of_two_tries_at_once_the_later_one_goes_on_and_the_other_stops(
    account: Account, endpoint: str, embedded_log: Path, gate: Path
) -> None:
    gate.touch()
    batch = Batch(account, endpoint, embedded_log, gate)
    with ThreadPoolExecutor() as threads:
        with batch.accepting(8):
            orphan = threads.submit(batch.first.again(1, max_rate=SLOW).run)
            wait_until(batch.accepted)
            assert not orphan.done(), "it ended before another began"
            retry = threads.submit(batch.first.again(2).run)
            wait_until(lambda: batch.owner() == 1)
        error = orphan.exception()
        batch.check(retry.result())
    assert isinstance(error, AirflowFailException)
    assert isinstance(error.__context__, FencedOff)
    assert set(batch.times_invoked().values()) == {1}


class Gated:
    """A batch of three inputs, each of which has its result when its gate is opened, deferred at its first try."""

    def __init__(self, account: Account, endpoint: str, folder: Path) -> None:
        self._account = account
        self._endpoint = endpoint
        self._gates = [folder / f"gate-{number}" for number in range(3)]
        bodies = [str(gate) for gate in self._gates]
        self.first = BatchTry.of_inputs(account, endpoint, bodies, max_wait_seconds=600)
        self._before = invocations_of(account, endpoint)
        step = self.first.execute()
        assert isinstance(step, Deferral)
        self.deferral = step

    def open(self) -> None:
        for gate in self._gates:
            gate.touch()

    def kill_triggerer(self) -> None:
        """SIGKILL a triggerer that has read what it waits for."""
        watched = self.deferral.trigger_arguments["watch_location"].removeprefix("s3://")
        with process_of(partial(wait, self.deferral)) as triggerer:
            wait_until(
                lambda: calls(self._account, "GetObject", resource=watched),
                triggerer,
            )

    def check(self, summary: dict[str, Any]) -> None:
        assert outputs_of(self._account, summary) == [b"done"] * 3
        assert invocations_of(self._account, self._endpoint) == self._before + 3


@pytest.fixture
def gated(account: Account, gated_endpoint: str, tmp_path: Path) -> Gated:
    return Gated(account, gated_endpoint, tmp_path)


def test_a_killed_triggerers_wait_goes_on_in_another(gated: Gated) -> None:
    gated.kill_triggerer()
    gated.open()
    gated.check(gated.first.go_on(gated.deferral))


def test_the_try_after_a_killed_triggerer_waits_for_what_was_sent(gated: Gated) -> None:
    gated.kill_triggerer()
    step = gated.first.again(2).execute()
    assert isinstance(step, Deferral)
    gated.open()
    gated.check(gated.first.again(2).go_on(step))


@pytest.mark.parametrize("number", [1, 2], ids=["the same try", "the next try"])
def test_killed_between_its_trigger_and_its_next_step_it_goes_on(gated: Gated, number: int) -> None:
    """The worker that was to resume it is gone before it did anything, so that only the event is lost."""
    gated.open()
    event = event_of(gated.deferral.trigger)
    assert event["why"] == "complete"
    again = gated.first.again(number)
    gated.check(again.go_on(again.execute()))


def test_what_a_later_try_finished_an_earlier_ones_event_does_not_touch(gated: Gated) -> None:
    gated.open()
    event = event_of(gated.deferral.trigger)
    done = gated.first.again(2).run()
    with pytest.raises(AirflowFailException) as caught:
        gated.first.resume(gated.deferral, event)
    assert isinstance(caught.value.__context__, FencedOff)
    gated.check(gated.first.again(3).run())
    assert gated.first.again(3).run() == done
