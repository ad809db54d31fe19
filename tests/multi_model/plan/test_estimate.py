"""Payloads of a plan are counted if possible, else estimated, and shown in a readable table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from airflow_sm_plugin.multi_model.plan.estimate import (
    ModelEstimate,
    PlanEstimate,
    Sample,
    in_bytes,
    payloads_of,
)

SINGLE, UNSPLIT = SplitOptions(), SplitOptions(split_type="None")
MULTI = SplitOptions(batch_strategy="MultiRecord", max_payload_bytes=1_000)
TENS = Sample(records=10, text=100, stored=100)
"""Records of ten bytes."""
PACKED = Sample(records=10, text=100, stored=20)
"""The same, compressed to a fifth."""


@pytest.mark.parametrize(
    ("options", "size", "sample", "expected"),
    [
        (UNSPLIT, 5_000, Sample(), 1),
        (UNSPLIT, 0, Sample(), 0),
        (UNSPLIT, None, Sample(), 1),
        (SINGLE, 5_000, TENS, 500),
        (SINGLE, 1_000, PACKED, 500),
        (SINGLE, 3, TENS, 1),
        (SINGLE, 0, TENS, 0),
        (SINGLE, None, TENS, 1),
        (SINGLE, 5_000, Sample(), 1),
        (MULTI, 5_000, TENS, 5),
        (MULTI, 5_001, TENS, 6),
        (MULTI, 1_000, PACKED, 5),
        (MULTI, 50_000, Sample(records=1, text=50_000, stored=50_000), 1),
    ],
)
def test_payloads_of_an_input(
    options: SplitOptions, size: int | None, sample: Sample, expected: float
) -> None:
    assert payloads_of([size], options, sample) == expected


@given(st.lists(st.integers(0, 10**9), max_size=20))
def test_unsplit_inputs_are_counted_exactly(sizes: list[int]) -> None:
    assert payloads_of(sizes, UNSPLIT, Sample()) == sum(size > 0 for size in sizes)


def estimate(count: int, *, sampled: int | None = 5, missing: bool = False, carried: int = 0) -> PlanEstimate:
    models = [
        ModelEstimate(f"model-{number:03}.tar.gz", 10, (number + 1) * 1_024, 600, 1, missing and number == 0)
        for number in range(count)
    ]
    return PlanEstimate(
        endpoint_name="ratings",
        carried=carried,
        models=models,
        shard_bytes=[1_024, 2_048] if count else [],
        batch_strategy="SingleRecord",
        sampled=sampled,
    )


def test_the_table_has_the_largest_models_and_the_number_of_others() -> None:
    lines = estimate(25, missing=True, carried=7).lines()
    text = "\n".join(lines)
    assert "  inputs    250, besides 7 that are done already" in lines
    assert "  models    25, of which 1 have no artefact" in lines
    assert "  payloads  about 15,000 (SingleRecord, estimated from the beginning of 5 inputs)" in lines
    assert "  shards    2, of 1.0 KiB to 2.0 KiB" in lines
    assert "about 2 min 30 s at 100 payloads a second over all shards, 15 s at 1,000; " in text
    assert lines[-1] == "  and 5 more"
    rows = [line for line in lines if line.startswith("  model-")]
    assert [row.split()[0] for row in rows[:2]] == ["model-024.tar.gz", "model-023.tar.gz"]
    assert len(rows) == 20
    assert len({len(row) for row in rows}) == 1
    assert all(line == line.rstrip() for line in lines)


def test_a_missing_artefact_is_shown_beside_its_model() -> None:
    assert estimate(2, missing=True).lines()[-1].endswith("  no artefact")


def test_counted_estimated_and_unknown_payloads_are_worded_differently() -> None:
    assert "  payloads  1,200, one for each input" in estimate(2, sampled=None).lines()
    unknown = estimate(2, sampled=0).lines()
    assert "  payloads  unknown: no input could be read" in unknown
    assert "  time      unknown" in unknown


def test_an_empty_plan_has_a_table_too() -> None:
    assert "  shards    0" in estimate(0, sampled=0, carried=3).lines()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1_023, "1,023 bytes"),
        (1_536, "1.5 KiB"),
        (123 * 2**20, "123 MiB"),
        (2**52, "4,096 TiB"),
    ],
)
def test_bytes_are_shown_in_a_fitting_unit(size: int, text: str) -> None:
    assert in_bytes(size) == text
