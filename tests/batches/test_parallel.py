"""Side by side, in order, not too many at once; and a failure leaves nothing running."""

from __future__ import annotations

import asyncio

import pytest

from airflow_sm_plugin.batches.parallel import side_by_side


def test_results_come_in_order_and_no_more_than_the_limit_run_at_once() -> None:
    running = most = 0

    async def double(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        running -= 1
        return 2 * number

    assert asyncio.run(side_by_side(double, range(10), at_once=3)) == list(range(0, 20, 2))
    assert most == 3


def test_the_first_failure_is_raised_and_the_others_are_stopped() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        if number == 1:
            raise ValueError("from the test")
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="from the test"):
        asyncio.run(side_by_side(work, range(3), at_once=3))
    assert ended == [0, 2]
