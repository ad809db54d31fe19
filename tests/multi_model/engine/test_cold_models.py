"""Models that load for a while, on an endpoint that holds few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from tests.multi_model.multi_models import NAMED, MultiModel
from tests.support import Account

MODELS = [f"m{number}" for number in range(8)]
RECORDS = 30


@pytest.fixture
def cold(account: Account) -> Iterator[MultiModel]:
    """An endpoint that holds few models, loads for 0.2 s, and holds no call meanwhile."""
    with account.settings(
        multi_model_capacity=3, multi_model_load_seconds=0.2, multi_model_ready_wait_seconds=0
    ):
        yield MultiModel.deployed(account, MODELS)


class Invoked:
    """Counts of the invocations in this process.

    :param gate: file to create after three probes of the first model
    """

    def __init__(self, patch: pytest.MonkeyPatch, gate: Path | None = None) -> None:
        self._gate = gate
        self._invoke = EndpointInvoker.invoke
        self._begun: set[str] = set()
        self._answers: Counter[str] = Counter()
        self._in_flight = 0
        self.probes: list[bytes] = []
        """Payloads that were sent before the first answer."""
        self.most_probes = 0
        """The most probes in flight at the same time."""
        self.most_models = 0
        """The most models with unanswered records at the same time."""

        def invoke(invoker: EndpointInvoker, body: bytes, **how: Any) -> Awaitable[ModelAnswer]:  # noqa: ANN401 - as invoke()
            return self._invoked(invoker, body, **how)

        patch.setattr(EndpointInvoker, "invoke", invoke)

    async def _invoked(
        self,
        invoker: EndpointInvoker,
        body: bytes,
        *,
        target_model: str,
        **how: Any,  # noqa: ANN401 - as invoke()
    ) -> ModelAnswer:
        self._begun.add(target_model)
        in_use = sum(self._answers[model] < RECORDS for model in self._begun)
        self.most_models = max(self.most_models, in_use)
        self._in_flight += 1
        if not self._answers:
            self.probes.append(body)
            self.most_probes = max(self.most_probes, self._in_flight)
        try:
            answer = await self._invoke(invoker, body, target_model=target_model, **how)
        finally:
            self._in_flight -= 1
            if self._gate and len(self.probes) >= 3:
                self._gate.touch()
        self._answers[target_model] += 1
        return answer


def fill(batch: MultiModel) -> None:
    for model in MODELS:
        batch.put(model, "x.csv", "".join(f"r{number}\n" for number in range(RECORDS)))


def test_every_model_is_loaded_though_few_fit(cold: MultiModel) -> None:
    fill(cold)
    finished = cold.run(cold.plan(), max_concurrent_transforms=8)
    assert not finished.report.total.failed
    for model in MODELS:
        assert (cold.output(model, "x.csv") or b"").count(b"\n") == RECORDS
    assert all(model["loads"] >= 1 for model in finished.report.statistics["models"].values())


def test_each_model_is_loaded_once_where_one_more_fits_than_is_used(
    account: Account, cold: MultiModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint evicts the model that was used least recently, even if that model still has work."""
    account.change_settings(multi_model_capacity=4)
    fill(cold)
    invoked = Invoked(monkeypatch)
    finished = cold.run(cold.plan(), max_warm_models=3, max_concurrent_transforms=8)
    assert not finished.report.total.failed
    for model in MODELS:
        assert (cold.output(model, "x.csv") or b"").count(b"\n") == RECORDS
    assert {model["loads"] for model in finished.report.statistics["models"].values()} == {1}
    assert invoked.most_models <= 3


def test_a_cold_model_gets_one_probe_at_a_time(
    account: Account, cold: MultiModel, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven payloads wait for one probe's answer. Each probe is another payload, since one may be at fault itself."""
    waits = f"""
import os, time
while not os.path.exists({str(gate)!r}):
    time.sleep(0.01)
"""
    cold.add_model("gated", waits + NAMED)
    cold.put("gated", "x.csv", "".join(f"r{number}\n" for number in range(8)))
    invoked = Invoked(monkeypatch, gate)
    finished = cold.run(cold.plan(), max_concurrent_transforms=8)
    assert not finished.report.total.failed
    assert invoked.most_probes == 1
    assert len(invoked.probes) > 3
    assert invoked.probes[:4] == [b"r0", b"r1", b"r2", b"r3"]
    repeats = finished.report.statistics["models"]["gated.tar.gz"]["repeats"]
    assert repeats == {"ModelNotReadyException": len(invoked.probes) - 1}


def test_a_model_that_does_not_load_in_time_fails_and_is_retryable(
    account: Account, cold: MultiModel
) -> None:
    cold.put("m0", "x.csv", "one\ntwo\n")
    location = cold.plan()
    account.change_settings(multi_model_load_seconds=3_600)
    late = cold.run(location, model_load_seconds=0.5)
    assert {row["error"] for row in cold.errors("m0", "x.csv")} == {"ModelLoadTimeout"}
    assert sum(row["record_count"] for row in cold.errors("m0", "x.csv")) == 2
    assert late.retryable == 1
