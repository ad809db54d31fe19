"""The plan of a batch: which inputs it has, fixed once, and what of an earlier plan it need not send again."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.folder import BatchFolder, AttemptFolder
from airflow_sm_plugin.async_inference.batch.report import Row
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.locations import batch_root
from airflow_sm_plugin.batches.claim import Claim, listed_names
from airflow_sm_plugin.batches.input_chunks import plan_inputs
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.number_sets import below, from_ranges, to_ranges
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

Run = tuple[int, int, int]
"""First number here, first number in the earlier plan, how many."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The inputs of a batch, numbered from 0.

    :param number: 0 for the first; a batch whose task was cleared gets the next
    :param root: what begins every name of its invocations, and of no other plan's
    :param inputs: the folder of its shards
    :param created_at: ISO 8601
    :param carried: what succeeded under an earlier plan and is the same object still
    :param carried_from: the number of that plan, which is finished
    :param taken_over: ranges of numbers that an earlier, unfinished plan sent and that are the same object still: the
        first round waits for them
    :param passed_over: objects below the prefix that were no inputs when it was made
    :param begun_by: the try that made it
    :param run: which run of the task that was
    """

    number: int
    count: int
    shards: int
    digest: str
    root: str
    inputs: str
    created_at: str
    carried: tuple[Run, ...] = ()
    carried_from: int | None = None
    taken_over: tuple[tuple[int, int], ...] = ()
    passed_over: int = 0
    begun_by: TaskTry = field(default_factory=TaskTry)
    run: str | None = None

    def as_json(self) -> bytes:
        """Return the content of ``plan.json``, as :meth:`from_json` reads it."""
        return json.dumps(asdict(self) | {"begun_by": self.begun_by.as_list()}, indent=1).encode()

    @classmethod
    def from_json(cls, body: bytes) -> BatchPlan:
        """Read what :meth:`as_json` wrote."""
        value = json.loads(body)
        first, earlier, length = 0, 1, 2
        carried = tuple((run[first], run[earlier], run[length]) for run in value.pop("carried"))
        begun_by = TaskTry.from_list(value.pop("begun_by", None))
        if carried and "carried_from" not in value:  # an earlier version's: always the plan before
            value["carried_from"] = value["number"] - 1
        taken_over = tuple((first_number, end) for first_number, end in value.pop("taken_over", ()))
        return cls(**value, carried=carried, taken_over=taken_over, begun_by=begun_by)

    @property
    def to_send(self) -> int:
        """The set of numbers that are not carried over."""
        return below(self.count) & ~from_ranges([first, first + length] for first, _, length in self.carried)

    def carried_numbers(self) -> dict[int, int]:
        """Return the earlier plan's number of each that is carried over."""
        return {
            first + step: earlier + step for first, earlier, length in self.carried for step in range(length)
        }


class Reuse(Protocol):
    """What an earlier plan spares a new one."""

    @property
    def carried_from(self) -> int | None:
        """Number of the finished plan whose results count."""

    async def applied(self, s3: S3Objects, into: str, shards: int) -> tuple[list[Run], int]:
        """Return which inputs of a new plan have an output, and the set of those that were sent."""


class Plans:
    """All plans of a batch in S3."""

    def __init__(self, s3: S3Objects, folder: BatchFolder, settings: BatchSettings) -> None:
        self._s3 = s3
        self._folder = folder
        self._settings = settings

    async def latest(self) -> tuple[BatchPlan | None, int]:
        """Return the last plan, None where there is none, and the number of the next.

        What is left of a plan whose ``plan.json`` was removed belongs to no other plan: its number is passed over.
        """
        found: BatchPlan | None = None
        number = 0
        while True:
            # In this order: a plan is written before anything else of it but its inputs.
            remains = await self._has_remains(self._folder.plan(number))
            body = await self._s3.read_if_any(self._folder.plan(number).plan)
            if body is None and not remains:
                return found, number
            found, number = None if body is None else BatchPlan.from_json(body), number + 1

    async def _has_remains(self, folder: AttemptFolder) -> bool:
        uri = S3Uri.parse(f"{folder.location}/")
        behind = S3Uri.parse(folder.behind_inputs).key
        return bool((await listed_names(self._s3, uri.bucket, uri.key, start_after=behind)).names)

    def folder(self, plan: BatchPlan) -> AttemptFolder:
        """Return what the plan keeps."""
        return self._folder.plan(plan.number)

    async def make(
        self, *, claim: Claim, number: int, reuse: Reuse | None, places: Mapping[str, str]
    ) -> BatchPlan | None:
        """List the inputs and fix them as a plan; None when another process wrote one of this number.

        :param claim: of this process: its token keeps its shards apart from another planner's
        :param reuse: what an earlier plan spares this one
        :param places: where the batch and its endpoint write, as :func:`check_inputs_apart` takes it
        :raises InvalidRequest: there are no inputs, or one is not what it must be
        :raises FencedOff: another process has taken the batch over
        """
        folder, settings = self._folder.plan(number), self._settings
        into = folder.inputs(claim.token)
        summary = await plan_inputs(
            self._s3, settings.source, into=into, places=places, content_type=settings.template.content_type
        )
        carried, taken_over = await reuse.applied(self._s3, into, summary.shards) if reuse else ([], 0)
        root = batch_root(settings.owner, settings.arguments, number, nonce=uuid.uuid4().hex)
        plan = BatchPlan(
            number=number,
            count=summary.count,
            shards=summary.shards,
            digest=summary.digest,
            root=root,
            inputs=into,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            carried=tuple(carried),
            carried_from=reuse.carried_from if reuse else None,
            taken_over=tuple((first, end) for first, end in to_ranges(taken_over)),
            passed_over=summary.passed_over,
            begun_by=settings.task_try,
            run=settings.run,
        )
        await claim.check()
        try:
            await self._s3.write(folder.plan, plan.as_json(), only_if_new=True)
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


async def read_rows(s3: S3Objects, folder: AttemptFolder, shard: int) -> list[Row]:
    """Return the rows of one shard of a finished plan."""
    body = await s3.read(folder.rows_of(shard))
    return list(_rows_in(body))


def _rows_in(body: bytes) -> Iterator[Row]:
    return (Row.from_line(line) for line in body.decode().splitlines())


@dataclass(frozen=True)
class SentBefore:
    """An input whose request an earlier plan sent.

    :param number: of the input in the new plan
    :param is_assumed: no answer said that the request was accepted
    """

    number: int
    invocation: AsyncInvocation
    submitted_at: float
    is_assumed: bool

    def as_line(self) -> str:
        """Return it as a line of JSON, as :meth:`from_line` reads it."""
        invocation = self.invocation
        places = [invocation.output_location, invocation.failure_location, invocation.inference_id]
        return json.dumps([self.number, *places, self.submitted_at, self.is_assumed], separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> SentBefore:
        """Read what :meth:`as_line` wrote."""
        number, output, failure, inference_id, submitted_at, is_assumed = json.loads(line)
        return cls(
            number, AsyncInvocation(output, failure, inference_id), submitted_at, is_assumed=is_assumed
        )


def taken_over_file(into: str) -> str:
    return f"{into}/taken-over.jsonl"


async def read_sent_before(s3: S3Objects, plan: BatchPlan) -> list[SentBefore]:
    """Return what an earlier plan sent of a plan's inputs.

    :raises InputNotFound: it was deleted
    """
    body = await s3.read(taken_over_file(plan.inputs))
    return [SentBefore.from_line(line) for line in body.decode().splitlines()]
