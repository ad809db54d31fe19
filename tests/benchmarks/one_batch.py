"""A batch as the benchmarks need it: its inputs, its settings, and its wait without the batch itself."""

from __future__ import annotations

import time

from airflow_sm_plugin.async_inference.batch.ledger import Ledger
from airflow_sm_plugin.async_inference.batch.round import RequestTemplate, RoundNames, RoundWatch
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.locations import LocationPattern, shards_of
from airflow_sm_plugin.async_inference.watch import AwaitedResults
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.core.number_sets import below

BUCKET = "bench"
ENDPOINT = "bench"
CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")
_SECONDS = 22_500.0


def input_keys(count: int, prefix: str) -> list[str]:
    """Return the keys of so many inputs."""
    return [f"{prefix}day={number % 28:02}/{number:07}.csv" for number in range(count)]


def batch_settings(prefix: str, owner: str) -> BatchSettings:
    """Return the settings of a batch over all inputs below a prefix that no rate slows."""
    return BatchSettings(
        template=RequestTemplate(endpoint_name=ENDPOINT, content_type="text/csv"),
        source=InputSource(location=f"s3://{BUCKET}/{prefix}"),
        ledger_prefix=f"s3://{BUCKET}/ledgers",
        owner=owner,
        run="a run",
        max_rate=100_000,
    )


def watch_over(count: int, root: str) -> AwaitedResults:
    """Make the watch of a batch of ``count`` inputs.

    :param root: what begins its names
    """
    now, everything = time.time(), below(count)
    submitted = dict.fromkeys(range(shards_of(count)), now)
    ledger = Ledger(count, intended=everything, accepted=everything, submitted=submitted, last_at=now)
    pattern = LocationPattern.guessed(f"s3://{BUCKET}/outputs", f"s3://{BUCKET}/failures")
    return RoundWatch.of(ledger, RoundNames(root, 1), pattern=pattern, seconds=_SECONDS).watch


def output_keys(watch: AwaitedResults) -> list[str]:
    """Return the keys of all outputs, in the inputs' order."""
    return [
        folder.output(position).removeprefix(f"s3://{BUCKET}/")
        for folder in watch.folders
        for position in range(folder.names.count)
    ]


def failure_key(output_key: str) -> str:
    """Return the key of the failure object that would come instead of an output."""
    return f"failures/{output_key.removeprefix('outputs/')}"
