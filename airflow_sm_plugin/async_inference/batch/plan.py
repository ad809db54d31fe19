"""The plan of a batch: its inputs, fixed once, and the results that it reuses from an earlier plan.

Inputs of two plans are matched by source and ETag. The rows of a finished plan list the inputs with an output. An
unfinished plan has no rows: the next plan's first round waits for the results of its requests, unless they failed, at
the locations that the earlier plan gave them.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.async_inference.batch.folder import AttemptFolder, BatchFolder
from airflow_sm_plugin.async_inference.batch.report import Row, Status
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.locations import batch_root
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.input_chunks import plan_inputs, read_chunk
from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.batches.listing import listed_names
from airflow_sm_plugin.batches.task_try import Origin, TaskTry
from airflow_sm_plugin.core.number_sets import below, from_numbers, from_ranges, to_ranges
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest, PreconditionFailed

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

FORMAT = 1
"""The version of the state in a batch's folder; this version of the package continues no other."""

Run = tuple[int, int, int]
"""A range of inputs of two plans: first number here, first number in the earlier plan, length."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The inputs of a batch, numbered from 0.

    :param number: of the plan, from 0
    :param root: the common beginning of the names of its invocations, unique to the plan
    :param inputs: the folder of its shards
    :param created_at: ISO 8601
    :param carried: unchanged inputs with an output under an earlier plan
    :param carried_from: the number of that plan, which is finished
    :param taken_over: ranges of unchanged inputs that an earlier, unfinished plan sent: the first round waits for them
    :param passed_over: objects below the prefix that were no inputs
    :param run: :attr:`BatchSettings.run` of the try ``begun_by``
    """

    format: int
    number: int
    count: int
    shards: int
    digest: str
    root: str
    inputs: str
    created_at: str
    begun_by: TaskTry
    carried: tuple[Run, ...] = ()
    carried_from: int | None = None
    taken_over: tuple[tuple[int, int], ...] = ()
    passed_over: int = 0
    run: str | None = None

    def as_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, body: bytes) -> BatchPlan:
        """Read ``plan.json``; raise ValueError for anything else, or a plan of another format."""
        plan = msgspec.json.decode(body, type=cls)
        if plan.format != FORMAT:
            raise ValueError(f"format {plan.format}, not {FORMAT}")
        return plan

    @property
    def to_send(self) -> int:
        """The numbers that are not carried over."""
        return below(self.count) & ~from_ranges([first, first + length] for first, _, length in self.carried)

    def carried_numbers(self) -> dict[int, int]:
        """Map the numbers of carried inputs to their numbers in the earlier plan."""
        return {
            first + step: earlier + step for first, earlier, length in self.carried for step in range(length)
        }


class NextPlan(enum.Enum):
    """The decision about the last plan when a task begins."""

    GO_ON = "go on with the plan"
    COMPARE = "report the finished plan if it has the current inputs, otherwise resume"
    RESUME = "make a new plan without unchanged inputs that succeeded or may still succeed"
    NEW = "make a new plan of everything"


def next_plan(origin: Origin, *, finished: bool, same_run: bool, restart: bool) -> NextPlan:
    """Decide what a task does with the last plan.

    A deleted DAG run's plan is neither continued nor reused. A retry continues its run's plan; a finished plan (the
    task was killed between its report and its end) counts as long as the inputs are the same. A cleared task obeys
    ``on_rerun``, also for an unfinished plan, since the inputs may have been overwritten after they were sent.

    :param origin: of the last writer. A later try, which only a try without a start date can see, counts as this run's
    :param same_run: whether the task was not cleared since, by its ``max_tries``; another start date then belongs to
        another DAG run
    """
    if origin is Origin.DELETED_RUN or (origin is Origin.CLEARED and same_run):
        return NextPlan.NEW
    if same_run:
        return NextPlan.COMPARE if finished else NextPlan.GO_ON
    return NextPlan.NEW if restart else NextPlan.RESUME


class SentBefore(NamedTuple):
    """A request that an earlier plan sent.

    :param number: of the input in the new plan
    :param is_assumed: whether no answer confirmed that the request was accepted
    """

    number: int
    output_location: str
    failure_location: str | None
    inference_id: str | None
    submitted_at: float
    is_assumed: bool


Sent = Callable[[int], SentBefore]
"""Describes a request that an earlier plan sent, given the input's number in the new plan."""


@dataclass(frozen=True)
class PlanReuse:
    """Earlier results by a fingerprint of an input's source and ETag.

    A fingerprint has eight bytes, so that those of a hundred thousand inputs take a few megabytes.

    :param carried_from: number of the finished plan that ``succeeded`` refers to; None if there is none
    :param succeeded: numbers of rows with an output
    :param sent: requests, one for each input with this source and ETag
    """

    carried_from: int | None = None
    succeeded: dict[int, int] = field(default_factory=dict)
    sent: dict[int, list[Sent]] = field(default_factory=dict)

    @classmethod
    async def of_finished(cls, s3: S3Objects, folder: AttemptFolder, plan: BatchPlan) -> PlanReuse:
        reuse = cls(plan.number)
        for shard in range(plan.shards):
            for number, row in enumerate(await read_rows(s3, folder, shard), start=shard * SHARD):
                if row.status is Status.SUCCEEDED and row.etag:
                    reuse.succeeded[_fingerprint(row.source, row.etag)] = number
        return reuse

    @classmethod
    async def of_unfinished(cls, s3: S3Objects, plan: BatchPlan, sent: Mapping[int, Sent]) -> PlanReuse:
        """Match the inputs of an unfinished plan with its carried inputs and, by number, its latest requests."""
        reuse = cls(plan.carried_from)
        carried = plan.carried_numbers()
        async for number, fingerprint in _fingerprints(s3, plan.inputs, plan.shards):
            if number in carried:
                reuse.succeeded[fingerprint] = carried[number]
            elif number in sent:
                reuse.sent.setdefault(fingerprint, []).append(sent[number])
        return reuse

    async def applied(self, s3: S3Objects, into: str, shards: int) -> tuple[list[Run], int]:
        """Return the inputs of a new plan that have an output, and the set of those that were sent.

        The requests of the latter are written beside the plan's shards, for :func:`read_sent_before`.
        """
        runs: list[Run] = []
        sent: list[SentBefore] = []
        async for number, fingerprint in _fingerprints(s3, into, shards):
            if (earlier := self.succeeded.get(fingerprint)) is not None:
                _extend(runs, number, earlier)
            elif requests := self.sent.get(fingerprint):
                sent.append(requests.pop(0)(number))
        if sent:
            body = "".join(f"{json.dumps(request, separators=(',', ':'))}\n" for request in sent).encode()
            await s3.write(_sent_before_file(into), body, content_type="application/jsonl")
        return runs, from_numbers(request.number for request in sent)


async def _fingerprints(s3: S3Objects, into: str, shards: int) -> AsyncIterator[tuple[int, int]]:
    """Yield number and fingerprint of each input of a plan with a known ETag."""
    for shard in range(shards):
        for number, planned in enumerate(await read_chunk(s3, into, shard), start=shard * SHARD):
            if planned.etag:
                yield number, _fingerprint(planned.source, planned.etag)


def _fingerprint(source: str, etag: str) -> int:
    return int.from_bytes(hashlib.blake2b(as_utf8(f"{source}\n{etag}"), digest_size=8).digest(), "big")


def _extend(runs: list[Run], number: int, earlier: int) -> None:
    """Add one number, to the last range if it continues it."""
    if runs:
        first, first_earlier, length = runs[-1]
        if first + length == number and first_earlier + length == earlier:
            runs[-1] = (first, first_earlier, length + 1)
            return
    runs.append((number, earlier, 1))


def _sent_before_file(into: str) -> str:
    return f"{into}/taken-over.jsonl"


async def read_sent_before(s3: S3Objects, plan: BatchPlan) -> list[SentBefore]:
    """Read the requests of an earlier plan for a plan's inputs."""
    body = await s3.read(_sent_before_file(plan.inputs))
    return [SentBefore(*json.loads(line)) for line in body.decode().splitlines()]


async def read_rows(s3: S3Objects, folder: AttemptFolder, shard: int) -> list[Row]:
    body = await s3.read(folder.rows_of(shard))
    return [Row.from_line(line) for line in body.decode().splitlines()]


@dataclass(frozen=True)
class Plans:
    """The plans of a batch in S3, numbered from 0; the last one counts."""

    s3: S3Objects
    folder: BatchFolder
    settings: BatchSettings

    async def latest(self) -> tuple[BatchPlan | None, int]:
        """Read the last plan, None if there is none, and return the number of the next.

        The number of a plan whose ``plan.json`` was deleted is not used again if other objects of it are left.

        :raises InvalidRequest: a plan is damaged, or another version wrote it
        """
        latest: BatchPlan | None = None
        number = 0
        while True:
            # In this order: except for the inputs, all objects of a plan are written after plan.json.
            behind = S3Uri.parse(self.folder.plan(number).behind_inputs)
            top = behind.key.rpartition("/")[0] + "/"
            remains = (await listed_names(self.s3, behind.bucket, top, start_after=behind.key)).names
            body = await self.s3.read_if_any(self.folder.plan(number).plan)
            if body is None and not remains:
                return latest, number
            latest, number = None if body is None else self._plan_in(body, number), number + 1

    def _plan_in(self, body: bytes, number: int) -> BatchPlan:
        try:
            return BatchPlan.from_json(body)
        except (ValueError, msgspec.MsgspecError) as error:
            raise InvalidRequest(
                f"{self.folder.plan(number).plan} is no plan that this version can go on with: another version wrote "
                f"it, or it is damaged ({error}). Remove the batch's folder {self.folder.location} and clear the "
                f"task, which sends everything again under names of its own"
            ) from error

    async def make(
        self, *, claim: Claim, number: int, reuse: PlanReuse | None, written: Mapping[str, str]
    ) -> BatchPlan | None:
        """List the inputs and fix them as a plan; return None if another process wrote a plan of this number.

        :param claim: of this process: its token separates its shards from another planner's
        :param written: locations that the batch and its endpoint write, as of :func:`check_inputs_apart`
        :raises InvalidRequest: there are no inputs, or one is not valid
        :raises FencedOff: another process has taken the batch over
        """
        folder, settings = self.folder.plan(number), self.settings
        into = folder.inputs(claim.token)
        summary = await plan_inputs(
            self.s3, settings.source, into=into, written=written, content_type=settings.template.content_type
        )
        carried, taken_over = await reuse.applied(self.s3, into, summary.shards) if reuse else ([], 0)
        plan = BatchPlan(
            format=FORMAT,
            number=number,
            count=summary.count,
            shards=summary.shards,
            digest=summary.digest,
            root=batch_root(settings.owner, settings.arguments, number, nonce=uuid.uuid4().hex),
            inputs=into,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            begun_by=settings.task_try,
            carried=tuple(carried),
            carried_from=reuse.carried_from if reuse else None,
            taken_over=tuple((first, end) for first, end in to_ranges(taken_over)),
            passed_over=summary.passed_over,
            run=settings.run,
        )
        await claim.check()
        try:
            await self.s3.write(folder.plan, plan.as_json(), only_if_new=True)
        except PreconditionFailed:
            return None
        log.info(
            "%d inputs, %d of them done before, %d sent before and waited for; the plan lies in %s",
            plan.count,
            plan.count - plan.to_send.bit_count(),
            taken_over.bit_count(),
            folder.location,
        )
        return plan
