"""Which candidate of an AutoML job is exported, on which processing unit, and what it must be worth."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.autopilot.candidates import CPU, PROCESSING_UNITS
from airflow_sm_plugin.core.template_values import choice, is_given, number, whole_number
from airflow_sm_plugin.exceptions import InvalidRequest

_WHEN_UNMET = ("fail", "skip")


@dataclass(frozen=True, kw_only=True)
class CandidateChoice:
    """A choice among a job's candidates.

    :param name: an exact candidate name; None goes by ``rank``
    :param rank: 1 is the job's best candidate
    :param processing_unit: ``CPU`` or ``GPU``
    :param required_objective: see :func:`airflow_sm_plugin.autopilot.candidates.check_objective`; None requires nothing
    :param skips: skip instead of failing when it is not met
    """

    name: str | None = None
    rank: int = 1
    processing_unit: str = CPU
    required_objective: float | None = None
    skips: bool = False

    @classmethod
    def read(
        cls,
        *,
        name: object = None,
        rank: object = None,
        processing_unit: object = CPU,
        required_objective: object = None,
        on_unmet_objective: object = "fail",
    ) -> CandidateChoice:
        """Return the choice that an operator's arguments make; numbers may be text.

        :raises InvalidRequest: an argument is none of what it may be, or name and rank are both given
        """
        if is_given(name) and is_given(rank):
            raise InvalidRequest("give either candidate_name or candidate_rank, not both")
        return cls(
            name=str(name) if is_given(name) else None,
            rank=whole_number(rank, "candidate_rank", at_least=1) if is_given(rank) else 1,
            processing_unit=choice(processing_unit, "processing_unit", PROCESSING_UNITS),
            required_objective=(
                number(required_objective, "required_objective") if is_given(required_objective) else None
            ),
            skips=choice(on_unmet_objective, "on_unmet_objective", _WHEN_UNMET) == "skip",
        )
