"""Do one shard as a process that a test may kill: ``python -m tests.batch.killed_shard <endpoint> <plan> …``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from airflow_sm_plugin.batch.engine_settings import EngineSettings
from airflow_sm_plugin.batch.shard_run import ShardSettings, run_shard
from airflow_sm_plugin.core.payloads import SplitOptions
from airflow_sm_plugin.core.state_writer import StateWriter
from airflow_sm_plugin.core.task_try import TaskTry
from airflow_sm_plugin.exceptions import FencedOff
from airflow_sm_plugin.hooks.connection import AwsConnection

READY = "ready"
FINISHED = "finished"
FENCED_OFF = "fenced off"


def main() -> None:
    """Say that it is ready, wait for a line, do the shard, say how it ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("plan")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--records", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    settings = ShardSettings(
        plan_location=given.plan,
        shard=0,
        engine=EngineSettings(
            endpoint_name=given.endpoint,
            content_type="text/csv",
            accept="text/csv",
            split=SplitOptions(
                batch_strategy="MultiRecord" if given.records > 1 else "SingleRecord",
                max_records=given.records if given.records > 1 else None,
            ),
            max_concurrent_transforms=given.at_once,
            checkpoint_seconds=0.2,
        ),
        writer=StateWriter(TaskTry(100.0, 1), "1"),
    )
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        asyncio.run(run_shard(AwsConnection(aws_conn_id=None, region_name="us-east-1"), settings))
    except FencedOff:
        sys.stdout.write(f"{FENCED_OFF}\n")
    else:
        sys.stdout.write(f"{FINISHED}\n")


if __name__ == "__main__":
    main()
