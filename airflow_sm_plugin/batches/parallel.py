"""Run many coroutines concurrently, but only a limited number of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Start = Callable[[Callable[[], Coroutine[Any, Any, None]]], Awaitable[None]]


async def side_by_side(
    do: Callable[[_Item], Awaitable[_Result]], items: Iterable[_Item], *, at_once: int
) -> list[_Result]:
    """Return the results in the order of the items. The first failure is raised, and the other calls are cancelled."""
    slots = asyncio.Semaphore(at_once)

    async def in_slot(item: _Item) -> _Result:
        async with slots:
            return await do(item)

    tasks = [asyncio.create_task(in_slot(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


@asynccontextmanager
async def bounded_tasks(*, at_once: int) -> AsyncIterator[_Start]:
    """Yield a function that starts a task as soon as fewer than *at_once* run. The block ends when all have ended.

    The first failure is raised by a later start, or at the block's end; tasks that still run are cancelled then.
    """
    running: set[asyncio.Task[None]] = set()

    async def wait() -> None:
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        running.difference_update(ended)
        for task in ended:
            task.result()

    async def start(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while len(running) >= at_once:
            await wait()
        running.add(asyncio.create_task(work()))

    try:
        yield start
        while running:
            await wait()
    finally:
        await _cancel(running)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
