"""A batch that is killed at any of its requests, several times in a row, ends in the right report all the same.

``AIRFLOW_SM_KILL_SEED`` chooses other places, ``AIRFLOW_SM_KILL_PLACES=all`` takes each of the first run's requests.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_sm_plugin.batch.async_batch import AsyncBatch, Finished
from airflow_sm_plugin.batch.batch_settings import BatchSettings
from airflow_sm_plugin.core.task_try import TaskTry
from airflow_sm_plugin.hooks.connection import AwsConnection
from tests.batch.async_batches import CONNECTION, OBEDIENT, rows_at, settings_for, upload_inputs
from tests.batch.killing_proxy import KillingProxy, killing_proxy
from tests.batch.test_async_batch_unnamed import THROUGH_BOTOCORE, older_botocore  # noqa: F401 - a fixture
from tests.support import Account

BODIES = ["a", "once b", "c"]
OUTPUTS = [b"A", b"ONCE B", b"C"]
KILLS = 3
PLACES = os.environ.get("AIRFLOW_SM_KILL_PLACES", "4")
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "7"))


@pytest.fixture
def proxy(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[KillingProxy]:
    with killing_proxy(account.url) as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL", opened.url)
        yield opened


class Batches:
    """Batches of three inputs, each of its own, through one endpoint; one input fails at its first inference."""

    def __init__(
        self, account: Account, proxy: KillingProxy, connection: AwsConnection, *, resend: bool
    ) -> None:
        self._account = account
        self._proxy = proxy
        self._connection = connection
        self._endpoint = account.deploy(OBEDIENT, asynchronous=True)
        self._resend = resend

    def new(self) -> BatchSettings:
        inputs = upload_inputs(self._account, BODIES)
        return settings_for(
            self._account,
            self._endpoint,
            inputs,
            attempts=8,
            wait_seconds=0.4,
            at_once=2,
            resend=self._resend,
        )

    def run(self, settings: BatchSettings, number: int, kill_at: int | None, *, after: bool = False) -> bool:
        """Run a try; return whether it came to its end, with every output where the report says."""

        async def finish() -> Finished:
            task_try = TaskTry(1_000.0, number)
            async with AsyncBatch.open(self._connection, replace(settings, task_try=task_try)) as batch:
                return await batch.finish(poll_interval=0.05)

        self._proxy.kill_at(kill_at, after=after)
        done = self._proxy.run(finish())
        if done is None:
            return False
        rows = rows_at(self._account, done.report.rows_location)
        assert [self._account.read(row.output_location or "") for row in rows] == OUTPUTS
        assert done.report.counts.succeeded == len(BODIES)
        return True


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["wait", "resend", "unnamed"])
def test_wherever_its_tries_are_killed_a_later_one_finishes(
    account: Account, proxy: KillingProxy, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "unnamed":
        request.getfixturevalue("older_botocore")
    connection = THROUGH_BOTOCORE if kind == "unnamed" else CONNECTION
    batches = Batches(account, proxy, connection, resend=kind == "resend")
    assert batches.run(batches.new(), 1, None)
    requests = len(proxy.asked)
    chance = random.Random(SEED)  # noqa: S311 - moments of a test
    firsts = range(requests) if PLACES == "all" else sorted(chance.sample(range(requests), int(PLACES)))
    for first in firsts:
        settings = batches.new()
        for number, place in enumerate([first, *chance.choices(range(requests), k=KILLS - 1)], start=1):
            batches.run(settings, number, place, after=chance.random() < 0.5)
        assert batches.run(settings, KILLS + 1, None)
