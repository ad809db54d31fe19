"""The engine's stages and the queues between them: how they wait for room, end, stop, and fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import AccessDenied, ServiceError, TargetModelNotFound
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer, Parameters
from airflow_sm_plugin.multi_model.engine import result_queue
from airflow_sm_plugin.multi_model.engine.invocations import Invocations
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate
from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
from airflow_sm_plugin.multi_model.engine.result_queue import ReadToEnd, ResultQueue
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.engine.work import Job, OpenInput, OpenModel
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.shard import run_shard
from airflow_sm_plugin.multi_model.state.journal import InputProgress
from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from tests.multi_model.multi_models import CONNECTION, MultiModel
from tests.support import Account, unique

LOST = Judgement(PayloadFate.NO_MODEL, TargetModelNotFound, None, message="gone")


def queue_of(**settings: Any) -> PayloadQueue:  # noqa: ANN401 - EngineSettings' own
    return PayloadQueue(EngineSettings(endpoint_name="e", **settings), Statistics())


def input_of(model: OpenModel, entry: int = 0) -> OpenInput:
    output = EngineSettings(endpoint_name="e").output
    return OpenInput(entry, BatchInput(source="s3://b/k"), model, InputProgress(entry, []), output)


def jobs_of(model: OpenModel, count: int, *, size: int = 1) -> list[Job]:
    open_input = input_of(model)
    return [Job(open_input, Payload(b"x" * size, start, start + 1, start, 1)) for start in range(count)]


async def settle() -> None:
    """Let all tasks go on until each waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def waits(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start work, and check that it waits for something."""
    task = asyncio.create_task(work)
    await settle()
    assert not task.done()
    return task


# The queue of payloads


def test_workers_end_with_the_last_payload_and_not_before() -> None:
    async def check() -> None:
        queue = queue_of()
        model = await queue.open("m")
        queue.put(model, jobs_of(model, 1))
        queue.end(model)
        job = await queue.take()
        assert job is not None
        idle = await waits(queue.take())
        queue.close()
        await settle()
        assert not idle.done()  # the payload may come back
        queue.loaded(model, queue.clock())
        queue.settled(model)
        assert await idle is None
        assert await queue.take() is None

    asyncio.run(check())


def test_a_further_model_is_opened_when_one_ends_or_is_given_up() -> None:
    async def check() -> None:
        queue = queue_of(max_warm_models=2)
        first, second = await queue.open("a"), await queue.open("b")
        third = await waits(queue.open("c"))
        queue.end(first)
        await third
        fourth = await waits(queue.open("d"))
        assert queue.lose(second, LOST) == []
        await fourth

    asyncio.run(check())


def test_without_a_given_limit_models_that_were_loaded_together_make_room_for_another() -> None:
    async def check() -> None:
        queue = queue_of()
        models = [await queue.open(f"m{number}") for number in range(8)]
        further = await waits(queue.open("m8"))
        for model in models[:6]:
            queue.put(model, jobs_of(model, 1))
            assert await queue.take() is not None
            queue.loaded(model, queue.clock())
        await further

    asyncio.run(check())


def test_a_model_that_is_given_up_returns_what_waits_and_what_pauses() -> None:
    async def check() -> None:
        queue = queue_of()
        model, other = await queue.open("a"), await queue.open("b")
        queue.put(model, jobs_of(model, 3))
        queue.put(other, jobs_of(other, 1))
        paused = await queue.take()
        assert paused is not None
        assert paused.model is model
        queue.inconclusive(model)
        queue.pause(paused, 0.0)
        lost = queue.lose(model, LOST)
        assert sorted(job.payload.start for job in lost) == [0, 1, 2]
        await asyncio.sleep(0.01)  # the pause is over, and brings nothing back
        taken = await queue.take()
        assert taken is not None
        assert taken.model is other

    asyncio.run(check())


def test_the_reader_waits_until_a_models_payloads_are_within_the_budget() -> None:
    async def check() -> None:
        queue = queue_of()
        model = await queue.open("m")
        queue.put(model, jobs_of(model, 2, size=queue.budget // 2 + 1))
        reading = await waits(queue.until_room(model))
        assert await queue.take() is not None
        await reading

    asyncio.run(check())


# The queue of results


def test_open_inputs_are_limited_but_each_model_may_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else models that wait for room at the endpoint could hold all of them, and nothing would go on."""
    monkeypatch.setattr(result_queue, "OPEN_INPUTS", 2)

    async def check() -> None:
        results, payloads = ResultQueue(), queue_of()
        first, second = await payloads.open("a"), await payloads.open("b")
        await results.admit(first)
        await results.admit(first)
        waiting = await waits(results.admit(first))
        await results.admit(second)
        results.ended(input_of(second))
        await settle()
        assert not waiting.done()
        results.ended(input_of(first))
        await waiting

    asyncio.run(check())


def test_the_invocations_wait_while_too_many_results_are_only_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(result_queue, "UNWRITTEN_BYTES", 10)

    async def check() -> None:
        sent = list[bytes]()

        async def send(body: bytes, _: Parameters, __: str | None) -> ModelAnswer:
            sent.append(body)
            results.hold(11)
            return ModelAnswer(body, None, None)

        settings, statistics = EngineSettings(endpoint_name="e", max_concurrent_transforms=1), Statistics()
        payloads, results = PayloadQueue(settings, statistics), ResultQueue()
        model = await payloads.open("m")
        payloads.put(model, jobs_of(model, 2))
        payloads.end(model)
        payloads.close()
        work = await waits(Invocations(settings, EndpointInvoker(send), payloads, results, statistics).run())
        assert len(sent) == 1
        results.written(11)
        await settle()
        assert len(sent) == 2
        results.written(11)
        await work

    asyncio.run(check())


def test_the_recorder_goes_on_until_all_inputs_have_ended() -> None:
    async def check() -> None:
        results, payloads = ResultQueue(), queue_of()
        open_input = input_of(await payloads.open("m"))
        await results.admit(open_input.model)
        results.put(open_input, ReadToEnd())
        results.close()
        assert await results.take() == [(open_input, ReadToEnd())]
        last = await waits(results.take())
        results.ended(open_input)
        results.put(open_input, ReadToEnd())
        assert await last == [(open_input, ReadToEnd())]
        assert await results.take() is None
        results.stop()
        assert not results.is_stopped

    asyncio.run(check())


def test_a_stopped_queue_gives_what_is_there_and_ends() -> None:
    async def check() -> None:
        results, payloads = ResultQueue(), queue_of()
        open_input = input_of(await payloads.open("m"))
        await results.admit(open_input.model)
        results.put(open_input, ReadToEnd())
        results.stop()
        assert results.is_stopped
        assert await results.take() == [(open_input, ReadToEnd())]
        assert await results.take() is None

    asyncio.run(check())


# All stages


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, ["a", "b"])


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    return MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)


INPUTS = 12


def fill(batch: MultiModel) -> None:
    for number in range(INPUTS):
        batch.put("ab"[number % 2], f"{number:02}.csv", f"r{number}\ns{number}\n")


def check_outputs(batch: MultiModel) -> None:
    for number in range(INPUTS):
        model = "ab"[number % 2]
        expected = f"{model}/r{number}\n{model}/s{number}\n".encode()
        assert batch.output(model, f"{number:02}.csv") == expected


def test_results_whose_outputs_were_being_written_are_in_the_journal_after_a_kill(batch: MultiModel) -> None:
    """Nothing that was answered is invoked again, though no output is known to be written."""
    fill(batch)
    location = batch.plan()
    held = {"operation": "s3:PutObject", "fault": "latency", "seconds": 30, "resource": "*/out/model=*"}

    async def until_killed() -> None:
        task = asyncio.create_task(run_shard(CONNECTION, batch.settings(location, checkpoint_seconds=60)))
        while batch.struck() < INPUTS:  # then all outputs are being written
            await asyncio.sleep(0.05)
            assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    with batch.faults(held):
        asyncio.run(until_killed())
    finished = batch.run(location)
    assert len(batch.invocations()) == 2 * INPUTS
    assert finished.report.total.records == 2 * INPUTS
    check_outputs(batch)


@pytest.mark.parametrize(
    "rule",
    [
        {"operation": "s3:PutObject", "resource": "*/out/model=*"},
        {"operation": "s3:PutObject", "resource": "*/journal/*", "after": 1},
        {"operation": "s3:PutObject", "resource": "*/data/*"},
        {"operation": "InvokeEndpoint"},
    ],
    ids=["outputs", "journal", "data", "invocations"],
)
def test_an_error_of_any_stage_ends_all_and_a_retry_does_the_rest(
    batch: MultiModel, rule: dict[str, Any]
) -> None:
    fill(batch)
    batch.put("a", "long.csv", "".join(f"r{number}\n" for number in range(300)))
    location = batch.plan()
    refused = {"fault": "error", "code": "AccessDenied", "status": 403, **rule}

    async def fails() -> None:
        before = asyncio.all_tasks()
        with pytest.raises(ServiceError):
            await run_shard(CONNECTION, batch.settings(location, checkpoint_seconds=0.01))
        assert asyncio.all_tasks() == before

    with batch.faults(refused):
        asyncio.run(fails())
    finished = batch.run(location)
    assert finished.report.total.records == 2 * INPUTS + 300
    assert not finished.report.total.failed
    check_outputs(batch)


def test_the_first_error_is_raised_though_the_last_answers_cannot_be_recorded(
    batch: MultiModel, caplog: pytest.LogCaptureFixture
) -> None:
    batch.put("a", "long.csv", "".join(f"r{number}\n" for number in range(300)))
    location = batch.plan()
    refused = {"fault": "error", "code": "AccessDeniedException", "status": 403}
    invocation = {"operation": "InvokeEndpoint", "after": 100, **refused}
    record = {"operation": "s3:PutObject", "resource": "*/data/*", **refused}
    with batch.faults(invocation, record), pytest.raises(AccessDenied, match="InvokeEndpoint"):
        batch.run(location, checkpoint_seconds=60)
    assert "the last answers could not be recorded" in caplog.text
    assert not batch.run(location).report.total.failed
