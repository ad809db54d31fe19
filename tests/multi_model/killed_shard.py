"""A shard in a process of its own, which a test kills, or stops and resumes later."""

from __future__ import annotations

import asyncio
import sys

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import FencedOff
from airflow_sm_plugin.multi_model.shard import ShardSettings, run_shard

FINISHED = 0
FENCED_OFF = 3
"""Exit codes: any other means that the shard failed."""


def do_shard(settings: ShardSettings) -> None:
    """Run the shard, and end the process with its exit code."""
    try:
        asyncio.run(run_shard(AwsConnection(aws_conn_id=None, region_name="us-east-1"), settings))
    except FencedOff:
        sys.exit(FENCED_OFF)
