"""An orphan of an earlier try, stopped before any of its requests, takes nothing from the live try.

It may be a worker that executes, a triggerer that waits, or a worker that goes on after that. Each try has a proxy of
its own in front of AWS, at which it stops as by SIGSTOP.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import FencedOff
from tests.async_inference.batch.async_batches import OBEDIENT
from tests.async_inference.batch.batch_tasks import STARTED, BatchTry, outputs_of
from tests.stubs.killing_proxy import KillingProxy, killing_proxy
from tests.support import Account
from tests.task_runs import Deferral, event_of

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "3"))
EARLIER = {"try": (1, STARTED), "deleted run": (4, STARTED - 50)}
"""Number and start; the live try is the second of its run, for the deleted run's orphan of the run made again."""
LIVE = 2
EXECUTE, TRIGGER, RESUME = "execute", "trigger", "resume"


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture
def proxies(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, KillingProxy]]:
    """A proxy for each of two processes, and an Airflow connection of the same name that leads there."""
    with ExitStack() as stack:
        opened = {name: stack.enter_context(killing_proxy(account.url)) for name in ("orphan", "live")}
        for name, proxy in opened.items():
            extra = {"endpoint_url": proxy.url, "region_name": "us-east-1"}
            connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        yield opened
        for proxy in opened.values():
            proxy.let_go_on()


class Process:
    """One try at work, which can be stopped.

    :param gate: opened when it waits: until then something has no result
    :param stop_at: the number of the request before which it stops, from 0; None: never
    """

    def __init__(self, proxy: KillingProxy, batch: BatchTry, gate: Path, stop_at: int | None) -> None:
        self._proxy = proxy
        self._batch = batch
        self._gate = gate
        self._proxy.stop_at(stop_at)
        self.step = EXECUTE
        self.done: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            step = self._batch.execute()
            while isinstance(step, Deferral):
                self.step = TRIGGER
                self._gate.touch()
                event = event_of(step.trigger)
                self.step = RESUME
                step = self._batch.resume(step, event)
            self.done = step.result
        except BaseException as error:  # noqa: BLE001 - whatever ends a task
            self.error = error
        finally:
            self._proxy.ended.set()

    def stopped(self) -> bool:
        """Wait until it stops, or ends without having come so far."""
        return self._proxy.has_stopped()

    def end(self) -> BaseException | None:
        """Let it go on to its end; return what it raised."""
        self._proxy.let_go_on()
        self._thread.join()
        return self.error


class Meeting:
    """A batch of two inputs that an earlier and a live try work on."""

    def __init__(
        self, account: Account, endpoint: str, proxies: dict[str, KillingProxy], gate: Path, earlier: str
    ) -> None:
        self._account = account
        self._proxies = proxies
        self._gate = gate
        batch = BatchTry.of_inputs(account, endpoint, ["a", f"gate {gate}"])
        number, started = EARLIER[earlier]
        self._orphan = batch.again(number, started=started, aws_conn_id="orphan")
        self._live = batch.again(LIVE, aws_conn_id="live")

    def meet(self, orphan_at: int, live_at: int | None) -> str | None:
        """Stop the orphan before a request, the live try before one or at its end, and let the orphan go on first.

        :return: the step in which the orphan stopped; None when it ended before it came so far
        """
        orphan = self._process("orphan", self._orphan, orphan_at)
        if not orphan.stopped():
            assert orphan.end() is None
            return None
        stopped_in = orphan.step
        live = self._process("live", self._live, live_at)
        if not live.stopped():
            self._check(live)
        error = orphan.end()
        assert error is None or is_fenced_off(error), error
        assert live.end() is None
        self._check(live)
        again = self._process("live", self._live, None)
        assert again.end() is None
        assert again.done == live.done
        return stopped_in

    def _process(self, name: str, batch: BatchTry, stop_at: int | None) -> Process:
        return Process(self._proxies[name], batch, self._gate, stop_at)

    def _check(self, live: Process) -> None:
        assert live.done is not None, live.error
        assert outputs_of(self._account, live.done) == [b"A", f"gate {self._gate}".upper().encode()]


def is_fenced_off(error: BaseException) -> bool:
    return isinstance(error, AirflowFailException) and isinstance(error.__context__, FencedOff)


@pytest.mark.usefixtures("_growing_patience")
@pytest.mark.parametrize("earlier", EARLIER)
def test_an_orphan_stopped_anywhere_takes_nothing_from_the_live_try(
    account: Account, endpoint: str, proxies: dict[str, KillingProxy], earlier: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - moments of a test
    stopped: list[str] = []
    for orphan_at in range(200):
        live_at = chance.choice([None, chance.randrange(25)])
        gate = tmp_path / f"gate-{orphan_at}"
        step = Meeting(account, endpoint, proxies, gate, earlier).meet(orphan_at, live_at)
        if step is None:
            break
        stopped.append(step)
    assert step is None
    assert len(stopped) > 10
    assert {EXECUTE, TRIGGER, RESUME} == set(stopped)
