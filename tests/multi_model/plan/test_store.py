"""The choice of a batch's current plan."""

from __future__ import annotations

import asyncio

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.multi_model.plan.store import PlanStore
from airflow_sm_plugin.multi_model.state.folder import MultiModelFolder
from tests.support import Account, unique


def test_of_two_planners_that_read_the_same_entry_the_first_chooses(account: Account) -> None:
    async def use() -> None:
        folder = MultiModelFolder(f"s3://{account.bucket}/{unique('plans')}")
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            store = PlanStore(s3, folder)
            before = None
            for number in range(2):  # the first entry, and an entry after another
                first, second = folder.plan(number, "first"), folder.plan(number, "second")
                assert await store.choose(first, StateWriter(run="first"), after=before)
                assert not await store.choose(second, StateWriter(run="second"), after=before)
                before = await store.latest()
                assert before is not None
                assert before.plan_location == first.location

    asyncio.run(use())
