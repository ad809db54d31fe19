"""A shard that is taken over from a process which is stopped before it writes an output, and resumed afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.exceptions import FencedOff
from airflow_sm_plugin.multi_model.shard import FinishedShard, run_shard
from tests.multi_model.multi_models import CONNECTION, MultiModel
from tests.support import Account

RECORDS = 60


@pytest.fixture
def batch(account: Account) -> MultiModel:
    return MultiModel.deployed(account, ["a"])


def test_an_orphans_worse_output_never_replaces_the_retrys(
    batch: MultiModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orphan has rows of errors for records that succeed in the retry."""
    batch.put("a", "x.csv", "".join(f"r{number}\n" for number in range(RECORDS)))
    plan = batch.plan()
    fails = {"operation": "InvokeEndpoint", "fault": "error", "status": 500, "probability": 0.3}
    write = S3Objects.write

    async def both() -> FinishedShard:
        stopped, goes_on = asyncio.Event(), asyncio.Event()

        async def stopping(self: S3Objects, location: str, body: bytes, **how: Any) -> None:  # noqa: ANN401 - as write()
            if location.endswith(".out") and not stopped.is_set():
                stopped.set()
                await goes_on.wait()
            await write(self, location, body, **how)

        monkeypatch.setattr(S3Objects, "write", stopping)
        with batch.faults(fails):
            settings = batch.settings(plan, attempts=1, payload_seconds=0.001, checkpoint_seconds=0.1)
            orphan = asyncio.create_task(run_shard(CONNECTION, settings))
            async with asyncio.timeout(600):
                await stopped.wait()
        retry = await run_shard(CONNECTION, batch.settings(plan, checkpoint_seconds=0.1))
        goes_on.set()
        with pytest.raises(FencedOff):
            await orphan
        return retry

    report = asyncio.run(both()).report
    assert (report.total.records, report.total.records_failed) == (RECORDS, 0)
    assert batch.output("a", "x.csv") == "".join(f"a/r{number}\n" for number in range(RECORDS)).encode()
    assert batch.errors("a", "x.csv") == []
