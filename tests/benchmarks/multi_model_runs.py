"""Run a measured program in a process of its own, and read its figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from airflow_sm_plugin.local.stack.processes import clean_environment
from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.report import Report
from tests.stubs.endpoint import StubServer, StubUse
from tests.stubs.models import EndpointSettings

ROOT = Path(__file__).parents[2]
_LONGEST = 1_100.0
AIOHTTP_ONLY = "ours, aiohttp and asyncio's loop"
"""The way of our engine where httptools and uvloop are not installed."""


@dataclass(frozen=True)
class Took:
    """The cost of one batch.

    :param cpu: seconds of the client's process
    :param wall: seconds
    :param waited: seconds that the client could run and had no core; of several threads, its main one
    :param lost: records that are not where they must be
    :param latency: seconds that the endpoint took in the mean, by its own clock
    :param stub: work of the stub's process for InvokeEndpoint
    """

    records: int
    cpu: float
    wall: float
    waited: float
    lost: int
    latency: float
    stub: StubUse

    @property
    def cpu_milliseconds(self) -> float:
        """CPU of the client, for one record."""
        return self.cpu * 1_000 / self.records

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.wall

    @property
    def client_share(self) -> str:
        """How near the client was to its own limit, and how much the machine's other work took from it."""
        return f"{self.cpu / self.wall:.0%} of a core, waited {self.waited / self.wall:.0%}"

    @property
    def stub_share(self) -> str:
        """How near the stub was to its own limit."""
        return self.stub.text(self.wall)


def setting(name: str, default: int) -> int:
    """Return a size of the benchmarks, ``MULTI_MODEL_<name>`` in the environment."""
    return int(os.environ.get(f"MULTI_MODEL_{name}", default))


def environment(server: StubServer) -> dict[str, str]:
    """Return the environment of a process that asks the stub."""
    return clean_environment(
        {
            "AIRFLOW_HOME": os.environ["AIRFLOW_HOME"],
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            **server.environment,
        }
    )


def figures_of(command: Sequence[str], server: StubServer) -> dict[str, Any]:
    """Run a module of the benchmarks and return what it printed last."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment(server),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_LONGEST,
        check=True,
    )
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


def batch(server: StubServer, way: str, job: Job, behaviour: EndpointSettings, report: Report) -> Took:
    """Do a batch one way; the outputs are compared with what they must be."""
    job.fill(server)
    server.behave(behaviour)
    server.clear()
    command = ["tests.benchmarks.batch_ways", "ours" if way == AIOHTTP_ONLY else way, job.as_json()]
    if way == AIOHTTP_ONLY:
        command.insert(0, "tests.benchmarks.without_httptools")
    earlier = server.runtime.use()
    figures = figures_of(command, server)
    use, latency = server.runtime.use().since(earlier), server.mean_latency()
    if client := figures["client"]:
        report.clients.add(f"{way}: {client}")
    return Took(job.total, figures["cpu"], figures["wall"], figures["waited"], job.lost(server), latency, use)


def median(several: Sequence[Took]) -> Took:
    """Return medians, and all that was lost."""
    return Took(
        several[0].records,
        statistics.median(each.cpu for each in several),
        statistics.median(each.wall for each in several),
        statistics.median(each.waited for each in several),
        sum(each.lost for each in several),
        statistics.median(each.latency for each in several),
        sorted((each.stub for each in several), key=lambda use: use.cpu)[len(several) // 2],
    )
