"""The cost of a piece of client code: calls, CPU of this process, and how long it kept the event loop to itself.

CPU is what a busy machine changes least; wall time is shown beside it where it matters.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from tests.stubs.aws import StubClient

_T = TypeVar("_T")

LIST_DOLLARS = 0.005 / 1_000
"""S3 Standard's list price in us-east-1: PUT, COPY, POST and LIST."""

GET_DOLLARS = 0.0004 / 1_000
"""GET, HEAD and all others."""


class TimedLoop(asyncio.SelectorEventLoop):
    """An event loop that knows its longest round of callbacks, in CPU seconds of its thread: waiting does not count."""

    longest_callback = 0.0

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]  # private, so no stub has it; nothing else is as exact
        self.longest_callback = max(self.longest_callback, time.thread_time() - began)


def run_timed(work: Coroutine[object, object, _T]) -> _T:
    """Run a coroutine in a :class:`TimedLoop`."""
    with asyncio.Runner(loop_factory=TimedLoop) as runner:
        return runner.run(work)


@dataclass(frozen=True)
class Cost:
    """The cost of one measured thing.

    :param cpu: seconds, of all threads of this process
    :param wall: seconds
    :param longest_callback: CPU seconds; None where no :class:`TimedLoop` ran
    """

    cpu: float
    wall: float
    calls: Counter[str] = field(default_factory=Counter)
    longest_callback: float | None = None

    @property
    def dollars(self) -> float:
        """S3's price of the calls."""
        return price(self.calls)

    def times(self, factor: int) -> Cost:
        """Return the cost of so many times as much; the longest callback is no sum."""
        calls = Counter({kind: count * factor for kind, count in self.calls.items()})
        return Cost(self.cpu * factor, self.wall * factor, calls)


def price(calls: Counter[str]) -> float:
    """Return what S3 asks for these calls, in dollars."""
    dear = calls["list"] + calls["put"]
    return dear * LIST_DOLLARS + (calls["head"] + calls["get"]) * GET_DOLLARS


def cost_of(stub: StubClient, work: Callable[[], object]) -> Cost:
    """Do blocking work and return its cost."""
    stub.take_calls()
    _leave_the_rest_alone()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu, wall, stub.take_calls())


async def cost_of_async(stub: StubClient, work: Callable[[], Awaitable[_T]]) -> tuple[Cost, _T]:
    """Do work in a :class:`TimedLoop` and return its cost and its result."""
    loop = cast("TimedLoop", asyncio.get_running_loop())
    stub.take_calls()
    _leave_the_rest_alone()
    await asyncio.sleep(0)  # taking the calls is no part of the first callback
    loop.longest_callback = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    result = await work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await asyncio.sleep(0)
    longest = loop.longest_callback
    return Cost(cpu, wall, stub.take_calls(), longest), result


def _leave_the_rest_alone() -> None:
    """Keep the garbage collector to what is measured: going through all of Airflow and pytest takes it 200 ms."""
    gc.collect()
    gc.freeze()


def mean(costs: Sequence[Cost]) -> Cost:
    """Return the mean of costs, calls rounded; the longest callback."""
    calls = sum((cost.calls for cost in costs), Counter[str]())
    return Cost(
        sum(cost.cpu for cost in costs) / len(costs),
        sum(cost.wall for cost in costs) / len(costs),
        Counter({kind: round(count / len(costs)) for kind, count in calls.items()}),
        max((cost.longest_callback for cost in costs if cost.longest_callback is not None), default=None),
    )
