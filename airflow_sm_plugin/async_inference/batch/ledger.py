"""The ledger of a round of asynchronous invocations: intended, accepted, refused and doubtful requests.

It is an append-only log of parts. A request is sent only after a written part intends it, so that a kill at any line
leaves doubts (intended, but neither accepted nor refused) and never losses or unknown duplicates. Numbers are those of
the inputs in the round, from 0; sets of numbers are bit masks (:mod:`airflow_sm_plugin.core.number_sets`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from airflow_sm_plugin.async_inference.locations import LocationPattern
from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.core.number_sets import below, from_numbers, from_ranges, to_ranges

_SETS = ("may_send", "accepted", "assumed", "withdrawn", "succeeded", "failed", "expired")
"""Fields that are ranges in JSON."""


@dataclass(frozen=True)
class RoundOutcome:
    """The end of a round, as sets of numbers; a number in none of them was refused.

    :param reason: why the wait for the expired ones ended, if not by the deadline
    """

    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    reason: str | None = None

    @property
    def again(self) -> int:
        """The numbers that another round sends again."""
        return self.failed | self.expired


class OddLocation(NamedTuple):
    """The locations of a result that do not follow the round's pattern.

    :param inference_id: of an invocation that an earlier plan sent; None for the round's own name
    """

    output: str
    failure: str | None
    inference_id: str | None = None


Refusal = tuple[str, str]
"""Class and message of the error that refused an input."""


@dataclass(frozen=True, kw_only=True)
class LedgerPart:
    """One entry of the ledger.

    :param token: of the process that wrote the part
    :param written_at: time of writing, epoch seconds
    :param claim: the number of the process's claim, in its first part
    :param may_send: numbers that the process intends to send from now on
    :param accepted: numbers that SageMaker accepted since the process's last part
    :param submitted_at: time of the last acceptance, epoch seconds
    :param assumed: doubtful numbers that count as sent from now on
    :param withdrawn: intended numbers that were certainly not accepted
    :param refused: inputs that SageMaker refused for good
    :param pattern: the pattern of the results' locations, learned from the round's first answer
    :param odd: accepted numbers with other locations
    :param unnamed: whether later requests have no file name and extension, so that only answers contain the locations
    :param outcome: the end of the round. Only the batch's owner can append it, so no orphan can end the round
    """

    token: str
    written_at: float
    claim: int | None = None
    may_send: int = 0
    accepted: int = 0
    submitted_at: float | None = None
    assumed: int = 0
    withdrawn: int = 0
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    pattern: LocationPattern | None = None
    odd: Mapping[int, OddLocation] = field(default_factory=dict)
    unnamed: bool = False
    outcome: RoundOutcome | None = None

    def as_json(self) -> bytes:
        """Encode the part, without empty fields."""
        fields = {name: value for name, value in vars(self).items() if value != _EMPTY[name]}
        if self.pattern is not None:
            fields["pattern"] = asdict(self.pattern)
        if self.outcome is not None:
            fields["outcome"] = _with_ranges(asdict(self.outcome))
        # Not by msgspec, which cannot write half of a surrogate pair: messages of refusals may contain one.
        return json.dumps(_with_ranges(fields), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> LedgerPart:
        """Read what :meth:`as_json` wrote; raise ValueError for anything else."""
        return msgspec.convert(json.loads(body, object_hook=_with_sets), cls, str_keys=True)


_EMPTY = {**vars(LedgerPart(token="", written_at=0.0)), "token": None, "written_at": None}


def _with_ranges(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_ranges(value) if name in _SETS else value for name, value in fields.items()}


def _with_sets(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: from_ranges(value) if name in _SETS else value for name, value in fields.items()}


@dataclass(frozen=True)
class Ledger:
    """The sum of the parts so far.

    :param count: inputs in the round
    :param parts: the number of parts, and of the next one
    :param claim: the highest claim: its process is permitted to write
    :param last_at: when the last part was written, epoch seconds; None for an empty ledger
    :param submitted: latest submission by shard, epoch seconds
    """

    count: int
    parts: int = 0
    claim: int = -1
    last_at: float | None = None
    intended: int = 0
    accepted: int = 0
    assumed: int = 0
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    refused_numbers: int = 0
    pattern: LocationPattern | None = None
    odd: Mapping[int, OddLocation] = field(default_factory=dict)
    submitted: Mapping[int, float] = field(default_factory=dict)
    unnamed: bool = False
    outcome: RoundOutcome | None = None

    def after(self, part: LedgerPart) -> Ledger:
        """Add one more part. An accepted number stays accepted, whatever later parts contain."""
        return replace(
            self,
            parts=self.parts + 1,
            claim=self.claim if part.claim is None else max(self.claim, part.claim),
            last_at=part.written_at if self.last_at is None else max(self.last_at, part.written_at),
            intended=(self.intended & ~part.withdrawn) | part.may_send,
            accepted=self.accepted | part.accepted,
            assumed=self.assumed | part.assumed,
            refused={**self.refused, **part.refused} if part.refused else self.refused,
            refused_numbers=self.refused_numbers | from_numbers(part.refused),
            pattern=self.pattern or part.pattern,
            odd={**self.odd, **part.odd} if part.odd else self.odd,
            submitted=self._submitted_after(part),
            unnamed=self.unnamed or part.unnamed,
            outcome=self.outcome or part.outcome,
        )

    def _submitted_after(self, part: LedgerPart) -> Mapping[int, float]:
        """Move the times of the shards with new numbers forward, never back."""
        if not (numbers := part.accepted | part.assumed):
            return self.submitted
        latest = part.written_at if part.submitted_at is None else part.submitted_at
        ranges = to_ranges(numbers)
        shards = {shard for first, end in ranges for shard in range(first // SHARD, -(-end // SHARD))}
        later = {shard: max(latest, self.submitted.get(shard, latest)) for shard in shards}
        return {**self.submitted, **later}

    @property
    def sent(self) -> int:
        """The numbers with a result to wait for: accepted, or assumed to be."""
        return self.accepted | self.assumed

    @property
    def doubtful(self) -> int:
        """The numbers that may have been sent: a killed process intended them, or their answers were lost."""
        return self.intended & ~self.settled

    @property
    def never_answered(self) -> int:
        """The numbers that count as sent although no answer confirmed it."""
        return self.assumed & ~self.accepted

    @property
    def unlocated(self) -> int:
        """The sent numbers whose locations are in no answer."""
        return self.sent & ~from_numbers(self.odd) if self.pattern is None else 0

    @property
    def settled(self) -> int:
        """The numbers that need no sending any more."""
        return self.sent | self.refused_numbers

    @property
    def unsent(self) -> int:
        """The numbers that were certainly never accepted and have to be sent."""
        return below(self.count) & ~self.settled & ~self.intended
