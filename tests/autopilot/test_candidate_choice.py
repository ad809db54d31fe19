"""The choice of a candidate, read from an operator's arguments."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.autopilot.candidates import CandidateChoice
from airflow_sm_plugin.exceptions import InvalidRequest


def test_the_default_choice_is_the_best_candidate_on_cpus_without_an_objective() -> None:
    assert CandidateChoice.read() == CandidateChoice(rank=1, processing_unit="CPU", required_objective=None)
    assert CandidateChoice.read(name="", rank="None", required_objective="") == CandidateChoice()


def test_numbers_may_be_text() -> None:
    made = CandidateChoice.read(
        rank="2", processing_unit="GPU", required_objective="0.9", on_unmet_objective="skip"
    )
    assert made == CandidateChoice(rank=2, processing_unit="GPU", required_objective=0.9, skips=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a", "rank": 2}, "give either candidate_name or candidate_rank, not both"),
        ({"rank": 0}, "candidate_rank must be a whole number, 1 or more, not 0"),
        ({"rank": "best"}, "candidate_rank must be a whole number, 1 or more, not 'best'"),
        ({"processing_unit": "gpu"}, "processing_unit must be one of CPU, GPU, not 'gpu'"),
        ({"required_objective": "high"}, "required_objective must be a number, not 'high'"),
        ({"on_unmet_objective": "warn"}, "on_unmet_objective must be one of fail, skip, not 'warn'"),
    ],
)
def test_anything_else_is_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        CandidateChoice.read(**arguments)
