"""A batch whose process is stopped before any of its requests to S3, and resumed when a later try has begun.

Airflow waits for the later try. That try always succeeds, and the objects in S3 are its own in the end.
``AIRFLOW_SM_RACE_SEED`` chooses other requests to stop at.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_sm_plugin.aws.calls import AwsCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.report.elements import NO_RUN
from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.run import BatchOutcome, run_batch
from airflow_sm_plugin.multi_model.shard import ShardSettings
from tests.multi_model.multi_models import CONNECTION, MultiModel
from tests.stubs.stopped_s3 import Stop, StoppedCalls
from tests.support import Account, unique

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("AIRFLOW_SM_RACE_SEED", "3"))
LONGEST = 400
"""More requests than a process sends."""

STEP = 9
"""Every ninth request is a stop, from a random first one on."""

_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, ["a", "b"])


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    return MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)


@pytest.fixture(autouse=True)
def _stopped_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each process of this test a request of its own to stop at."""
    live = set[str]()

    @asynccontextmanager
    async def calls(connection: AwsConnection, service: str, **how: Any) -> AsyncIterator[AwsCalls]:  # noqa: ANN401 - as open_calls()
        async with open_calls(connection, service, **how) as opened:
            stop = _STOP.get()
            yield opened if stop is None else StoppedCalls(opened, stop, live)

    monkeypatch.setattr("airflow_sm_plugin.aws.s3.objects.open_calls", calls)


@dataclass(frozen=True)
class Race:
    """Two tries of one task instance.

    :param orphan: the earlier one, which is stopped
    :param before: a try before both, which finished all work
    :param rewritten: whether all inputs are replaced when the later try begins
    """

    orphan: StateWriter
    later: StateWriter
    before: StateWriter | None = None
    rewritten: bool = False
    restart: bool = False


def first_of(started: float, try_number: int, run: str = "0") -> StateWriter:
    return StateWriter(TaskTry(started, try_number), run)


RACES = {
    "a retry": Race(first_of(1.0, 1), first_of(1.0, 2)),
    "a DAG run created again": Race(first_of(1.0, 1), first_of(2.0, 1), rewritten=True),
    "its retry": Race(first_of(2.0, 1), first_of(2.0, 2), before=first_of(1.0, 5)),
    "cleared": Race(first_of(1.0, 1), first_of(2.0, 2, "1"), rewritten=True),
    "restarted": Race(first_of(2.0, 2, "1"), first_of(2.0, 3, "1"), before=first_of(1.0, 1), restart=True),
}


class Batch:
    """One task's batch, and its tries."""

    def __init__(self, batch: MultiModel, race: Race, name: str) -> None:
        self.batch = replace(batch, root=f"{batch.root}/{name}")
        self.race = race

    def put(self, text: str) -> None:
        self.batch.put("a", "x.csv", f"{text}1\n{text}2\n")
        self.batch.put("b", "y.csv", f"{text}3\n")

    async def run(self, writer: StateWriter) -> BatchOutcome:
        given = ShardSettings(
            plan_location="",
            shard=0,
            engine=EngineSettings(
                endpoint_name=self.batch.name,
                content_type="text/csv",
                accept="text/csv",
                checkpoint_seconds=0.01,
            ),
            writer=writer,
            restart=self.race.restart,
        )
        planned = PlanSettings(
            endpoint_name=self.batch.name,
            source=InputSource(location=f"{self.batch.root}/in/"),
            outputs=f"{self.batch.root}/out",
            owner="owner",
            target_model="{model}.tar.gz",
            writer=writer,
            restart=self.race.restart,
            check_models=False,
        )
        return await run_batch(CONNECTION, given, planned, context=NO_RUN, pages=[])

    def process(self, writer: StateWriter, stop: Stop) -> asyncio.Task[BatchOutcome]:
        """Start a try that stops at a request."""
        token = _STOP.set(stop)
        try:
            return asyncio.create_task(self.run(writer))
        finally:
            _STOP.reset(token)

    def check(self, outcome: BatchOutcome, text: str, *, failed: int = 0) -> None:
        """Check that the objects in S3 agree with the later try's outcome."""
        outputs = (self.batch.output("a", "x.csv"), self.batch.output("b", "y.csv"))
        assert outputs == (f"a/{text}1\na/{text}2\n".encode(), f"b/{text}3\n".encode())
        assert (self.batch.errors("a", "x.csv"), self.batch.errors("b", "y.csv")) == ([], [])
        summary = outcome.summary
        assert (summary["inputs"] + summary["inputs_carried"], summary["failed"]) == (2, failed)
        assert summary["shards_missing"] == 0
        report = json.loads(self.batch.account.read(f"{self.batch.root}/out/report.json"))
        assert {name: report[name] for name in summary} == summary


async def raced(batch: Batch, stops: tuple[int, int], first: str) -> tuple[bool, int]:
    """Stop the orphan and the later try, then let first the orphan and then the later try run to its end.

    :param first: text of the inputs when the orphan begins
    :return: whether the orphan reached the request where it stops, and how often the later try invoked a model
    """
    race, at_orphan, at_later = batch.race, *map(Stop, stops)
    batch.put("before" if race.before else first)
    if race.before is not None:
        await batch.run(race.before)
        batch.put(first)
    orphan = batch.process(race.orphan, at_orphan)
    was_stopped = await at_orphan.reached(orphan)
    second = "later" if race.rewritten else first
    if race.rewritten:
        batch.put(second)
    later = batch.process(race.later, at_later)
    await at_later.reached(later)
    at_orphan.gone_on.set()
    with suppress(SageMakerInferenceError):
        await orphan
    at_later.gone_on.set()
    if race.rewritten:
        batch.check(await later, second)
    else:
        await later  # the orphan, too, may have failed the inputs that contain "bad"
    retry = replace(race.later, task_try=replace(race.later.task_try, number=race.later.task_try.number + 1))
    before = len(batch.batch.invocations())
    batch.check(await batch.run(retry), second)
    return was_stopped, len(batch.batch.invocations()) - before


@pytest.mark.parametrize("name", RACES)
def test_the_later_try_succeeds_for_every_stop_of_the_earlier_one(batch: MultiModel, name: str) -> None:
    """Both tries are stopped: half of the later tries during their work, half after it."""
    chance = random.Random(f"{SEED} {name}")  # noqa: S311 - where to stop
    first = "bad" if RACES[name].rewritten else "good"  # the orphan has rows of errors

    async def everywhere() -> int:
        for orphan_stop in range(chance.randrange(STEP), LONGEST, STEP):
            later_stop = chance.choice((chance.randrange(40), LONGEST))
            tries = Batch(batch, RACES[name], str(orphan_stop))
            stopped, invoked = await raced(tries, (orphan_stop, later_stop), first)
            assert invoked == 0, f"{orphan_stop}, {later_stop}: a retry invoked finished records again"
            if not stopped:
                return orphan_stop
        raise AssertionError("it never ends")

    assert asyncio.run(everywhere()) > 15
