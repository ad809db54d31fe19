"""Payloads through an endpoint that answers anything, in virtual time: each ends exactly once."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_plugin.batch.engine_settings import EngineSettings
from airflow_sm_plugin.batch.invocations import Invocations
from airflow_sm_plugin.batch.model_feed import ModelFeed
from airflow_sm_plugin.batch.open_input import Job, OpenInput, Result
from airflow_sm_plugin.core.batch_journal import Story
from airflow_sm_plugin.core.batch_statistics import Statistics
from airflow_sm_plugin.core.input_manifest import BatchInput
from airflow_sm_plugin.core.payloads import Payload
from airflow_sm_plugin.core.shard_plan import ModelWork
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks.endpoint_invoker import EndpointInvoker, ModelAnswer

LONGEST = 3_000.0
"""Seconds of virtual time within which all must have ended."""


class VirtualTime(selectors.SelectSelector):
    """Whoever waits is there at once: waiting only moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._virtual = VirtualTime()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def answer_of(kind: str) -> ModelAnswer:
    """Return an answer, or raise what the word says."""
    errors: dict[str, tuple[str, int, dict[str, Any]]] = {
        "throttled": ("ThrottlingException", 400, {}),
        "unavailable": ("ServiceUnavailable", 503, {}),
        "not ready": ("ModelNotReadyException", 429, {}),
        "refused": ("ModelError", 424, {"OriginalStatusCode": 400, "OriginalMessage": "bad"}),
        "no memory": ("ModelError", 424, {"OriginalStatusCode": 507}),
        "gone": ("ValidationError", 400, {"message": "Failed to download model data (bucket: b, key: k)"}),
    }
    if kind == "ok":
        return ModelAnswer(b"1\n", None, None)
    if kind == "silent":
        raise ReadTimeoutError(endpoint_url="x")
    code, status, more = errors[kind]
    message = more.pop("message", kind)
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raise ClientError(cast("Any", {**response, **more}), "InvokeEndpoint")


class Script:
    """An endpoint that answers by a script, then well; each answer takes a while."""

    def __init__(self, words: list[str], seconds: float, most: int) -> None:
        self._words = list(reversed(words))
        self._seconds = seconds
        self._most = most
        self._now = 0
        self.calls = 0

    async def invoke(self, body: bytes, parameters: Mapping[str, str]) -> ModelAnswer:  # noqa: ARG002 - ModelCalls' own
        self.calls += 1
        self._now += 1
        assert self._now <= self._most, "more were in flight than the bound says"
        try:
            await asyncio.sleep(self._seconds)
            return answer_of(self._words.pop() if self._words else "ok")
        finally:
            self._now -= 1


class Ends:
    """How each payload ended."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.ended: Counter[tuple[int, int]] = Counter()
        self.over = asyncio.Event()
        self.calls: Invocations | None = None

    def _end(self, one: OpenInput, start: int) -> None:
        self.ended[(one.number, start)] += 1
        self.left -= 1
        one.feed.outstanding -= 1
        if not one.feed.outstanding and self.calls is not None:
            self.calls.turns.close(one.feed.lane)
            self.calls.pump()
        if not self.left:
            self.over.set()

    def succeeded(self, job: Job, result: Result) -> None:
        self._end(job.input, result.start)

    def failed(
        self,
        one: OpenInput,
        payload: Payload,
        error: type[SageMakerInferenceError],  # noqa: ARG002 - as a Settler is called
        *,
        status: int | None,  # noqa: ARG002 - as above
        message: str,  # noqa: ARG002 - as above
        attempts: int,
    ) -> None:
        assert attempts >= 0
        for number in range(payload.records):
            self._end(one, payload.start + number)

    def halved(self, one: OpenInput) -> None:
        one.feed.outstanding += 1

    def died(self) -> None:
        pass


async def run(words: list[str], *, models: int, payloads: int, at_once: int, seconds: float) -> Ends:
    """Send payloads of some models until each has ended."""
    ends, tasks = Ends(models * payloads), set[asyncio.Task[None]]()
    failed: list[BaseException] = []

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.append(error)
            ends.over.set()

    given_ = EngineSettings(
        endpoint_name="e", max_concurrent_transforms=at_once, attempts=3, model_load_seconds=30
    )
    invoker = EndpointInvoker(Script(words, seconds, at_once))
    calls = Invocations(invoker, given_, Statistics(), ends, spawn=spawn, unwritten_bytes=lambda: 0)
    ends.calls = calls
    for number in range(models):
        work = ModelWork(target_model=f"m{number}", first=number, count=1, bytes=1)
        feed = ModelFeed(work, calls.turns.open(work.target_model), [])
        one = OpenInput(number, BatchInput(source="s3://b/k"), feed, Story(number, []), given_.output)
        feed.outstanding = payloads
        for start in range(payloads):
            calls.add(feed.lane, Job(one, Payload(b"x", start, start + 1, start, 1)))
    calls.pump()
    try:
        async with asyncio.timeout(LONGEST):
            await ends.over.wait()
    finally:
        calls.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise failed[0]
    assert calls.turns.in_flight == 0
    return ends


WORDS = st.sampled_from(
    ["ok", "ok", "throttled", "unavailable", "not ready", "refused", "no memory", "gone", "silent"]
)


@settings(max_examples=80, deadline=None)
@given(
    words=st.lists(WORDS, max_size=60),
    models=st.integers(1, 4),
    payloads=st.integers(1, 12),
    at_once=st.integers(1, 8),
    seconds=st.sampled_from([0.0, 0.02, 3.0]),
)
def test_any_sequence_of_answers_ends_each_payload_exactly_once(
    *, words: list[str], models: int, payloads: int, at_once: int, seconds: float
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ends = runner.run(run(words, models=models, payloads=payloads, at_once=at_once, seconds=seconds))
    assert set(ends.ended) == {(model, start) for model in range(models) for start in range(payloads)}
    assert set(ends.ended.values()) == {1}


def test_payloads_sit_out_an_outage_of_half_a_minute() -> None:
    """They would have spent their attempts within seconds."""

    async def through_outage() -> Ends:
        return await run(["ok"] + ["unavailable"] * 30, models=1, payloads=40, at_once=4, seconds=0.02)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ends = runner.run(through_outage())
    assert ends.left == 0


def test_an_endpoint_that_never_answers_ends_the_task() -> None:
    async def silent() -> Ends:
        return await run(["silent"] * 10_000, models=1, payloads=60, at_once=4, seconds=0.02)

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(SageMakerInferenceError, match="20 payloads in a row"),
    ):
        runner.run(silent())
