"""The ledger in S3: only the process that took the batch over last can write, and no written part is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from airflow_sm_plugin.async_inference.batch.folder import BatchFolder
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart
from airflow_sm_plugin.async_inference.batch.ledger_store import LedgerStore, SubmissionRecord
from airflow_sm_plugin.async_inference.batch.round import RequestTemplate, RoundNames
from airflow_sm_plugin.async_inference.batch.submission import Submission
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.adaptive import SendRate
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.folder import numbered
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.number_sets import below, numbers_of
from airflow_sm_plugin.exceptions import AccessDenied, AnswerLost, FencedOff, ResourceConflict
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from tests.async_inference.batch.async_batches import CONNECTION
from tests.support import Account, unique

Result = TypeVar("Result")
NAMES = RoundNames("airflow-0123456789ab-p0", 1)


@pytest.fixture
def folder(account: Account) -> BatchFolder:
    return BatchFolder(f"s3://{account.bucket}/{unique('batch')}")


def in_s3(work: Callable[[S3Objects], Awaitable[Result]]) -> Result:
    async def opened() -> Result:
        async with S3Objects.open(CONNECTION) as s3:
            return await work(s3)

    return asyncio.run(opened())


async def taken_over(s3: S3Objects, folder: BatchFolder, token: str, count: int = 10) -> LedgerStore:
    claim = await Claim.taken(s3, folder, token=token, task_try=TaskTry())
    store = LedgerStore(s3, folder.plan(0).round(1), claim, count=count)
    await store.take_over()
    return store


async def submitted(store: LedgerStore, invoke: Callable[[AsyncRequest], Awaitable[AsyncInvocation]]) -> None:
    """Send the unsent numbers, one after the other."""

    async def request_of(number: int) -> AsyncRequest:
        return NAMES.request(
            number, BatchInput(source=f"s3://b/{number}"), RequestTemplate(endpoint_name="e")
        )

    submission = Submission(
        invoke=invoke,
        request_of=request_of,
        record=SubmissionRecord(store),
        send_rate=SendRate(now=0.0, max_rate=1_000),
        at_once=1,
        resend=False,
        patience=600,
        about="endpoint e",
    )
    await submission.run(store.ledger.unsent)


def accepted(request: AsyncRequest) -> AsyncInvocation:
    location = f"s3://b/out/{request.s3_output_path_extension}/{request.filename}"
    return AsyncInvocation(location, None, request.inference_id, submitted_at=1.0)


def test_an_orphan_cannot_write_any_more(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> Ledger:
        orphan = await taken_over(s3, folder, "orphan")
        await orphan.append(LedgerPart(token="orphan", written_at=1.0, may_send=below(4)))
        retry = await taken_over(s3, folder, "retry")
        with pytest.raises(FencedOff):
            await orphan.append(LedgerPart(token="orphan", written_at=2.0, accepted=below(4)))
        with pytest.raises(FencedOff):
            await LedgerStore(s3, folder.plan(0).round(1), orphan.claim, count=10).take_over()
        return retry.ledger

    assert list(numbers_of(in_s3(work).doubtful)) == [0, 1, 2, 3]


def test_an_orphan_notices_also_where_it_writes_no_ledger(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        orphan = await Claim.taken(s3, folder, token="orphan", task_try=TaskTry())
        await orphan.check()
        retry = await Claim.taken(s3, folder, token="retry", task_try=TaskTry())
        await retry.check()
        with pytest.raises(FencedOff):
            await orphan.check()

    in_s3(work)


def test_claims_that_race_all_get_a_number_of_their_own(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> list[int]:
        claims = await asyncio.gather(
            *(Claim.taken(s3, folder, token=f"t{n}", task_try=TaskTry()) for n in range(4))
        )
        return [claim.number for claim in claims]

    assert sorted(in_s3(work)) == [0, 1, 2, 3]


def test_an_own_part_whose_write_seemed_to_fail_is_recognised(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> Ledger:
        store = await taken_over(s3, folder, "a")
        lost = LedgerPart(token="a", written_at=1.0, may_send=below(3))
        await s3.write(numbered(folder.plan(0).round(1).ledger, store.ledger.parts), lost.as_json())
        await store.append(LedgerPart(token="a", written_at=2.0, accepted=below(2)))
        return await store.read()

    ledger = in_s3(work)
    assert (ledger.parts, list(numbers_of(ledger.accepted)), list(numbers_of(ledger.doubtful))) == (
        3,
        [0, 1],
        [2],
    )


def test_a_ledger_with_a_missing_part_is_refused(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        store = await taken_over(s3, folder, "a")
        await store.append(LedgerPart(token="a", written_at=1.0, may_send=1))
        await s3.delete(numbered(folder.plan(0).round(1).ledger, 0))
        with pytest.raises(ResourceConflict, match="not whole"):
            await store.read()

    in_s3(work)


def test_nothing_is_sent_that_no_written_part_intends(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        store = await taken_over(s3, folder, "a", count=230)
        reader = LedgerStore(s3, folder.plan(0).round(1), store.claim, count=230)

        async def invoke(request: AsyncRequest) -> AsyncInvocation:
            number = int(str(request.filename).partition(".")[0])
            if number % 20 == 0 or number == 229:
                assert (await reader.read()).intended >> number & 1
            return accepted(request)

        await submitted(store, invoke)
        assert (await reader.read()).settled == below(230)

    in_s3(work)


def test_an_error_of_the_endpoint_leaves_no_doubts(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        store = await taken_over(s3, folder, "a", count=50)

        async def invoke(request: AsyncRequest) -> AsyncInvocation:
            if request.filename == "0000007.out":
                raise AccessDenied("not allowed any more")
            return accepted(request)

        with pytest.raises(AccessDenied):
            await submitted(store, invoke)
        ledger = await store.read()
        assert list(numbers_of(ledger.accepted)) == list(range(7))
        assert not ledger.doubtful

    in_s3(work)


def test_a_lost_answer_leaves_just_its_own_number_in_doubt(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        store = await taken_over(s3, folder, "a", count=50)

        async def invoke(request: AsyncRequest) -> AsyncInvocation:
            if request.filename == "0000007.out":
                raise AnswerLost("no answer")
            return accepted(request)

        await submitted(store, invoke)
        assert list(numbers_of((await store.read()).doubtful)) == [7]

    in_s3(work)


def test_a_cancelled_run_records_the_answers_so_far(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        store = await taken_over(s3, folder, "a", count=50)
        reached = asyncio.Event()

        async def invoke(request: AsyncRequest) -> AsyncInvocation:
            if request.filename == "0000009.out":
                reached.set()
                await asyncio.Event().wait()
            return accepted(request)

        run = asyncio.create_task(submitted(store, invoke))
        await reached.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        ledger = await store.read()
        assert list(numbers_of(ledger.accepted)) == list(range(9))
        assert list(numbers_of(ledger.doubtful)) == [9]

    in_s3(work)


def test_an_overtaken_submission_stops(folder: BatchFolder) -> None:
    async def work(s3: S3Objects) -> None:
        store = await taken_over(s3, folder, "orphan", count=5_000)
        sent: list[str] = []

        async def invoke(request: AsyncRequest) -> AsyncInvocation:
            sent.append(str(request.filename))
            if len(sent) == 150:
                await taken_over(s3, folder, "retry", count=5_000)
            return accepted(request)

        with pytest.raises(FencedOff):
            await submitted(store, invoke)
        assert 150 <= len(sent) <= 150 + 200

    in_s3(work)
