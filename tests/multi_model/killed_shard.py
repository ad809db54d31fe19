"""A shard in a process of its own, which a test may kill, or stop and leave behind."""

from __future__ import annotations

import asyncio
import sys

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import FencedOff
from airflow_sm_plugin.multi_model.shard import ShardSettings, run_shard

FINISHED = 0
FENCED_OFF = 3
"""Exit codes: any other says that the shard failed."""


def do_shard(settings: ShardSettings) -> None:
    """Do the shard, and end the process with how it ended."""
    try:
        asyncio.run(run_shard(AwsConnection(aws_conn_id=None, region_name="us-east-1"), settings))
    except FencedOff:
        sys.exit(FENCED_OFF)
