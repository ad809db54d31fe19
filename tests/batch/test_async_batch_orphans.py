"""What an earlier try left behind, stopped before any of its requests to S3, takes nothing from the live try."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace

import pytest

from airflow_sm_plugin.batch.async_batch import AsyncBatch, Finished
from airflow_sm_plugin.batch.batch_settings import BatchSettings
from airflow_sm_plugin.core.task_try import TaskTry
from airflow_sm_plugin.exceptions import FencedOff
from tests.batch.async_batches import CONNECTION, ECHO_POLL, rows_at, settings_for, upload_inputs
from tests.batch.stopped_s3 import SharedS3, Stop
from tests.support import ECHO, Account, unique

SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "3"))
EARLIER = {"try": TaskTry(100.0, 1), "deleted run": TaskTry(50.0, 4)}
LIVE = TaskTry(100.0, 2)
"""For the deleted run's: the second try of the run that was made again."""


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(ECHO, asynchronous=True)


class Process:
    """One try at work, which can be stopped."""

    def __init__(
        self, shared: SharedS3, settings: BatchSettings, task_try: TaskTry, stop_at: int | None
    ) -> None:
        self.stop = Stop(stop_at)
        settings = replace(settings, task_try=task_try)
        s3 = shared.of(self.stop)
        self._batch = AsyncBatch(CONNECTION, s3, settings, token=unique("t"), plan_at_hand=False)
        self.task: asyncio.Task[None] = asyncio.create_task(self._run())
        self.done: Finished | None = None

    async def _run(self) -> None:
        self.done = await self._batch.finish(poll_interval=ECHO_POLL)

    async def stopped(self) -> bool:
        return await self.stop.reached(self.task)

    async def ended(self) -> BaseException | None:
        """Let it go on to its end."""
        self.stop.gone_on.set()
        await asyncio.wait({self.task})
        return self.task.exception()


def new_batch(account: Account, endpoint: str) -> BatchSettings:
    return settings_for(account, endpoint, upload_inputs(account, ["a", "b"]), wait_seconds=2)


def check(account: Account, done: Finished | None) -> None:
    assert done is not None
    rows = rows_at(account, done.report.rows_location)
    assert [account.read(row.output_location or "") for row in rows] == [b"a", b"b"]


async def meet(
    account: Account, settings: BatchSettings, earlier: TaskTry, orphan_at: int, live_at: int | None
) -> bool:
    """Stop the orphan before a request, the live try before one or at its end, and let the orphan go on first.

    :return: False when the orphan ended before it came so far
    """
    async with SharedS3.open() as shared:
        orphan = Process(shared, settings, earlier, orphan_at)
        if not await orphan.stopped():
            assert await orphan.ended() is None
            return False
        live = Process(shared, settings, LIVE, live_at)
        if not await live.stopped():
            check(account, live.done)
        error = await orphan.ended()
        assert isinstance(error, FencedOff | None), error
        assert await live.ended() is None
        check(account, live.done)
        again = Process(shared, settings, LIVE, None)
        assert await again.ended() is None
        assert again.done == live.done
        return True


@pytest.mark.timeout(600)
@pytest.mark.parametrize("earlier", EARLIER)
def test_an_orphan_stopped_anywhere_takes_nothing_from_the_live_try(
    account: Account, endpoint: str, earlier: str
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - moments of a test
    for orphan_at in range(100):
        live_at = chance.choice([None, chance.randrange(25)])
        if not asyncio.run(meet(account, new_batch(account, endpoint), EARLIER[earlier], orphan_at, live_at)):
            assert orphan_at > 10
            return
