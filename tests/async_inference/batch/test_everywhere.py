"""A batch that is killed at any of its requests, several times in a row, ends in the right report all the same.

Each of its steps is killed: the task's ``execute``, its trigger, and its resumption.
``AIRFLOW_SM_KILL_SEED`` chooses other requests, ``AIRFLOW_SM_KILL_REQUESTS=all`` takes each request of the
first run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from airflow_sm_plugin._compat import BaseOperator
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from tests.async_inference.batch.async_batches import OBEDIENT
from tests.async_inference.batch.batch_tasks import BatchTry, outputs_of
from tests.async_inference.batch.test_unnamed import older_botocore  # noqa: F401 - a fixture
from tests.stubs.killing_proxy import KillingProxy, killing_proxy
from tests.stubs.recorder import TRANSPORTS
from tests.support import Account, unique
from tests.task_runs import Deferral, Step, event_from, execute, resume

pytestmark = pytest.mark.slow

KILLS = 3
KILLED_REQUESTS = os.environ.get("AIRFLOW_SM_KILL_REQUESTS", "1")
"""The number of requests of each step at which the first kill is tried."""
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "7"))
EXECUTE, TRIGGER, RESUME = "execute", "trigger", "resume"
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "wait": {"on_unknown": "wait"},
    "resend": {"on_unknown": "resend"},
    "unnamed": {"on_unknown": "wait", "botocore_config": TRANSPORTS["botocore"]},
}


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture
def proxy(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[KillingProxy]:
    with killing_proxy(account.url) as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL", opened.url)
        yield opened


class Request(NamedTuple):
    """A request of a step, each counted from 0."""

    step: int
    request: int


class Batches:
    """Batches of three inputs, each of its own, through one endpoint.

    One input fails at its first inference, and one has its result only after the task waits, so that the task defers.
    """

    def __init__(
        self,
        account: Account,
        endpoint: str,
        proxy: KillingProxy,
        gates: Path,
        **arguments: Any,  # noqa: ANN401 - the operator's
    ) -> None:
        self._account = account
        self._endpoint = endpoint
        self._proxy = proxy
        self._gates = gates
        self._gate = gates
        self._arguments = {"concurrency": 2, "max_wait_seconds": 0.6, **arguments}

    def new(self) -> BatchTry:
        self._gate = self._gates / unique("gate")
        bodies = ["a", f"once {unique('b')}", f"gate {self._gate}"]
        return BatchTry.of_inputs(self._account, self._endpoint, bodies, **self._arguments)

    def run(self, batch: BatchTry) -> list[tuple[str, int]]:
        """Run a try to its end; return its steps, and the number of requests of each."""
        run = Run(self._proxy, batch, self._gate)
        summary = run.end()
        assert summary is not None
        outputs = outputs_of(self._account, summary)
        assert (outputs[0], outputs[1][:5], outputs[2]) == (
            b"A",
            b"ONCE ",
            f"gate {self._gate}".upper().encode(),
        )
        return run.steps

    def run_killed(
        self, batch: BatchTry, killed_at: Request, *, after: bool, another_triggerer: bool
    ) -> str | None:
        """Run a try that is killed at a request; return in which step that was, None when it ended before.

        :param another_triggerer: another one goes on with a wait that was killed; else the try ends there
        """
        run = Run(self._proxy, batch, self._gate, killed_at, after=after, another_triggerer=another_triggerer)
        run.end()
        return run.killed


class Run:
    """A try taken from step to step, as Airflow does; its gate is opened when it waits."""

    def __init__(
        self,
        proxy: KillingProxy,
        batch: BatchTry,
        gate: Path,
        killed_at: Request | None = None,
        *,
        after: bool = False,
        another_triggerer: bool = False,
    ) -> None:
        self._proxy = proxy
        self._batch = batch
        self._gate = gate
        self._killed_at = killed_at
        self._after = after
        self._another_triggerer = another_triggerer
        self.steps: list[tuple[str, int]] = []
        self.killed: str | None = None

    def end(self) -> dict[str, Any] | None:
        """Take it to its end; return its summary, None when it was killed."""
        step = self._work(EXECUTE, execute)
        while isinstance(step, Deferral):
            event = self._event(step)
            if event is None and self._another_triggerer:
                event = self._event(step)
            if event is None:
                return None
            step = self._work(RESUME, partial(resume, deferral=step, event=event))
        return None if step is None else cast("dict[str, Any]", step.result)

    def _event(self, deferral: Deferral) -> dict[str, Any] | None:
        self._gate.touch()
        with self._step(TRIGGER):
            return self._proxy.run(event_from(deferral.trigger))

    def _work(self, kind: str, work: Callable[..., Step]) -> Step | None:
        operators: list[SageMakerAsyncBatchOperator] = []

        def make() -> BaseOperator:
            operators.append(self._batch.operator())
            return operators[-1]

        def kill() -> None:
            for operator in operators:
                operator.on_kill()

        with self._step(kind):
            return self._proxy.take(partial(work, make, self._batch.context()), kill)

    @contextmanager
    def _step(self, kind: str) -> Iterator[None]:
        is_it = self._killed_at is not None and self._killed_at.step == len(self.steps)
        self._proxy.kill_at(self._killed_at.request if self._killed_at and is_it else None, after=self._after)
        yield
        self.steps.append((kind, len(self._proxy.asked)))
        if self._proxy.has_killed:
            self.killed = kind


@pytest.fixture(params=ARGUMENTS)
def batches(
    account: Account, endpoint: str, proxy: KillingProxy, tmp_path: Path, request: pytest.FixtureRequest
) -> Batches:
    if request.param == "unnamed":
        request.getfixturevalue("older_botocore")
    return Batches(account, endpoint, proxy, tmp_path, **ARGUMENTS[request.param])


@pytest.mark.usefixtures("_growing_patience")
def test_wherever_its_tries_are_killed_a_later_one_finishes(batches: Batches) -> None:
    steps = batches.run(batches.new())
    kinds = [EXECUTE, TRIGGER, RESUME]
    assert [kind for kind, _ in steps[:3]] == kinds
    chance = random.Random(SEED)  # noqa: S311 - moments of a test
    everywhere = [Request(step, number) for step, (_, count) in enumerate(steps) for number in range(count)]

    def kill(first: Request, *, after: bool) -> set[str | None]:
        """Kill several tries of a batch, finish it, and return in which steps they were."""
        batch, killed = batches.new(), set[str | None]()
        for number, killed_at in enumerate([first, *chance.choices(everywhere, k=KILLS - 1)], start=1):
            another = chance.random() < 0.5
            killed.add(
                batches.run_killed(batch.again(number), killed_at, after=after, another_triggerer=another)
            )
            after = chance.random() < 0.5
        batches.run(batch.again(KILLS + 1))
        return killed

    killed: set[str | None] = set()
    for first, after in first_requests(steps, everywhere, chance):
        killed |= kill(first, after=after)
    for step, kind in enumerate(kinds):
        if kind not in killed:  # it asked less than at the first run
            killed |= kill(Request(step, 0), after=False)
    assert set(kinds) <= killed


def first_requests(
    steps: list[tuple[str, int]], everywhere: list[Request], chance: random.Random
) -> Iterator[tuple[Request, bool]]:
    """Yield some requests of each kind of step, and whether they are carried out; first, that an event is lost."""
    yield Request(2, 0), False
    for kind in (EXECUTE, TRIGGER, RESUME):
        requests = [killed_at for killed_at in everywhere if steps[killed_at.step][0] == kind]
        for killed_at in (
            requests
            if KILLED_REQUESTS == "all"
            else chance.sample(requests, min(int(KILLED_REQUESTS), len(requests)))
        ):
            yield killed_at, chance.random() < 0.5
