"""Do the same with many things side by side, but not with all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


async def side_by_side(
    do: Callable[[_Thing], Awaitable[_Result]], things: Iterable[_Thing], *, at_once: int
) -> list[_Result]:
    """Return the results in the order of the things. When one fails, that is raised and nothing of the others goes on.

    :param at_once: how many at the same time
    """
    slots = asyncio.Semaphore(at_once)

    async def one(thing: _Thing) -> _Result:
        async with slots:
            return await do(thing)

    tasks = [asyncio.create_task(one(thing)) for thing in things]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
