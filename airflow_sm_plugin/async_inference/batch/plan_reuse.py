"""What an earlier plan of an asynchronous batch spares the next one: outputs, and results that are still to come.

Inputs are matched by source and ETag. A finished plan tells by its rows. An unfinished one has none yet: what it sent
and has not failed is waited for by the next plan's first round, where the earlier plan's requests put it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.async_inference.batch.plan import BatchPlan, Run, SentBefore, read_rows, taken_over_file
from airflow_sm_plugin.async_inference.batch.report import Status
from airflow_sm_plugin.async_inference.locations import LocationPattern, shard_of
from airflow_sm_plugin.batches.input_chunks import read_shard
from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.core.number_sets import from_numbers, numbers_of

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.batch.folder import AttemptFolder
    from airflow_sm_plugin.async_inference.batch.round_run import RoundProgress
    from airflow_sm_plugin.aws.s3.objects import S3Objects


@dataclass(frozen=True)
class SentRound:
    """A round of an unfinished plan that sends nothing any more.

    :param kept: which of its numbers have an output, or a result to come
    :param pattern: where results lie
    """

    progress: RoundProgress
    kept: int
    pattern: LocationPattern | None

    def sent(self, there: int, number: int) -> SentBefore:
        """Return what the round knows of one of its numbers, as the next plan's input ``number``."""
        ledger = self.progress.ledger
        return SentBefore(
            number,
            self.progress.names.invocation(there, ledger, self.pattern),
            ledger.submitted_at(shard_of(there)) or 0.0,
            is_assumed=bool(ledger.never_answered >> there & 1),
        )


@dataclass(frozen=True)
class PlanReuse:
    """What need not be sent again, by a fingerprint of source and ETag.

    Eight bytes an input are known of its identity, so a hundred thousand take a few megabytes.

    :param carried_from: number of the finished plan whose rows ``succeeded`` names; None where there is none
    :param succeeded: the number of a row
    :param sent: the rounds and numbers of requests, as many as inputs have this source and ETag
    """

    carried_from: int | None = None
    succeeded: dict[int, int] = field(default_factory=dict)
    sent: dict[int, list[tuple[SentRound, int]]] = field(default_factory=dict)

    @classmethod
    async def of_finished(cls, s3: S3Objects, folder: AttemptFolder, plan: BatchPlan) -> PlanReuse:
        """Read the rows of a finished plan."""
        found = cls(plan.number)
        for shard in range(plan.shards):
            for place, row in enumerate(await read_rows(s3, folder, shard)):
                if row.status is Status.SUCCEEDED and row.etag:
                    found.succeeded[_fingerprint(row.source, row.etag)] = shard * SHARD + place
        return found

    @classmethod
    async def of_unfinished(cls, s3: S3Objects, plan: BatchPlan, rounds: Sequence[SentRound]) -> PlanReuse:
        """Match the inputs of an unfinished plan with what it carried over and what its rounds sent."""
        found = cls(plan.carried_from)
        carried = plan.carried_numbers()
        sent = {one.progress.numbers[there]: (one, there) for one in rounds for there in numbers_of(one.kept)}
        for shard in range(plan.shards):
            for number, one in enumerate(await read_shard(s3, plan.inputs, shard), start=shard * SHARD):
                if not one.etag:
                    continue
                fingerprint = _fingerprint(one.source, one.etag)
                if number in carried:
                    found.succeeded[fingerprint] = carried[number]
                elif number in sent:
                    found.sent.setdefault(fingerprint, []).append(sent[number])
        return found

    async def applied(self, s3: S3Objects, into: str, shards: int) -> tuple[list[Run], int]:
        """Return which inputs of a new plan have an output, and the set of those that were sent.

        What is known of those is written beside the plan's shards, for :func:`read_sent_before`.

        :param into: the folder of the new plan's shards
        """
        runs: list[Run] = []
        sent: list[SentBefore] = []
        for shard in range(shards):
            for number, one in enumerate(await read_shard(s3, into, shard), start=shard * SHARD):
                if not one.etag:
                    continue
                fingerprint = _fingerprint(one.source, one.etag)
                if (before := self.succeeded.get(fingerprint)) is not None:
                    _extend(runs, number, before)
                elif requests := self.sent.get(fingerprint):
                    round_, there = requests.pop(0)
                    sent.append(round_.sent(there, number))
        if sent:
            body = "".join(f"{one.as_line()}\n" for one in sent).encode()
            await s3.write(taken_over_file(into), body, content_type="application/jsonl")
        return runs, from_numbers(one.number for one in sent)


def _fingerprint(source: str, etag: str) -> int:
    return int.from_bytes(hashlib.blake2b(as_utf8(f"{source}\n{etag}"), digest_size=8).digest(), "big")


def _extend(runs: list[Run], number: int, earlier: int) -> None:
    """Add one number, to the last run where it follows."""
    if runs:
        first, before, length = runs[-1]
        if first + length == number and before + length == earlier:
            runs[-1] = (first, before, length + 1)
            return
    runs.append((number, earlier, 1))
