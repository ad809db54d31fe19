"""One invocation, killed at every request it makes: an accepted request is not sent again, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.async_inference.single.input import Sending
from airflow_sm_plugin.async_inference.single.run import InvocationStore, SingleInvocation, record_loss
from airflow_sm_plugin.async_inference.single.state import Intent
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    AnswerLost,
    EndpointNotFound,
    FencedOff,
    InputNotFound,
    InvalidRequest,
)
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from tests.async_inference.batch.async_batches import invocations_of
from tests.stubs.killing_proxy import KillingProxy, killing_proxy
from tests.support import FAILING, POLL, Account, Answer, answering, unique

AWS = AwsConnection(aws_conn_id=None, botocore_config={"s3": {"addressing_style": "path"}})
SECRET = "trace-4711-secret"


def sending(account: Account, endpoint: str, **changes: Any) -> Sending:  # noqa: ANN401 - the fields' own
    """Return a first try's sending with a state of its own."""
    fields: dict[str, Any] = {
        "request": AsyncRequest(
            endpoint_name=endpoint,
            input_location=account.upload("1,2,3"),
            custom_attributes=SECRET,
            inference_id=unique("i"),
        ),
        "owner": unique("o")[-12:],
        "task_try": TaskTry(),
        "is_repeated": False,
        "state_prefix": f"s3://{account.bucket}/{unique('state')}",
    }
    return Sending(**fields | changes).checked()


def retried(first: Sending, **changes: Any) -> Sending:  # noqa: ANN401 - the fields' own
    given: dict[str, Any] = {"task_try": TaskTry(None, first.task_try.number + 1), "is_repeated": True}
    return replace(first, **given | changes)


async def submit(account: Account, submission: Sending) -> AsyncInvocation:
    async with S3Objects.open(AWS) as s3, AsyncInvoker.open(AWS) as invoker:
        endpoint = KnownEndpoint(account, submission.request.endpoint_name)
        return await SingleInvocation(submission, s3=s3, invoker=invoker, endpoint=endpoint).submit()


class KnownEndpoint(EndpointFacts):
    """It describes the endpoint past the proxy: another client asks, at a time that does not matter."""

    def __init__(self, account: Account, name: str) -> None:
        super().__init__(AWS, name)
        self.account = account
        self.name = name

    async def output_paths(self) -> tuple[str, str | None]:
        try:
            description = self.account.sagemaker.describe_endpoint(EndpointName=self.name)
        except self.account.sagemaker.exceptions.ClientError as error:
            raise EndpointNotFound(self.name) from error
        config = description["AsyncInferenceConfig"]["OutputConfig"]
        return config["S3OutputPath"], config.get("S3FailurePath")


class UnknownEndpoint(EndpointFacts):
    async def output_paths(self) -> tuple[str, str | None]:
        raise AccessDenied("not permitted")


def run(account: Account, submission: Sending) -> AsyncInvocation:
    return asyncio.run(submit(account, submission))


def accepted(account: Account, endpoint: str) -> int:
    """Return how many invocations an endpoint accepted."""
    return invocations_of(account, endpoint)


def objects(account: Account, location: str) -> list[str]:
    """Return the names of the objects below a location."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    listed = account.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return sorted(listed_object["Key"].rpartition("/")[2] for listed_object in listed)


def wait_for(account: Account, location: str | None) -> bytes:
    """Wait for an object of the embedded service; pytest's own limit ends a wait in vain."""
    while True:
        try:
            return account.read(str(location))
        except account.s3.exceptions.NoSuchKey:
            time.sleep(POLL)


@pytest.fixture
def endpoint(account: Account, shared_endpoint: str) -> str:
    return shared_endpoint


@pytest.fixture(scope="module")
def shared_endpoint(module_account: Account) -> Iterator[str]:
    name = module_account.deploy(asynchronous=True)
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture
def proxy(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[KillingProxy]:
    with killing_proxy(account.url) as created:
        monkeypatch.setenv("AWS_ENDPOINT_URL", created.url)
        yield created


def invocations_in(asked: list[str]) -> int:
    return sum(path.endswith("/async-invocations") for path in asked)


@pytest.mark.slow
class TestKilledAnywhere:
    """The n-th request of a try is its last, for every n: not carried out, or carried out without an answer."""

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("resend", [False, True], ids=["wait", "resend"])
    def test_with_state(
        self, account: Account, endpoint: str, proxy: KillingProxy, resend: bool, after: bool
    ) -> None:
        proxy.kill_at(None)
        proxy.run(submit(account, sending(account, endpoint, resend=resend)))
        undisturbed = list(proxy.asked)
        intent = next(n for n, path in enumerate(undisturbed) if path.endswith("00000-intent.json"))
        sent = next(n for n, path in enumerate(undisturbed) if path.endswith("/async-invocations"))
        record = next(n for n, path in enumerate(undisturbed) if path.endswith("00000-accepted.json"))
        assert intent < sent < record

        for number in range(len(undisturbed)):
            first = sending(account, endpoint, resend=resend)
            before = accepted(account, endpoint)
            proxy.kill_at(number, after=after)
            assert proxy.run(submit(account, first)) is None, undisturbed[number]
            killed_after = accepted(account, endpoint) - before
            proxy.kill_at(None)
            submitted = proxy.run(submit(account, retried(first)))
            assert submitted is not None
            in_all = accepted(account, endpoint) - before

            is_known = number > record or (number == record and after)
            in_doubt = (number > intent or (number == intent and after)) and not is_known
            kill = f"killed {'after' if after else 'before'} {undisturbed[number]}"
            assert killed_after == (number > sent or (number == sent and after)), kill
            if not in_doubt or not resend:
                assert in_all == (killed_after if in_doubt else 1), kill
            if in_doubt and resend and in_all == 1:
                assert not invocations_in(proxy.asked) or not killed_after, kill
            if in_all:
                assert wait_for(account, submitted.output_location) == b"1,2,3", kill
                assert submitted.inference_id == first.request.inference_id

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_without_state_the_name_is_the_memory(
        self, account: Account, endpoint: str, proxy: KillingProxy, after: bool
    ) -> None:
        proxy.kill_at(None)
        proxy.run(submit(account, sending(account, endpoint, state_prefix=None)))
        undisturbed = list(proxy.asked)
        for number in range(len(undisturbed)):
            first = sending(account, endpoint, state_prefix=None)
            before = accepted(account, endpoint)
            proxy.kill_at(number, after=after)
            assert proxy.run(submit(account, first)) is None
            was_sent = accepted(account, endpoint) > before
            proxy.kill_at(None)
            submitted = proxy.run(submit(account, retried(first)))
            assert submitted is not None
            assert wait_for(account, submitted.output_location) == b"1,2,3"
            again = run(account, retried(first, task_try=TaskTry(None, 3)))
            assert again.output_location == submitted.output_location
            assert accepted(account, endpoint) - before <= 1 + was_sent


class TestState:
    def test_a_retry_returns_the_accepted_invocation(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint)
        submitted = run(account, first)
        before = accepted(account, endpoint)
        assert run(account, retried(first)) == submitted
        assert accepted(account, endpoint) == before

    def test_it_holds_no_secret(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint)
        run(account, first)
        prefix = str(first.state_prefix).removeprefix(f"s3://{account.bucket}/")
        listed = account.s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix)["Contents"]
        bodies = [
            account.read(f"s3://{account.bucket}/{listed_object['Key']}").decode() for listed_object in listed
        ]
        assert len(bodies) == 2
        assert SECRET not in f"{bodies}{listed}"

    def test_other_arguments_are_another_request(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint)
        submitted = run(account, first)
        other = retried(first, request=replace(first.request, content_type="text/csv"))
        assert run(account, other).output_location != submitted.output_location

    def test_a_changed_input_is_sent_again_under_another_name(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint)
        submitted = run(account, first)
        account.upload("4,5", str(first.request.input_location).removeprefix(f"s3://{account.bucket}/"))
        again = run(account, retried(first))
        assert wait_for(account, again.output_location) == b"4,5"
        assert again.output_location != submitted.output_location

    def test_an_input_that_is_gone_does_not_matter_once_it_was_accepted(
        self, account: Account, endpoint: str
    ) -> None:
        first = sending(account, endpoint)
        submitted = run(account, first)
        wait_for(account, submitted.output_location)
        key = str(first.request.input_location).removeprefix(f"s3://{account.bucket}/")
        account.s3.delete_object(Bucket=account.bucket, Key=key)
        assert run(account, retried(first)) == submitted
        with pytest.raises(InputNotFound):
            run(account, retried(first, owner="another"))

    def test_a_failed_inference_is_sent_again_under_another_name(self, account: Account) -> None:
        name = account.deploy(FAILING, asynchronous=True)
        first = sending(account, name)
        submitted = run(account, first)
        wait_for(account, submitted.failure_location)
        again = run(account, retried(first))
        assert again.output_location != submitted.output_location
        wait_for(account, again.failure_location)
        assert accepted(account, name) == 2
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_a_process_left_behind_sends_nothing(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint, task_try=TaskTry(OLD, 1))
        run(account, retried(first, task_try=TaskTry(OLD, 2)))
        before = accepted(account, endpoint)
        with pytest.raises(FencedOff, match="try 2 of this task instance has taken over"):
            run(account, first)
        assert accepted(account, endpoint) == before

    def test_a_request_lost_with_its_endpoint_is_sent_again_under_another_name(
        self, account: Account, endpoint: str
    ) -> None:
        request = AsyncRequest(endpoint_name=endpoint, body=b"1,2,3", inference_id=unique("i"))
        first = sending(account, endpoint, request=request)
        lost = AsyncInvocation(f"s3://{account.bucket}/never.out")
        folder = str(first.state_folder)
        intent = Intent(
            number=0,
            round_number=0,
            task_try=TaskTry(None, 2),
            over_at=time.time() + 600,
            input_etag=None,
            invocation=lost,
        )

        async def remembered() -> None:
            async with S3Objects.open(AWS) as s3:
                store = InvocationStore(s3, folder)
                assert await store.intend(intent)
                answer: asyncio.Future[AsyncInvocation] = asyncio.Future()
                answer.set_result(lost)
                await store.settle(intent, answer)

        asyncio.run(remembered())
        second = retried(first)
        assert run(account, second) == lost
        with pytest.raises(FencedOff):
            asyncio.run(record_loss(AWS, folder, TaskTry()))
        assert run(account, second) == lost
        asyncio.run(record_loss(AWS, folder, TaskTry(None, 2)))
        asyncio.run(record_loss(AWS, folder, TaskTry(None, 2)))
        before = accepted(account, endpoint)
        again = run(account, retried(second))
        assert again.output_location != lost.output_location
        assert run(account, retried(second)) == again
        assert accepted(account, endpoint) == before + 1
        assert objects(account, folder) == [
            "00000-accepted.json",
            "00000-intent.json",
            "00000-lost.json",
            "00001-accepted.json",
            "00001-intent.json",
        ]

    def test_a_loss_that_cannot_be_written_is_reported_with_the_way_out(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with answering(Answer(403, "AccessDenied")) as (forbidding, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", forbidding)
            asyncio.run(record_loss(AWS, f"s3://{account.bucket}/state/", TaskTry()))
        assert "the endpoint is gone, which could not be written below" in caplog.text
        assert "on_rerun='restart'" in caplog.text

    def test_of_two_at_once_one_sends(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint)
        before = accepted(account, endpoint)

        async def both() -> tuple[AsyncInvocation | BaseException, ...]:
            tries = (submit(account, first), submit(account, replace(first, is_repeated=True)))
            return tuple(await asyncio.gather(*tries, return_exceptions=True))

        submitted = asyncio.run(both())
        assert {
            invocation.output_location for invocation in submitted if isinstance(invocation, AsyncInvocation)
        } == {cast("AsyncInvocation", submitted[0]).output_location}
        assert accepted(account, endpoint) == before + 1

    def test_a_refusal_leaves_no_doubt(self, account: Account) -> None:
        first = sending(account, "no-such-endpoint")
        with pytest.raises(EndpointNotFound):
            run(account, first)
        assert objects(account, str(first.state_prefix)) == []

    def test_a_name_that_is_taken_is_not_used(self, account: Account, endpoint: str) -> None:
        """A user removed the state to have it sent again: the old output is not the new one's."""
        first = sending(account, endpoint)
        submitted = run(account, first)
        wait_for(account, submitted.output_location)
        again = retried(first, state_prefix=f"s3://{account.bucket}/{unique('other')}")
        assert run(account, again).output_location != submitted.output_location

    def test_a_users_name_that_is_taken_is_refused_where_it_would_be_waited_for(
        self, account: Account, endpoint: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        request = replace(sending(account, endpoint).request, filename=f"{unique('f')}.csv")
        submitted = run(account, sending(account, endpoint, request=request))
        wait_for(account, submitted.output_location)
        with pytest.raises(InvalidRequest, match="is there already, from an earlier inference"):
            run(account, sending(account, endpoint, request=request, is_waited_for=True))
        with pytest.raises(InvalidRequest, match="is there already, from an earlier inference"):
            run(account, sending(account, endpoint, request=request, is_waited_for=True, state_prefix=None))
        assert (
            run(account, sending(account, endpoint, request=request)).output_location
            == submitted.output_location
        )
        assert "make filename or s3_output_path_extension differ by run" in caplog.text


class TestLostAnswers:
    """The answer is lost, and the process lives."""

    @pytest.fixture
    def _lost(self, account: Account, endpoint: str) -> Iterator[None]:
        rule = {"operation": "InvokeEndpointAsync", "fault": "lost_answer", "times": 1, "resource": endpoint}
        self._faults(account, "POST", [rule])
        yield
        self._faults(account, "DELETE")

    @staticmethod
    def _faults(account: Account, method: str, rules: object = None) -> None:
        body = None if rules is None else json.dumps(rules).encode()
        request = urllib.request.Request(f"{account.url}/_embedded/faults", data=body, method=method)
        urllib.request.urlopen(request, timeout=600).close()

    @pytest.mark.usefixtures("_lost")
    @pytest.mark.parametrize("with_state", [True, False])
    def test_it_is_waited_for_where_its_name_says(
        self, account: Account, endpoint: str, with_state: bool
    ) -> None:
        before = accepted(account, endpoint)
        first = sending(account, endpoint, **({} if with_state else {"state_prefix": None}))
        submitted = run(account, first)
        assert wait_for(account, submitted.output_location) == b"1,2,3"
        assert run(account, retried(first)).output_location == submitted.output_location
        assert accepted(account, endpoint) == before + 1

    @pytest.mark.usefixtures("_lost")
    def test_or_sent_again_under_the_same_name(self, account: Account, endpoint: str) -> None:
        before = accepted(account, endpoint)
        first = sending(account, endpoint, resend=True)
        assert wait_for(account, run(account, first).output_location) == b"1,2,3"
        assert accepted(account, endpoint) == before + 2
        assert objects(account, str(first.state_prefix)) == ["00000-accepted.json", "00000-intent.json"]

    @pytest.mark.usefixtures("_lost")
    def test_where_its_location_is_unknown_the_doubt_is_reported_and_stays(
        self, account: Account, endpoint: str
    ) -> None:
        async def blind(submission: Sending) -> AsyncInvocation:
            async with S3Objects.open(AWS) as s3, AsyncInvoker.open(AWS) as invoker:
                endpoint = UnknownEndpoint(AWS, submission.request.endpoint_name)
                return await SingleInvocation(submission, s3=s3, invoker=invoker, endpoint=endpoint).submit()

        before = accepted(account, endpoint)
        first = sending(account, endpoint)
        with pytest.raises(AnswerLost):
            asyncio.run(blind(first))
        with pytest.raises(InvalidRequest, match="it is not known where its output would be"):
            asyncio.run(blind(retried(first)))
        assert accepted(account, endpoint) == before + 1
        assert asyncio.run(blind(retried(first, resend=True))).output_location
        assert accepted(account, endpoint) == before + 2


class TestUpload:
    def test_a_large_body_goes_through_s3_once_per_content(self, account: Account, endpoint: str) -> None:
        folder = f"s3://{account.bucket}/{unique('uploads')}/"
        body = b"x" * 128_001
        request = AsyncRequest(endpoint_name=endpoint, body=body, inference_id="i", content_type="text/csv")
        first = sending(account, endpoint, request=request, upload_prefix=folder)
        submitted = run(account, first)
        assert wait_for(account, submitted.output_location) == body
        assert str(submitted.input_location).startswith(f"{folder}{first.owner}-")
        assert run(account, retried(first)) == submitted
        other = sending(
            account, endpoint, request=replace(request, body=b"y" * 128_001), upload_prefix=folder
        )
        assert run(account, replace(other, owner=first.owner)).input_location != submitted.input_location
        assert len(objects(account, folder)) == 2

    def test_a_small_one_goes_inline(self, account: Account, endpoint: str) -> None:
        folder = f"s3://{account.bucket}/{unique('uploads')}"
        request = AsyncRequest(endpoint_name=endpoint, body=b"x" * 128_000, inference_id="i")
        run(account, sending(account, endpoint, request=request, upload_prefix=folder))
        assert objects(account, folder) == []

    def test_without_a_location_it_is_refused_with_the_remedy(self, account: Account) -> None:
        request = AsyncRequest(endpoint_name="e", body=b"x" * 128_001)
        with pytest.raises(
            InvalidRequest, match=r"128001 bytes, SageMaker takes up to 128000: .* pass upload_prefix"
        ):
            sending(account, "e", request=request)


OLD, NEW = 1_000.0, 2_000.0
"""When a DAG run began, and when the one began that was created again under its id."""


class TestADagRunMadeAgainUnderItsOldId:
    @pytest.mark.parametrize("remembers", [True, False])
    @pytest.mark.parametrize("number", [1, 2])
    def test_gets_a_result_of_its_own(
        self, account: Account, endpoint: str, remembers: bool, number: int
    ) -> None:
        prefix = f"s3://{account.bucket}/{unique('state')}" if remembers else None
        old = sending(account, endpoint, task_try=TaskTry(OLD, 3), is_repeated=True, state_prefix=prefix)
        left = run(account, old)
        wait_for(account, left.output_location)
        before = accepted(account, endpoint)
        new = replace(old, task_try=TaskTry(NEW, number), is_repeated=number > 1)
        if remembers and number > 1:
            run(account, replace(new, task_try=TaskTry(NEW, 1), is_repeated=False))
        submitted = run(account, new)
        assert submitted.output_location != left.output_location
        assert accepted(account, endpoint) == before + 1
        assert wait_for(account, submitted.output_location) == b"1,2,3"
        retry = replace(new, task_try=TaskTry(NEW, number + 1), is_repeated=True)
        assert run(account, retry).output_location == submitted.output_location
        assert accepted(account, endpoint) == before + 1
        if remembers:
            with pytest.raises(FencedOff):
                run(account, old)

    def test_without_start_dates_a_finished_one_of_a_later_try_fences_no_try_off(
        self, account: Account, endpoint: str
    ) -> None:
        """It may be a deleted run's; without dates this is unknown."""
        old = sending(account, endpoint, task_try=TaskTry(None, 3), is_repeated=True)
        left = run(account, old)
        wait_for(account, left.output_location)
        new = replace(old, task_try=TaskTry(), is_repeated=False)
        before = accepted(account, endpoint)
        assert run(account, new).output_location == left.output_location
        assert accepted(account, endpoint) == before
        bucket, _, key = str(old.request.input_location).removeprefix("s3://").partition("/")
        account.s3.put_object(Bucket=bucket, Key=key, Body="4,5,6")
        assert wait_for(account, run(account, new).output_location) == b"4,5,6"
        retry = replace(new, task_try=TaskTry(None, 2), is_repeated=True)
        assert wait_for(account, run(account, retry).output_location) == b"4,5,6"
        assert accepted(account, endpoint) == before + 1

    def test_a_state_that_was_removed_leaves_no_names_behind(self, account: Account, endpoint: str) -> None:
        first = sending(account, endpoint)
        names = {
            run(account, replace(first, state_prefix=f"{first.state_prefix}/{n}")).output_location
            for n in (1, 2)
        }
        assert len(names) == 2
