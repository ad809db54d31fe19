"""Many payloads, from all over the queue, speak for it that a model does not serve; a few never do."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.multi_model.engine.judgement import Evidence


def conclusion(evidence: Evidence, *, untried: bool, began: float = 0.0, most: int = 1_000) -> int | None:
    """Count payloads that fail at every attempt until they prove something."""
    for number in range(1, most + 1):
        if evidence.exhausted(began=began) and evidence.concludes(float(number), can_try_others=untried):
            return number
    return None


def test_payloads_that_are_all_there_was_prove_it() -> None:
    assert conclusion(Evidence(), untried=False) == 20


def test_a_few_prove_nothing() -> None:
    assert conclusion(Evidence(), untried=False, most=19) is None


def test_those_sent_before_a_trial_prove_nothing_while_others_can_be_tried() -> None:
    evidence = Evidence()
    assert conclusion(evidence, untried=True) is None
    assert evidence.concludes(0.0, can_try_others=False)


def test_those_of_three_places_prove_it() -> None:
    assert conclusion(Evidence(), untried=True, began=2_000.0) == 20 + 4 + 4


def test_what_was_sent_before_the_last_success_proves_nothing() -> None:
    evidence = Evidence()
    evidence.clear(10.0)
    assert conclusion(evidence, untried=False, began=9.0) is None
    assert conclusion(evidence, untried=False, began=10.0) == 20


@pytest.mark.parametrize(("first", "enough"), [(True, 8), (False, None)])
def test_each_payload_is_denied_once(first: bool, enough: int | None) -> None:
    evidence = Evidence()
    found = next((n for n in range(1, 100) if evidence.denied(began=0.0, first=first)), None)
    assert found == enough


def test_eight_payloads_that_found_a_model_not_loaded_are_late() -> None:
    evidence = Evidence()
    evidence.unready = 7
    assert not evidence.is_late()
    evidence.unready += 1
    assert evidence.is_late()
