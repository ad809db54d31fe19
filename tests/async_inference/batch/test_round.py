from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart, OddLocation, RoundOutcome
from airflow_sm_plugin.async_inference.batch.round import RequestTemplate, RoundNames, RoundWatch
from airflow_sm_plugin.async_inference.locations import LocationPattern
from airflow_sm_plugin.async_inference.watch import AwaitedResults
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.core.number_sets import below, from_numbers, numbers_of

COUNT = 2_300
NAMES = RoundNames("airflow-0123456789ab-p0", 2)
PATTERN = LocationPattern("s3://b/out/{extension}/{filename}", "s3://b/fail/{extension}/{stem}-error.out")
NUMBERS = st.sets(st.integers(0, COUNT - 1), max_size=60)


def ledger_of(accepted: int, *, odd: Collection[int] = (), at: float = 100.0) -> Ledger:
    odd_locations = {number: OddLocation(f"s3://b/odd/{number:05d}.out", None) for number in odd}
    part = LedgerPart(
        token="t", written_at=at, accepted=accepted, submitted_at=at, pattern=PATTERN, odd=odd_locations
    )
    return Ledger(COUNT).after(part)


@given(NUMBERS, NUMBERS)
def test_results_in_folders_belong_to_their_numbers(sent: set[int], others: set[int]) -> None:
    odd = sent & others
    ledger = ledger_of(from_numbers(sent), odd=odd)
    watch = RoundWatch.of(ledger, NAMES, pattern=PATTERN, seconds=60)
    numbers_by_output: dict[str, int] = {}
    for number, folder in enumerate(watch.watch.folders):
        for position in numbers_of(folder.wanted):
            (only,) = numbers_of(watch.numbers(number, 1 << position))
            numbers_by_output[folder.output(position)] = only
    expected = {NAMES.invocation(number, ledger, PATTERN).output_location: number for number in sent}
    assert numbers_by_output == expected
    assert watch.all_numbers([folder.wanted for folder in watch.watch.folders]) == from_numbers(sent)
    assert AwaitedResults.from_mapping(watch.watch.as_mapping()) == watch.watch


def test_failure_objects_and_notifications_are_recognised_by_the_rounds_names() -> None:
    watch = RoundWatch.of(ledger_of(below(COUNT)), NAMES, pattern=PATTERN, seconds=60).watch
    assert watch.folders[2].failure(299) == (
        "s3://b/fail/airflow-0123456789ab-p0/r2/00002/0002299-error.out"
    )  # fmt: skip
    assert watch.folders[2].names.id_at(NAMES.of(2_299).inference_id) == 299
    assert NAMES.of(0).inference_id.startswith(watch.own_ids)


def test_a_shards_deadline_counts_from_its_own_last_submission() -> None:
    ledger = ledger_of(below(1_000)).after(
        LedgerPart(token="t", written_at=900.0, accepted=below(COUNT), submitted_at=900.0)
    )  # fmt: skip
    late = ledger_of(below(1_000)).after(
        LedgerPart(token="t", written_at=500.0, accepted=1 << 1_000, submitted_at=500.0)
    )
    assert RoundWatch.of(ledger, NAMES, pattern=PATTERN, seconds=60).watch.last_deadline == 960
    assert [s.deadlines for s in RoundWatch.of(late, NAMES, pattern=PATTERN, seconds=60).watch.folders] == [
        (160.0,),
        (560.0,),
    ]


def test_doubts_can_be_watched_alone() -> None:
    watch = RoundWatch.of(Ledger(COUNT), NAMES, pattern=PATTERN, seconds=60, only=1 << 1_500)
    assert watch.watch.count == 1
    assert watch.all_numbers([folder.wanted for folder in watch.watch.folders]) == 1 << 1_500


def test_results_with_an_unknown_location_are_not_ignored() -> None:
    with pytest.raises(LookupError, match="the locations of 1 results are not known"):
        RoundWatch.of(ledger_of(1), NAMES, pattern=None, seconds=60)


def test_a_request_has_the_inputs_own_type_and_the_batchs_otherwise() -> None:
    template = RequestTemplate(
        endpoint_name="e", content_type="text/csv", accept="text/plain", request_ttl=60
    )
    own = NAMES.request(7, BatchInput(source="s3://b/k", content_type="image/png"), template)
    other = NAMES.request(7, BatchInput(source="s3://b/k", custom_attributes="a=1"), template)
    assert (own.content_type, other.content_type) == ("image/png", "text/csv")
    assert (other.custom_attributes, other.filename, other.request_ttl) == ("a=1", "0000007.out", 60)
    unnamed = RoundNames(NAMES.root, 2, named=False).request(7, BatchInput(source="s3://b/k"), template)
    assert (unnamed.filename, unnamed.s3_output_path_extension) == (None, None)
    assert unnamed.inference_id == other.inference_id


@given(NUMBERS, NUMBERS, NUMBERS, st.none() | st.text(max_size=9))
def test_an_outcome_is_read_back(ok: set[int], failed: set[int], expired: set[int], why: str | None) -> None:
    outcome = RoundOutcome(from_numbers(ok), from_numbers(failed), from_numbers(expired), why)
    part = LedgerPart(token="t", written_at=1.0, outcome=outcome)
    assert LedgerPart.from_json(part.as_json()).outcome == outcome
    assert outcome.again == from_numbers(failed | expired)
