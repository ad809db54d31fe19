"""Who carries InvokeEndpoint, and on which event loop, as a test wants it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar
from unittest import mock

import pytest

from tests.stubs.recorder import TRANSPORTS

CARRIERS = ("httptools", "aiohttp", "botocore")
FAST_CARRIERS = CARRIERS[:2]
LOOPS = ("asyncio", "uvloop")

AIOHTTPS_OWN = "ConnectionError('Connection lost')"
"""aiohttp up to 3.13 leaves such a future behind when a connection breaks while a body is being sent."""

_Result = TypeVar("_Result")


@contextmanager
def carried_by(carrier: str) -> Iterator[Mapping[str, Any]]:
    """Have a carrier chosen within the block; yield the botocore configuration that it takes."""
    if carrier == "httptools":
        pytest.importorskip("httptools")
    hidden = {"httptools": None, "airflow_sm_plugin.invoke.http_pool": None} if carrier == "aiohttp" else {}
    with mock.patch.dict(sys.modules, hidden):
        yield TRANSPORTS["botocore" if carrier == "botocore" else "fast"]


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        factory: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
        return factory
    return asyncio.new_event_loop


def run_on(loop: Callable[[], asyncio.AbstractEventLoop], work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run on a new loop. What the loop has to complain about fails the test, but for old versions of aiohttp."""
    complaints: list[str] = []

    async def watched() -> _Result:
        asyncio.get_running_loop().set_exception_handler(lambda _, found: complaints.append(str(found)))
        return await work

    with asyncio.Runner(loop_factory=loop) as runner:
        result = runner.run(watched())
    if tuple(map(int, version("aiohttp").split(".")[:2])) < (3, 14):
        complaints = [found for found in complaints if AIOHTTPS_OWN not in found]
    assert not complaints, complaints
    return result
