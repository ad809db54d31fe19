"""Claims: cheap and reliable checks of the owner of a batch, in spite of transient errors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.retry import ATTEMPTS
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches import claim as claims
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import AccessDenied, FencedOff, ServiceUnavailable
from airflow_sm_plugin.multi_model.state.folder import ShardFolder
from tests.stubs.recorder import Asked, Said, recording
from tests.support import Account, unique

NO_LATER_CLAIM = Said(
    200,
    b"<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType></ListBucketResult>",
)
A_LATER_CLAIM = Said(
    200,
    b"<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
    b"<Contents><Key>f/claims/00000001.json</Key></Contents></ListBucketResult>",
)
SLOW_DOWN = Said(503, b"<Error><Code>SlowDown</Code><Message>from the test</Message></Error>")
FORBIDDEN = Said(403, b"<Error><Code>AccessDenied</Code><Message>from the test</Message></Error>")
FOLDER = ShardFolder("s3://b/f")

Use = Callable[[Claim], Awaitable[None]]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the claims."""
    clock = Clock()
    monkeypatch.setattr(claims, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter: a random number that is always 0 makes the pauses 0."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


def asked_of(answer: Callable[[Asked], Said], monkeypatch: pytest.MonkeyPatch, use: Use) -> int:
    """Use a claim on an S3 with answers of the test; count its requests."""

    async def opened() -> None:
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            await use(Claim(s3, FOLDER, token="t", number=0))

    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", recorder.url)
        asyncio.run(opened())
        return len(recorder.asked)


@pytest.mark.usefixtures("aws")
class TestChecks:
    """One claim, and an S3 with answers of the test."""

    def test_concurrent_checks_share_a_request(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        async def use(claim: Claim) -> None:
            await asyncio.gather(*(claim.check() for _ in range(20)))
            clock.now += 0.001
            await claim.check()

        assert asked_of(lambda _: NO_LATER_CLAIM, monkeypatch, use) == 2

    def test_a_recent_check_holds_for_a_second(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        async def use(claim: Claim) -> None:
            for seconds in (0.0, 0.5, 0.5, 0.01):
                clock.now += seconds
                await claim.check_lately()

        assert asked_of(lambda _: NO_LATER_CLAIM, monkeypatch, use) == 2

    def test_an_answer_counts_from_the_time_of_its_request(
        self, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> None:
        def slow(_: Asked) -> Said:
            clock.now += 10
            return NO_LATER_CLAIM

        async def use(claim: Claim) -> None:
            await claim.check()
            await claim.check_lately()

        assert asked_of(slow, monkeypatch, use) == 2

    def test_every_check_reports_a_later_claim(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        async def use(claim: Claim) -> None:
            await claim.check()
            clock.now += 2
            for check in (claim.check_lately, claim.check, claim.check_lately):
                with pytest.raises(FencedOff, match="another process has taken over"):
                    await check()

        answers = iter([NO_LATER_CLAIM])
        asked_of(lambda _: next(answers, A_LATER_CLAIM), monkeypatch, use)

    def test_a_transient_error_is_tried_five_times_in_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def passes(claim: Claim) -> None:
            await claim.check()

        async def fails(claim: Claim) -> None:
            with pytest.raises(ServiceUnavailable):
                await claim.check()

        answers = iter([SLOW_DOWN] * (ATTEMPTS - 1))
        assert asked_of(lambda _: next(answers, NO_LATER_CLAIM), monkeypatch, passes) == ATTEMPTS
        assert asked_of(lambda _: SLOW_DOWN, monkeypatch, fails) == ATTEMPTS

    def test_a_permanent_error_is_raised_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def use(claim: Claim) -> None:
            with pytest.raises(AccessDenied):
                await claim.check()

        assert asked_of(lambda _: FORBIDDEN, monkeypatch, use) == 1


def test_the_later_claim_owns_the_batch(account: Account, clock: Clock) -> None:
    async def use() -> None:
        folder = ShardFolder(f"s3://{account.bucket}/{unique('claims')}")
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            first = await Claim.taken(s3, folder, token="first", task_try=TaskTry())
            await first.check()
            second = await Claim.taken(s3, folder, token="second", task_try=TaskTry())
            assert len(await names_below(s3, folder.claims)) == 2
            await first.check_lately()  # it was so a moment ago
            clock.now += 0.001
            with pytest.raises(FencedOff):
                await first.check()
            await second.check()

    asyncio.run(use())
