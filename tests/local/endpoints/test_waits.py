"""Waits that last as long as the settings say, also when these are changed meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.account.state import Account, Region
from airflow_sm_plugin.local.endpoints import deployments
from airflow_sm_plugin.local.endpoints.guardrails import DeploymentStage

HOUR = 3600.0


@pytest.fixture
def region() -> Iterator[Region]:
    """A region without a service; whoever still waits at the test's end goes on."""
    nothing = cast("Any", None)
    region = Region("us-east-1", Account(nothing, Settings(), None))
    yield region
    region.closed.set()


class Asked:
    """Seconds that a test changes; ``often`` is set once they were asked for a second time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.often = threading.Event()
        self._times = 0

    def __call__(self) -> float:
        self._times += 1
        if self._times > 1:
            self.often.set()
        return self.seconds


def test_a_wait_lasts_as_long_as_it_is_set(region: Region) -> None:
    began = time.monotonic()
    region.wait(lambda: 0.2)
    assert time.monotonic() - began >= 0.2
    region.wait(lambda: HOUR, since=began - HOUR)


def test_who_waits_goes_on_when_the_setting_is_lowered(region: Region) -> None:
    asked = Asked(HOUR)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(region.wait, asked)
        assert asked.often.wait(600)
        assert not waiting.done()
        asked.seconds = 0
        waiting.result(600)


def test_who_waits_goes_on_when_the_region_closes(region: Region) -> None:
    asked = Asked(HOUR)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(region.wait, asked)
        assert asked.often.wait(600)
        region.closed.set()
        waiting.result(600)


class Limit:
    """Settings of which only one is asked for."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    @property
    def deployment_wait_limit_seconds(self) -> float:
        return self._asked()


@pytest.mark.parametrize("alarms", [[], ["errors"]])
def test_a_stage_of_a_deployment_ends_when_the_limit_is_lowered(
    region: Region, monkeypatch: pytest.MonkeyPatch, alarms: list[str]
) -> None:
    monkeypatch.setattr(deployments, "_in_alarm", lambda *_: [])
    asked = Asked(HOUR)
    region.settings = cast("Settings", Limit(asked))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(deployments._wait_out, region, DeploymentStage("Baking", 0.2, HOUR), alarms)
        assert asked.often.wait(600)
        asked.seconds = 0
        waiting.result(600)
