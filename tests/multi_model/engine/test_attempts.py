"""Payloads through an endpoint that answers anything, in virtual time: each ends exactly once."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import EndpointNotFound, RecordTooLarge, SageMakerInferenceError
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer, Parameters
from airflow_sm_plugin.invoke.errors import failure_of
from airflow_sm_plugin.invoke.failure import Attempt
from airflow_sm_plugin.multi_model.engine.engine import first_error
from airflow_sm_plugin.multi_model.engine.invocations import Invocations
from airflow_sm_plugin.multi_model.engine.judgement import PayloadFate, judge
from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.engine.work import Job, OpenInput
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.state.journal import InputProgress
from airflow_sm_plugin.multi_model.state.records import FailedRecords, Result
from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from tests.recorded_calls import SITUATIONS, recorded_error

LONGEST = 3_000.0
"""Seconds of virtual time within which all must have ended."""


class VirtualTime(selectors.SelectSelector):
    """A selector that never waits: a time-out only moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._virtual = VirtualTime()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def answer_of(kind: str) -> ModelAnswer:
    """Answer well, or raise the error of that kind."""
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
    if kind in GARBLED:
        raise ClientError(cast("Any", GARBLED[kind]), "InvokeEndpoint")
    if kind in SITUATIONS:
        raise recorded_error(kind)
    code, status, more = errors[kind]
    message = more.pop("message", kind)
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raise ClientError(cast("Any", {**response, **more}), "InvokeEndpoint")


class Script:
    """An endpoint that answers from a list of kinds, then well.

    :param seconds: latency of each answer
    :param most: limit of requests in flight
    """

    def __init__(self, words: list[str], seconds: float, most: int) -> None:
        self._words = list(reversed(words))
        self._seconds = seconds
        self._most = most
        self._now = 0
        self.calls = 0

    async def invoke(self, body: bytes, parameters: Parameters, _: str | None) -> ModelAnswer:  # noqa: ARG002 - as invoke() is called
        self.calls += 1
        self._now += 1
        assert self._now <= self._most, "more were in flight than the bound says"
        try:
            await asyncio.sleep(self._seconds)
            return answer_of(self._words.pop() if self._words else "ok")
        finally:
            self._now -= 1


class Ends:
    """Each payload's end."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.ended: Counter[tuple[int, int]] = Counter()
        self.good: set[tuple[int, int]] = set()
        self.errors: set[type[SageMakerInferenceError]] = set()

    async def collect(self, results: ResultQueue) -> None:
        while (items := await results.take()) is not None:
            for open_input, item in items:
                if isinstance(item, Result):
                    first = item.first_record
                    self.good.update((open_input.entry, first + n) for n in range(item.records))
                    self._end(open_input, first, item.records)
                elif isinstance(item, FailedRecords):
                    assert item.attempts >= 0
                    assert item.message
                    assert item.records is not None
                    self.errors.add(item.error)
                    self._end(open_input, item.first_record, item.records)

    def _end(self, open_input: OpenInput, first: int, records: int) -> None:
        self.ended.update((open_input.entry, record) for record in range(first, first + records))
        self.left -= records


async def run(words: list[str], *, models: int, payloads: int, at_once: int, seconds: float) -> Ends:
    """Send payloads of some models until each has ended."""
    batch = [[Payload(b"x", start, start + 1, start, 1) for start in range(payloads)] for _ in range(models)]
    return await send(batch, Script(words, seconds, at_once), at_once=at_once)


async def send(
    batch: list[list[Payload]], endpoint: Script | Poisoned | Behaving, *, at_once: int, isolate: bool = False
) -> Ends:
    """Send each model's payloads until each record has ended."""
    ends = Ends(sum(payload.records for payloads in batch for payload in payloads))
    engine_settings = EngineSettings(
        endpoint_name="e",
        max_concurrent_transforms=at_once,
        attempts=3,
        model_load_seconds=30,
        isolate_bad_records=isolate,
    )
    statistics, results = Statistics(), ResultQueue()
    queue = PayloadQueue(engine_settings, statistics)
    calls = Invocations(engine_settings, EndpointInvoker(endpoint.invoke), queue, results, statistics)

    async def read() -> None:
        for number, payloads in enumerate(batch):
            model = await queue.open(f"m{number}")
            open_input = OpenInput(
                number,
                BatchInput(source="s3://b/k"),
                model,
                InputProgress(number, []),
                engine_settings.output,
            )
            queue.put(model, [Job(open_input, payload) for payload in payloads])
            queue.end(model)
        queue.close()

    try:
        async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as stages:
            stages.create_task(ends.collect(results))
            stages.create_task(read())
            stages.create_task(calls.run())
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    calls.attempts.conclusions.check_served()
    assert queue.schedule.in_flight == 0
    return ends


GARBLED: dict[str, dict[str, Any]] = {
    "no error in it": {},
    "no words": {"Error": {"Code": None, "Message": None}, "ResponseMetadata": {"HTTPStatusCode": 400}},
    "a status of letters": {
        "Error": {"Code": "ModelError"},
        "OriginalStatusCode": "bad",
        "OriginalMessage": 7,
    },
    "half a surrogate pair": {"Error": {"Code": "\ud800", "Message": "\udfff\0"}},
    "a status of the future": {"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": 799}},
}

WORDS = st.sampled_from(
    ["ok", "ok", "throttled", "unavailable", "not ready", "refused", "no memory", "gone", "silent"]
) | st.sampled_from(
    [
        *GARBLED,
        *(
            name
            for name in SITUATIONS
            if judge(failure_of(recorded_error(name))).fate is not PayloadFate.ENDPOINT
        ),
    ]
)


@settings(max_examples=120, deadline=None)
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


def test_payloads_outlast_an_outage_of_half_a_minute() -> None:
    """Without the rule for outages they would have spent their attempts within seconds."""

    async def through_outage() -> Ends:
        return await run(["ok"] + ["unavailable"] * 30, models=1, payloads=40, at_once=4, seconds=0.02)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ends = runner.run(through_outage())
    assert ends.left == 0


@pytest.mark.parametrize("at_once", [8, 64])
def test_an_endpoint_that_serves_few_calls_a_second_fails_no_payload(at_once: int) -> None:
    """Payloads are throttled more often than they have attempts; that is not their fault."""
    served: Counter[int] = Counter()

    def behave(model: int, numbers: list[int], now: float) -> str | None:
        served[int(now)] += 1
        return None if served[int(now)] <= 4 else "throttled at the runtime"

    endpoint = Behaving(behave)
    ends = through([singles(400)], endpoint, at_once=at_once)
    assert len(ends.good) == 400
    assert endpoint.calls > 1_000


@pytest.mark.parametrize(
    "failure",
    ["silent", "reset", "the queue of a model's workers is full", "the role of a call is not permitted"],
)
def test_throttling_counts_for_nothing_when_another_failure_follows(failure: str) -> None:
    """A payload of 5 MB, too: a connection that is reset once, after throttling, is no sign of its size."""
    seen: Counter[int] = Counter()

    def behave(model: int, numbers: list[int], now: float) -> str | None:
        if numbers != [0]:
            return None
        seen[0] += 1
        return "throttled at the runtime" if seen[0] <= 5 else failure if seen[0] == 6 else None

    large = Payload(b"000" + b" " * 5_000_000, 0, 5_000_003, 0, 1)
    others = [lines(number, 1) for number in range(1, 900)]
    ends = through([[large, *others]], Behaving(behave))
    assert len(ends.good) == 900
    assert seen[0] == 7


def test_an_endpoint_that_never_answers_ends_the_task() -> None:
    async def silent() -> Ends:
        return await run(["silent"] * 10_000, models=1, payloads=60, at_once=4, seconds=0.02)

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(SageMakerInferenceError, match="payload after payload"),
    ):
        runner.run(silent())


class Poisoned:
    """An endpoint that answers well, but for a request that holds certain records.

    :param drawn: the situation that a record draws, by model and record number
    :param times: how often the record draws it; None is each time
    """

    def __init__(self, drawn: Mapping[tuple[int, int], str], *, times: int | None) -> None:
        self._drawn = drawn
        self._left: Counter[tuple[int, int]] = Counter(dict.fromkeys(drawn, times or 0))
        self._times = times

    async def invoke(self, body: bytes, parameters: Parameters, _: str | None) -> ModelAnswer:
        await asyncio.sleep(0.02)
        model = int(str(parameters.target_model)[1:])
        for line in body.split():
            record = (model, int(line))
            if record in self._drawn and (self._times is None or self._left[record]):
                self._left[record] -= 1
                raise ANSWERS[self._drawn[record]]
        return ModelAnswer(b"1\n" * len(body.split()), None, None)


ANSWERS = {situation: recorded_error(situation) for situation in SITUATIONS}
PASSES = {situation: failure_of(error).attempt is not Attempt.FINAL for situation, error in ANSWERS.items()}


def lines(first: int, records: int) -> Payload:
    """Return a payload of numbered records of four bytes each, with the line end."""
    body = b"\n".join(b"%03d" % number for number in range(first, first + records))
    return Payload(body, 4 * first, 4 * (first + records), first, records)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=2, max_size=4),
    bad=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 159), st.sampled_from(SITUATIONS)), max_size=3),
    times=st.sampled_from([None, 1, 2]),
    at_once=st.integers(1, 8),
)
def test_records_that_draw_an_error_answer_fail_no_other_record(
    *,
    sizes: list[list[int]],
    bad: list[tuple[int, int, str]],
    times: int | None,
    at_once: int,
) -> None:
    """A few records of all models but the first draw any recorded answer, once, twice or each time."""
    batch = []
    for of_model in sizes:
        starts = [sum(of_model[:number]) for number in range(len(of_model))]
        batch.append([lines(*each) for each in zip(starts, of_model, strict=True)])
    records = {(model, number) for model, of_model in enumerate(sizes) for number in range(sum(of_model))}
    drawn = {(model, number): situation for model, number, situation in bad if (model, number) in records}

    async def through() -> Ends:
        return await send(batch, Poisoned(drawn, times=times), at_once=at_once, isolate=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ends = runner.run(through())
    assert set(ends.ended) == records
    assert set(ends.ended.values()) <= {1}
    assert records - set(drawn) <= ends.good
    if times is None:
        assert not ends.good & set(drawn)


class Behaving:
    """An endpoint whose answers depend on model, records and time.

    :param behave: returns a situation, ``reset``, ``silent``, or None for a good answer
    :param seconds: of each call
    """

    def __init__(
        self, behave: Callable[[int, list[int], float], str | None], *, seconds: float = 0.02
    ) -> None:
        self._behave = behave
        self._seconds = seconds
        self.calls = 0

    async def invoke(self, body: bytes, parameters: Parameters, _: str | None) -> ModelAnswer:
        self.calls += 1
        await asyncio.sleep(self._seconds)
        numbers = [int(line) for line in body.split()]
        drawn = self._behave(
            int(str(parameters.target_model)[1:]), numbers, asyncio.get_running_loop().time()
        )
        if drawn == "reset":
            raise ConnectionClosedError(endpoint_url="x")
        if drawn == "silent":
            raise ReadTimeoutError(endpoint_url="x")
        if drawn is not None:
            raise ANSWERS[drawn]
        return ModelAnswer(b"1\n" * len(numbers), None, None)


def singles(records: int) -> list[Payload]:
    return [lines(number, 1) for number in range(records)]


def through(
    batch: list[list[Payload]], endpoint: Behaving, *, at_once: int = 8, isolate: bool = True
) -> Ends:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(send(batch, endpoint, at_once=at_once, isolate=isolate))


DENIED = [
    "no such endpoint at the runtime",
    "the endpoint is of the other kind",
    "the endpoint has no target models",
    "the role of a call is not permitted",
]


@pytest.mark.parametrize("situation", [*DENIED, "a target model's artefact is missing"])
def test_one_record_that_is_denied_ends_nothing_while_the_other_model_loads(situation: str) -> None:
    def behave(model: int, numbers: list[int], now: float) -> str | None:
        if model == 1:
            return "the target model is being loaded" if now < 20 else None
        return situation if 0 in numbers else None

    ends = through([[lines(0, 1)], singles(30)], Behaving(behave))
    assert ends.good == {(1, number) for number in range(30)}
    assert set(ends.ended) == ends.good | {(0, 0)}


def test_a_model_that_is_denied_is_engine_settingsup_and_the_others_are_not() -> None:
    """A policy may permit some target models only."""

    def behave(model: int, numbers: list[int], now: float) -> str | None:
        if model == 0:
            return "the role of a call is not permitted"
        return "the target model is being loaded" if now < 20 else None

    endpoint = Behaving(behave)
    ends = through([singles(500), singles(30)], endpoint)
    assert ends.good == {(1, number) for number in range(30)}
    assert len(ends.ended) == 530
    assert endpoint.calls < 300


@pytest.mark.parametrize("served", [0, 50])
@pytest.mark.parametrize("situation", DENIED)
def test_an_endpoint_that_is_gone_ends_the_task_soon(situation: str, served: int) -> None:
    endpoint = Behaving(lambda _, __, ___: None if endpoint.calls <= served else situation)
    with pytest.raises(SageMakerInferenceError, match=r"(?i)endpoint"):
        through([singles(200), singles(200)], endpoint)
    assert endpoint.calls < served + 200


def test_an_endpoint_that_is_gone_ends_even_a_task_of_one_record() -> None:
    with pytest.raises(EndpointNotFound):
        through([singles(1)], Behaving(lambda *_: "no such endpoint at the runtime"))


@pytest.mark.parametrize("seconds", [0.5, 60.0])
@pytest.mark.parametrize("served", [0, 50])
def test_a_model_that_does_not_load_any_more_is_engine_settingsup_in_its_time(
    served: int, seconds: float
) -> None:
    """SageMaker holds a call for a minute while the model loads."""
    endpoint = Behaving(
        lambda _, __, ___: None if endpoint.calls <= served else "the target model is being loaded",
        seconds=seconds,
    )
    ends = through([singles(900)], endpoint)
    assert len(ends.good) <= served
    assert len(ends.ended) == 900
    assert endpoint.calls < served + 200


@pytest.mark.parametrize(
    "situation",
    [
        "a worker died with the request",
        "no answer within 60 seconds",
        "a payload does not fit in memory",
        "silent",
        "throttled at the runtime",
        "a target model's artefact is missing",
        *DENIED,
    ],
)
@pytest.mark.parametrize(("bad", "at_once"), [(30, 1), (60, 8), (100, 64)])
def test_neighbouring_bad_records_fail_no_good_record(situation: str, bad: int, at_once: int) -> None:
    endpoint = Behaving(lambda _, numbers, __: situation if min(numbers) < bad else None)
    ends = through([singles(400)], endpoint, at_once=at_once)
    assert len(ends.good) == 400 - bad
    assert len(ends.ended) == 400


@pytest.mark.parametrize("situation", ["no memory for the model", "the load ran out of memory"])
def test_a_model_waits_for_room(situation: str) -> None:
    endpoint = Behaving(lambda model, _, now: situation if model == 1 and now < 20 else None)
    ends = through([singles(40), singles(40)], endpoint)
    assert len(ends.good) == 80


def test_a_large_payload_whose_connection_is_reset_is_too_large() -> None:
    large = Payload(b"000" + b" " * 5_000_000, 0, 5_000_003, 0, 1)
    endpoint = Behaving(lambda _, numbers, __: "reset" if numbers == [0] else None)
    ends = through([[large, *[lines(number, 1) for number in range(1, 40)]]], endpoint)
    assert len(ends.good) == 39
    assert ends.errors == {RecordTooLarge}
