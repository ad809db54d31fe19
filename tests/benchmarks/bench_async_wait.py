"""What waiting for asynchronous results costs, beside one HEAD per key and the Amazon provider's ways: ``make bench``.

All of them ask the same server in one run. CPU is the client's; the server is a process of its own. Medians or means
of a few looks on one machine: quote the ratios.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import boto3
import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from botocore.exceptions import ClientError

from airflow_sm_plugin.core.async_ledger import Ledger
from airflow_sm_plugin.core.async_names import LocationPattern, shards_of
from airflow_sm_plugin.core.async_round import RoundNames, RoundWatch
from airflow_sm_plugin.core.async_watch import Watch
from airflow_sm_plugin.core.number_sets import below
from airflow_sm_plugin.core.watch_state import WatchState
from airflow_sm_plugin.hooks.async_results import ResultWatcher
from airflow_sm_plugin.hooks.connection import AwsConnection
from airflow_sm_plugin.hooks.s3_objects import S3Objects
from tests.benchmarks.client_cost import GET_DOLLARS, Cost, cost_of, cost_of_async, mean, price, run_timed, table
from tests.benchmarks.stub_aws import StubClient
from tests.support import context_for

BUCKET = "bench"
CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")
SIZES = (1_000, 10_000, 100_000)
MEASURED_BY_HEAD = 1_000
"""What asks for each key by itself is measured with so many, and scaled: its cost is in proportion."""

LATER_LOOKS = 8
"""A whole rotation over the shards on which nothing has appeared yet."""

LOOKS_OF_A_RUN = 30
LOOK_SECONDS = 30.0
FAILING = 0.01


def watch_over(count: int, root: str) -> Watch:
    """Return what the wait for a whole batch of ``count`` inputs looks at."""
    everything = below(count)
    submitted = {shard: time.time() for shard in range(shards_of(count))}
    ledger = Ledger(count, intended=everything, accepted=everything, submitted=submitted, last_at=time.time())
    pattern = LocationPattern.guessed(f"s3://{BUCKET}/outputs", f"s3://{BUCKET}/failures")
    return RoundWatch.of(ledger, RoundNames(root, 1), pattern=pattern, seconds=22_500).watch


def output_keys(watch: Watch) -> list[str]:
    """Return the keys of all outputs, in the inputs' order."""
    bucket = f"s3://{BUCKET}/"
    return [
        shelf.output(position).removeprefix(bucket) for shelf in watch.shelves for position in range(shelf.names.count)
    ]


def failure_keys(watch: Watch) -> list[str]:
    """Return the keys of all failure objects, in the inputs' order."""
    return [f"failures/{key.removeprefix('outputs/')}" for key in output_keys(watch)]


@dataclass(frozen=True)
class Situation:
    """Which outputs are there."""

    name: str

    def there(self, keys: list[str]) -> list[str]:
        """Return the keys that exist."""
        if self.name == "none there":
            return []
        if self.name == "every other one there":
            return keys[::2]
        return keys[: len(keys) // 2] if self.name == "the first half there" else keys[:-1]


SITUATIONS = (
    Situation("none there"),
    Situation("the first half there"),
    Situation("every other one there"),
    Situation("all but the last there"),
)


@dataclass(frozen=True)
class Row:
    """One line of the first table."""

    count: int
    situation: str
    way: str
    first: Cost
    later: Cost
    scaled: bool = False

    def cells(self) -> list[str]:
        """Return it as text."""
        turn = f"{self.later.longest_turn * 1000:.1f}" if self.later.longest_turn else "no loop"
        return [
            f"{self.count:,}",
            self.situation,
            self.way + (" (scaled)" if self.scaled else ""),
            f"{self.first.asked:,}",
            _calls(self.later.calls),
            f"{self.later.cpu * 1000:,.1f}",
            turn if self.way != WAYS[0] else f"{max(self.first.longest_turn, self.later.longest_turn) * 1000:.1f}",
            f"{self.later.dollars * 1e6:,.1f}",
        ]


WAYS = ("ours", "HeadObject per key, boto3", "`S3KeySensor`, poke", "`S3KeyTrigger`")
HEAD = (
    *("results", "outputs", "way", "calls of the first look", "calls of a later look", "CPU ms", "longest turn ms"),
    "$ per million looks" if False else "µ$ a look",
)


def _calls(calls: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind.upper()}" for kind, count in sorted(calls.items()) if count) or "none"


async def _ours(stub: StubClient, watch: Watch) -> tuple[Cost, list[Cost]]:
    async with S3Objects.open(CONNECTION) as s3:
        await s3.list_names(BUCKET, "no such prefix")  # the connection is there, and what is imported late
        watcher, now, costs = ResultWatcher(s3), time.time(), []
        state = WatchState.begin(watch)
        for look in range(1 + LATER_LOOKS):
            at = now + look * LOOK_SECONDS
            cost, state = await cost_of_async(
                stub, lambda state=state, at=at: watcher.look(watch, state, now=at)  # type: ignore[misc]
            )
            costs.append(cost)
    return costs[0], costs[1:]


def _by_head(stub: StubClient, keys: list[str]) -> Cost:
    client = boto3.client("s3", region_name="us-east-1")

    def look() -> None:
        for key in keys:
            with contextlib.suppress(ClientError):
                client.head_object(Bucket=BUCKET, Key=key)

    client.head_bucket if False else look
    return cost_of(stub, look)
