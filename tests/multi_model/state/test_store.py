"""Only the process that owns the shard deletes its data objects."""

from __future__ import annotations

import asyncio

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.multi_model.state.folder import ShardFolder
from airflow_sm_plugin.multi_model.state.store import sweep
from tests.support import Account, unique


def test_only_the_owner_deletes_data_objects(account: Account) -> None:
    async def use() -> None:
        folder = ShardFolder(f"s3://{account.bucket}/{unique('shard')}")
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            orphan = await Claim.taken(s3, folder, token="orphan", task_try=TaskTry())
            owner = await Claim.taken(s3, folder, token="owner", task_try=TaskTry())
            await s3.write(folder.data("0"), b"the owner's", content_type="text/plain")
            await sweep(s3, folder, orphan)
            assert await s3.read(folder.data("0")) == b"the owner's"
            await sweep(s3, folder, owner)
            assert not await names_below(s3, folder.data(""))

    asyncio.run(use())
