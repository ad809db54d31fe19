"""Batches over HTTP in which a few records draw each recorded answer: all others end in the output."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sm_plugin.invoke.errors import failure_of
from airflow_sm_plugin.invoke.failure import Attempt
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from tests.multi_model.multi_models import MultiModel
from tests.recorded_calls import SITUATIONS, recorded_error
from tests.support import Account, unique

pytestmark = pytest.mark.slow

RECORDS = 24
MODELS = ("m0", "m1", "m2", "m3")
POISON = {"m0": (0, 17), "m1": (23,), "m2": (5,)}
"""Records of a model that draw the answer: the first of all, one in the middle, the last; ``m2``'s only once."""


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> MultiModel:
    """An endpoint of four models, of which one has no bad record."""
    return MultiModel.deployed(module_account, MODELS)


def name_of(model: str, record: int) -> str:
    """Return a record's text; records that draw an error contain "poison"."""
    return f"{model}-{record}-{'poison' if record in POISON.get(model, ()) else 'fine'}"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_few_bad_records_fail_no_others(account: Account, endpoint: MultiModel, situation: str) -> None:
    batch = replace(endpoint, root=f"s3://{account.bucket}/{unique('mm')}")
    for model in MODELS:
        batch.put(model, "x.csv", "".join(f"{name_of(model, number)}\n" for number in range(RECORDS)))
    rules = [
        {
            "fault": "error",
            "operation": "InvokeEndpoint",
            "body_contains": name_of(model, number),
            "situation": situation,
            "times": 1 if model == "m2" else None,
        }
        for model, numbers in POISON.items()
        for number in numbers
    ]
    with batch.faults(*rules):
        batch.run(
            batch.plan(),
            split=SplitOptions(batch_strategy="MultiRecord", max_records=8),
            isolate_bad_records=True,
            attempts=2,
            model_load_seconds=1.0,
        )
        assert batch.struck()
    passes = failure_of(recorded_error(situation)).attempt is not Attempt.FINAL
    for model in MODELS:
        output = (batch.output(model, "x.csv") or b"").decode().splitlines()
        failed = {row["first_record"] for row in batch.errors(model, "x.csv")}
        fine = {name_of(model, number) for number in range(RECORDS) if number not in failed}
        assert {line.rpartition("/")[2] for line in output if line} == fine
        if model == "m2":
            assert failed <= (set() if passes else {5})
        else:
            assert failed == set(POISON.get(model, ()))
