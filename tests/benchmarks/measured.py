"""The clock of a process that a benchmark measures, and the libraries with which that process speaks HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_client = ""


async def client_libraries(carrier: str = "aiohttp") -> str:
    """Name what carries the requests of the running task, and the event loop."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return f"{carrier} {version(carrier)}, {f'uvloop {version(loop)}' if loop == 'uvloop' else 'the loop of asyncio'}"


async def note_client(carrier: str) -> None:
    """Have :func:`measured` say with which libraries the running task speaks HTTP."""
    global _client  # noqa: PLW0603 - a process does one job
    _client = await client_libraries(carrier)


def _waited() -> float:
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@contextmanager
def measured() -> Iterator[None]:
    """Print, as lines of JSON, when the block began, and the seconds that it took.

    ``cpu`` is of the process, ``wall`` of the clock; ``waited`` is how long this thread could run and had no core.
    """
    sys.stdout.write(f"{json.dumps({'began': time.time()})}\n")
    sys.stdout.flush()
    cpu, wall, waited = time.process_time(), time.perf_counter(), _waited()
    yield
    figures = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "waited": _waited() - waited,
        "client": _client,
    }
    sys.stdout.write(f"{json.dumps(figures)}\n")
