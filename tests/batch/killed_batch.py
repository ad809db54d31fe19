"""Run one batch as a process that a test may kill: ``python -m tests.batch.killed_batch <endpoint> <inputs> …``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Mapping

from airflow_sm_plugin.batch.async_batch import AsyncBatch
from airflow_sm_plugin.batch.batch_settings import BatchSettings
from airflow_sm_plugin.batch.input_listing import InputSource
from airflow_sm_plugin.core.async_round import RequestTemplate
from airflow_sm_plugin.exceptions import FencedOff
from airflow_sm_plugin.hooks.connection import AwsConnection

READY = "ready"
FINISHED = "finished"
FENCED_OFF = "fenced off"


def main() -> None:
    """Say that it is ready, wait for a line, run, say how it ended."""
    parser = argparse.ArgumentParser()
    for name in ("endpoint", "inputs", "ledger_prefix", "owner"):
        parser.add_argument(name)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--wait", type=float, default=4)
    parser.add_argument("--resend", action="store_true")
    parser.add_argument("--botocore-config", type=json.loads, default=None)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    settings = BatchSettings(
        template=RequestTemplate(endpoint_name=given.endpoint, content_type="text/plain"),
        source=InputSource(location=given.inputs),
        ledger_prefix=given.ledger_prefix,
        owner=given.owner,
        run="a run",
        attempts=6,
        max_rate=given.rate,
        resend=given.resend,
        wait_seconds=given.wait,
    )
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        asyncio.run(_finish(settings, given.botocore_config))
    except FencedOff:
        sys.stdout.write(f"{FENCED_OFF}\n")
    else:
        sys.stdout.write(f"{FINISHED}\n")


async def _finish(settings: BatchSettings, botocore_config: Mapping[str, object] | None) -> None:
    connection = AwsConnection(aws_conn_id=None, region_name="us-east-1", botocore_config=botocore_config)
    async with AsyncBatch.open(connection, settings) as batch:
        await batch.finish(poll_interval=0.2)


if __name__ == "__main__":
    main()
