"""Choose who carries S3's requests: the fast transport, or botocore's own client in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airflow_sm_plugin.aws.access import ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.aws.http import SignedHttp
from airflow_sm_plugin.aws.s3.buckets import BucketAddresses, BucketRequests
from airflow_sm_plugin.aws.s3.calls import S3Calls
from airflow_sm_plugin.aws.s3.over_botocore import BotocoreS3
from airflow_sm_plugin.aws.s3.over_http import HttpS3


@asynccontextmanager
async def s3_calls(connection: AwsConnection, *, max_connections: int | None) -> AsyncIterator[S3Calls]:
    """Open connections to S3 for the block.

    :param max_connections: how many at once; None is what the botocore configuration says
    :raises SageMakerInferenceError: no credentials, no region
    """
    with translated("s3"):
        hook = UnrepeatedHook(client_type="s3", **connection.hook_arguments())
        access = await ServiceAccess.connect(hook)
        wire = await asyncio.to_thread(access.wire, max_connections=max_connections)
    threads = BotocoreCalls(access.client)
    try:
        async with SignedHttp(access, wire, is_s3=True) as http:
            requests = BucketRequests(access, http, BucketAddresses(access, threads))
            yield HttpS3(access, requests, BotocoreS3(threads))
    finally:
        threads.close()
