"""The ledger of a round of asynchronous invocations: what was intended, what was accepted, what is in doubt.

It is an append-only log of parts. The strict rule is that nothing is sent which no written part intends, so that a
kill at any line leaves doubts (intended, but neither accepted nor refused) and never losses or unknown duplicates.
Numbers are those of the inputs in the round, from 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from airflow_sm_plugin.async_inference.locations import LocationPattern, shard_of
from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.core.number_sets import below, from_numbers, from_ranges, numbers_of, to_ranges

_SETS = ("may_send", "accepted", "assumed", "withdrawn", "succeeded", "failed", "expired")
"""Fields that are ranges in JSON."""


@dataclass(frozen=True)
class RoundOutcome:
    """How the numbers of a round ended, as sets; what is in none of them was refused.

    :param reason: why the expired ones are not waited for any longer, where it is not the clock
    """

    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    reason: str | None = None

    @property
    def again(self) -> int:
        """What another round may bring to a good end."""
        return self.failed | self.expired


class Odd(NamedTuple):
    """Where the result of an invocation lies whose places do not follow the round's pattern.

    :param inference_id: of an invocation that an earlier plan sent; None where it has the round's name for it
    """

    output: str
    failure: str | None
    inference_id: str | None = None


Refusal = tuple[str, str]
"""Class and message of the error that refused an input."""


@dataclass(frozen=True, kw_only=True)
class LedgerPart:
    """One entry of the ledger. Sets of numbers are bit masks (:mod:`core.number_sets`).

    :param token: who wrote it, one process
    :param at: when, epoch seconds
    :param claim: set in the first part of a process: its place among the processes of the batch; it fences off others
    :param may_send: what the writer may send from now on
    :param accepted: what SageMaker accepted since the writer's last part
    :param submitted_at: when the last of those was, epoch seconds
    :param assumed: doubts that count as sent from now on, under the names they were given
    :param withdrawn: what was intended and was certainly not accepted
    :param refused: inputs that SageMaker refused for good
    :param pattern: where results lie, learned from the round's first answer
    :param odd: accepted ones that lie elsewhere
    :param unnamed: whether what is sent from now on goes without file name and extension, so that only answers tell
        where results lie
    :param outcome: how the round ended: written like all else by its owner alone, so no process left behind ends it
    """

    token: str
    at: float
    claim: int | None = None
    may_send: int = 0
    accepted: int = 0
    submitted_at: float | None = None
    assumed: int = 0
    withdrawn: int = 0
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    pattern: LocationPattern | None = None
    odd: Mapping[int, Odd] = field(default_factory=dict)
    unnamed: bool = False
    outcome: RoundOutcome | None = None

    def as_json(self) -> bytes:
        """Return it as JSON, without what is empty."""
        given = {
            name: entry for name, entry in vars(self).items() if name not in _EMPTY or entry != _EMPTY[name]
        }
        if self.pattern is not None:
            given["pattern"] = asdict(self.pattern)
        if self.outcome is not None:
            given["outcome"] = _with_ranges(asdict(self.outcome))
        # Not by msgspec, which writes no half of a surrogate pair: messages of refusals may hold one.
        return json.dumps(_with_ranges(given), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> LedgerPart:
        """Read what :meth:`as_json` wrote.

        :raises ValueError: something else
        """
        return msgspec.convert(json.loads(body, object_hook=_with_sets), cls, str_keys=True)


_EMPTY = {
    name: entry for name, entry in vars(LedgerPart(token="", at=0.0)).items() if name not in ("token", "at")
}


def _with_ranges(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_ranges(entry) if name in _SETS else entry for name, entry in given.items()}


def _with_sets(given: dict[str, Any]) -> dict[str, Any]:
    return {name: from_ranges(entry) if name in _SETS else entry for name, entry in given.items()}


@dataclass(frozen=True)
class Ledger:
    """The sum of the parts so far.

    :param count: inputs in the round
    :param parts: how many parts there are; the next is written under this number
    :param claim: the highest claim: whose process may write
    :param token: who wrote the last part
    :param last_at: when, epoch seconds; None when there is none
    :param submitted: latest submission by shard, epoch seconds
    """

    count: int
    parts: int = 0
    claim: int = -1
    token: str = ""
    last_at: float | None = None
    intended: int = 0
    accepted: int = 0
    assumed: int = 0
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    refused_numbers: int = 0
    pattern: LocationPattern | None = None
    odd: Mapping[int, Odd] = field(default_factory=dict)
    submitted: Mapping[int, float] = field(default_factory=dict)
    unnamed: bool = False
    outcome: RoundOutcome | None = None

    def after(self, part: LedgerPart) -> Ledger:
        """Return the ledger with one more part. What was accepted stays so, whatever later parts say."""
        at = part.at if part.submitted_at is None else part.submitted_at
        return replace(
            self,
            parts=self.parts + 1,
            claim=self.claim if part.claim is None else max(self.claim, part.claim),
            token=part.token,
            last_at=part.at if self.last_at is None else max(self.last_at, part.at),
            intended=(self.intended & ~part.withdrawn) | part.may_send,
            accepted=self.accepted | part.accepted,
            assumed=self.assumed | part.assumed,
            refused={**self.refused, **part.refused} if part.refused else self.refused,
            refused_numbers=self.refused_numbers | from_numbers(part.refused),
            pattern=self.pattern or part.pattern,
            odd={**self.odd, **part.odd} if part.odd else self.odd,
            submitted=_later(self.submitted, part.accepted | part.assumed, at),
            unnamed=self.unnamed or part.unnamed,
            outcome=self.outcome or part.outcome,
        )

    @property
    def sent(self) -> int:
        """What has a result to wait for: accepted, or assumed to be."""
        return self.accepted | self.assumed

    @property
    def doubtful(self) -> int:
        """What may or may not have been sent: a killed process intended it, or its answer was lost."""
        return self.intended & ~self.settled

    @property
    def never_answered(self) -> int:
        """What counts as sent, and was possibly never sent."""
        return self.assumed & ~self.accepted

    @property
    def unplaced(self) -> int:
        """What was sent, and no answer tells where its result lies."""
        return self.sent & ~from_numbers(self.odd) if self.pattern is None else 0

    @property
    def settled(self) -> int:
        """What needs no sending any more."""
        return self.sent | self.refused_numbers

    @property
    def unsent(self) -> int:
        """What was certainly never accepted and still has to be sent."""
        return below(self.count) & ~self.settled & ~self.intended

    def submitted_at(self, shard: int) -> float | None:
        """Return when the last of a shard was submitted, epoch seconds; None when nothing of it was."""
        return self.submitted.get(shard)


def _later(submitted: Mapping[int, float], numbers: int, at: float) -> Mapping[int, float]:
    """Return the times of the shards with those that have new numbers moved to ``at``, never back."""
    if not numbers:
        return submitted
    shards = {shard for first, end in to_ranges(numbers) for shard in range(first // SHARD, -(-end // SHARD))}
    return {**submitted, **{shard: max(at, submitted.get(shard, at)) for shard in shards}}


def doubts_in_words(ledger: Ledger) -> str:
    """Return how many are in doubt and which shards they are in, for the log."""
    shards = sorted({shard_of(number) for number in numbers_of(ledger.doubtful)})
    return f"{ledger.doubtful.bit_count()} in doubt (shards {', '.join(map(str, shards))})"
