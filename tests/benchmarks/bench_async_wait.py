"""The cost of waiting for asynchronous results, beside one HEAD per key and the Amazon provider's ways: ``make bench``.

All of them ask the same server in one run. CPU is the client's; the server is a process of its own. The figures are of
one run on one machine; quote the ratios.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import boto3
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from botocore.exceptions import ClientError

from airflow_sm_plugin.async_inference.watch import AwaitedResults
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.aws.s3.objects import S3Objects
from tests.benchmarks.client_cost import (
    GET_DOLLARS,
    Cost,
    cost_of,
    cost_of_async,
    mean,
    price,
    run_timed,
)
from tests.benchmarks.measured import client_libraries
from tests.benchmarks.one_batch import BUCKET, CONNECTION, failure_key, output_keys, watch_over
from tests.benchmarks.report import Report, table
from tests.stubs.aws import StubClient
from tests.support import context_for

SIZES = (1_000, 10_000, 100_000)
ONE_BY_ONE = 1_000
"""What asks for every key by itself is measured with so many; with more it costs in proportion."""

LATER_POLLS = 8
"""As many polls as pass between two listings of the failure objects while no results come."""

POLLS = 30
POLL_SECONDS = 30.0
FAILING = 0.01

Keys = Sequence[str]
SITUATIONS: Mapping[str, Callable[[Keys], Keys]] = {
    "none there": lambda keys: keys[:0],
    "first half there": lambda keys: keys[: len(keys) // 2],
    "every other there": lambda keys: keys[::2],
    "all but the last": lambda keys: keys[:-1],
}


async def _ours(stub: StubClient, watch: AwaitedResults) -> list[Cost]:
    """Return the costs of a wait's first polls."""
    costs: list[Cost] = []
    async with S3Objects.open(CONNECTION) as s3:
        await s3.list_names(BUCKET, "nothing/")  # connected, and everything imported
        watcher, state, now = ResultWatcher(s3), WatchState.begin(watch), time.time()
        for number in range(1 + LATER_POLLS):
            at = now + number * POLL_SECONDS
            cost, state = await cost_of_async(stub, lambda: watcher.poll(watch, state, now=at))  # noqa: B023 - called at once
            costs.append(cost)
    return costs


def _by_head(stub: StubClient, keys: Keys) -> Cost:
    client = boto3.client("s3", region_name="us-east-1")

    def poll() -> None:
        for key in keys:
            with contextlib.suppress(ClientError):
                client.head_object(Bucket=BUCKET, Key=key)

    client.list_objects_v2(Bucket=BUCKET, Prefix="nothing/")
    return cost_of(stub, poll)


def _by_sensor(stub: StubClient, keys: Keys) -> Cost:
    sensor = S3KeySensor(
        task_id="wait",
        bucket_key=[f"s3://{BUCKET}/{key}" for key in keys],
        aws_conn_id=None,
        deferrable=False,
    )
    sensor.hook.check_for_key("nothing", BUCKET)
    return cost_of(stub, lambda: sensor.poke(context_for()))


async def _by_trigger(stub: StubClient, keys: Keys) -> Cost:
    """Return the cost of what ``S3KeyTrigger.run`` does between two pauses."""
    hook = S3Hook(aws_conn_id=None)
    async with await hook.get_async_conn() as client:
        with contextlib.redirect_stdout(io.StringIO()):  # provider 9.39 prints a line for every key
            await hook.check_key_async(client, BUCKET, ["nothing"], wildcard_match=False)
            cost, _ = await cost_of_async(
                stub, lambda: hook.check_key_async(client, BUCKET, list(keys), wildcard_match=False)
            )
    return cost


def _row(count: int, outputs: str, way: str, first: Cost, later: Cost | None = None) -> list[str]:
    """Return a line of the table; what remembers nothing has no other polls than the first."""
    both = [cost for cost in (first, later) if cost]
    callbacks = [cost.longest_callback for cost in both if cost.longest_callback is not None]
    return [
        f"{count:,}",
        outputs,
        way,
        _calls(first.calls),
        _calls(later.calls) if later else "the same",
        ", ".join(f"{cost.cpu * 1_000:,.1f}" for cost in both),
        f"{max(callbacks) * 1_000:.1f}" if callbacks else "",
        ", ".join(f"{cost.dollars * 1e6:,.1f}" for cost in both),
    ]


def _calls(calls: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind.upper()}" for kind, count in sorted(calls.items()) if count) or "none"


def _polls_of(stub: StubClient, count: int, situation: str) -> list[list[str]]:
    watch = watch_over(count, f"{situation.replace(' ', '-')}-{count}")
    keys = output_keys(watch)
    stub.fill(list(SITUATIONS[situation](keys)))
    first, *later = run_timed(_ours(stub, watch))
    rows = [_row(count, situation, "ours", first, mean(later))]
    some = keys[:ONE_BY_ONE]
    if count == ONE_BY_ONE:
        rows.append(_row(count, situation, "HeadObject for each", _by_head(stub, some)))
        rows.append(_row(count, situation, "`S3KeySensor`, a poke", _by_sensor(stub, some)))
        rows.append(_row(count, situation, "`S3KeyTrigger`, a poll", run_timed(_by_trigger(stub, some))))
    elif situation == "none there":
        heads = _by_head(stub, some).times(count // ONE_BY_ONE)
        rows.append(_row(count, "any", f"HeadObject for each, scaled from {ONE_BY_ONE:,}", heads))
    return rows


def test_a_poll(stub: StubClient, report: Report) -> None:
    """Poll outstanding results: ours, HEAD by HEAD, and as the provider's sensor does."""
    rows = [row for count in SIZES for situation in SITUATIONS for row in _polls_of(stub, count, situation)]
    head = (
        *("results", "outputs", "way", "calls, first poll", "calls, later poll", "CPU ms, first and later"),
        *("longest callback, CPU ms", "price, millionths of a dollar"),
    )
    report.clients.add(run_timed(client_libraries()))
    report.show(table(head, rows))
    assert all("none" not in row[3:5] for row in rows)


@dataclass
class _Run:
    """A whole wait, poll after poll.

    :param shards: unfinished ones, summed over the polls
    :param missing: keys not found yet, summed over the polls
    """

    costs: list[Cost]
    shards: int = 0
    missing: int = 0

    def cells(self, order: str, count: int) -> list[str]:
        calls = _sum(self.costs)
        polls, dollars = len(self.costs), price(calls)
        pages = calls["list"]
        return [
            order,
            f"{polls}",
            _calls(calls),
            f"{pages / self.shards:.2f} (<= 1.05)",
            f"{sum(cost.cpu for cost in self.costs):.2f}",
            f"{sum(cost.cpu for cost in self.costs) * 1_000 / pages:.1f} (<= 5)",
            f"{max(cost.longest_callback or 0 for cost in self.costs) * 1_000:.1f} (<= 10)",
            f"{dollars:.4f}",
            f"{dollars / (self.missing * GET_DOLLARS):.1%} (<= 1 %)",
            f"{dollars / (polls * count * GET_DOLLARS):.1%}",
        ]


def _arrivals(count: int, order: str) -> list[int]:
    """Return after which poll each result comes."""
    dice = random.Random(4)  # noqa: S311 - which result comes when
    if order == "in any order":
        return [dice.randrange(POLLS) for _ in range(count)]
    return [
        min(POLLS - 1, max(0, int(number * POLLS / count + dice.gauss(0, 0.5)))) for number in range(count)
    ]


async def _run(stub: StubClient, count: int, order: str) -> _Run:
    watch = watch_over(count, order.replace(" ", "-"))
    keys, dice = output_keys(watch), random.Random(5)  # noqa: S311 - which result is a failure
    batches: list[list[str]] = [[] for _ in range(POLLS)]
    for key, poll in zip(keys, _arrivals(count, order), strict=True):
        batches[poll].append(failure_key(key) if dice.random() < FAILING else key)
    run, state, now = _Run([]), WatchState.begin(watch), time.time()
    async with S3Objects.open(CONNECTION) as s3:
        watcher = ResultWatcher(s3)
        await s3.list_names(BUCKET, "nothing/")
        while state.result(watch, now=now) is None:
            run.shards += sum(
                bool(one.pending(folder)) for folder, one in zip(watch.folders, state.folders, strict=True)
            )
            run.missing += state.counts(watch).pending
            cost, state = await cost_of_async(stub, lambda: watcher.poll(watch, state, now=now))  # noqa: B023 - called at once
            run.costs.append(cost)
            now += POLL_SECONDS
            if batches:
                await asyncio.to_thread(stub.fill, batches.pop(0))
    return run


def test_a_run(stub: StubClient, report: Report) -> None:
    """Wait for a whole batch whose results come over thirty polls, one in a hundred as a failure."""
    count = SIZES[-1]
    orders = ("about in order", "in any order")
    runs = {order: run_timed(_run(stub, count, order)) for order in orders}
    head = (
        *("results come", "polls", "calls", "pages per poll and unfinished shard", "CPU s", "CPU ms a page"),
        *("longest callback, CPU ms", "$", "of a HEAD per missing result", "of a HEAD per result"),
    )
    report.clients.add(run_timed(client_libraries()))
    report.show(table(head, [run.cells(order, count) for order, run in runs.items()]))
    assert all(len(run.costs) >= POLLS for run in runs.values())


async def _polls_until_seen(stub: StubClient, count: int) -> list[Cost]:
    watch = watch_over(count, "all-at-once")
    state, now, costs = WatchState.begin(watch), time.time(), []
    async with S3Objects.open(CONNECTION) as s3:
        watcher = ResultWatcher(s3)
        state = await watcher.poll(watch, state, now=now)
        await asyncio.to_thread(stub.fill, output_keys(watch))
        while state.result(watch, now=now) is None:
            now += POLL_SECONDS
            cost, state = await cost_of_async(stub, lambda: watcher.poll(watch, state, now=now))  # noqa: B023 - called at once
            costs.append(cost)
    return costs


def test_all_between_two_polls(stub: StubClient, report: Report) -> None:
    """Have every output come after a poll that saw none, and count the polls until all are seen."""
    costs = {count: run_timed(_polls_until_seen(stub, count)) for count in SIZES}
    rows = [[f"{count:,}", f"{len(some)}", _calls(_sum(some))] for count, some in costs.items()]
    report.clients.add(run_timed(client_libraries()))
    report.show(table(("results, all between two polls", "polls until seen", "calls"), rows))
    assert all(costs.values())


def _sum(costs: Sequence[Cost]) -> Counter[str]:
    return sum((cost.calls for cost in costs), Counter[str]())
