"""Models that load for a while, on an endpoint that holds few of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.batch.multi_models import MultiModel
from tests.support import Account

MODELS = [f"m{number}" for number in range(8)]


@pytest.fixture
def cold(account: Account) -> Iterator[MultiModel]:
    """An endpoint that holds three models, loads for 0.2 s, and makes nobody wait for it."""
    with account.settings(
        multi_model_capacity=3, multi_model_load_seconds=0.2, multi_model_ready_wait_seconds=0
    ):
        yield MultiModel.deployed(account, MODELS)


def fill(batch: MultiModel, records: int) -> None:
    for model in MODELS:
        batch.put(model, "x.csv", "".join(f"r{number}\n" for number in range(records)))


@pytest.mark.parametrize("most", [3, None])
def test_every_model_is_loaded_though_few_fit(cold: MultiModel, most: int | None) -> None:
    fill(cold, 30)
    done = cold.run(cold.plan(), max_warm_models=most, max_concurrent_transforms=8)
    assert not done.report.total.failed
    for model in MODELS:
        assert (cold.output(model, "x.csv") or b"").count(b"\n") == 30
    models = done.report.statistics["models"]
    assert all(one["loads"] >= 1 for one in models.values())
    if most is not None:
        assert sum(one["loads"] for one in models.values()) == len(MODELS)


def test_a_cold_model_is_probed_and_not_stormed(cold: MultiModel) -> None:
    """Seven payloads wait for the first one's answer instead of asking, too."""
    cold.put("m0", "x.csv", "".join(f"r{number}\n" for number in range(8)))
    done = cold.run(cold.plan(), max_concurrent_transforms=8)
    probes = done.report.statistics["models"]["m0.tar.gz"]["repeats"]["ModelNotReadyException"]
    assert 1 <= probes <= 5


def test_a_model_that_does_not_load_in_time_fails_and_may_be_tried_again(
    account: Account, cold: MultiModel
) -> None:
    cold.put("m0", "x.csv", "one\ntwo\n")
    location = cold.plan()
    account.change_settings(multi_model_load_seconds=60)
    late = cold.run(location, model_load_seconds=0.5)
    assert {row["error"] for row in cold.errors("m0", "x.csv")} == {"ModelLoadTimeout"}
    assert sum(row["record_count"] for row in cold.errors("m0", "x.csv")) == 2
    assert late.retryable == 1
