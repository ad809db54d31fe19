"""The sensor: output or failure object, whichever comes first, in every mode of waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import AsyncInferenceFailed, AsyncInferenceTimedOut
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.sensors.conftest import INVOCATION, OUTPUT, sensor
from tests.stubs.s3 import StubS3, fixed
from tests.support import (
    BLOCKING,
    FAILING,
    Account,
    TaskInstanceDouble,
    context_for,
    deferred,
    event_of,
    rebuilt,
)

pytestmark = pytest.mark.airflow


def _invoke(account: Account, endpoint: str, body: str) -> dict[str, Any]:
    """Invoke by hand; return what the invoke operator would leave on XCom."""
    answer = account.runtime.invoke_endpoint_async(
        EndpointName=endpoint, InputLocation=account.upload(body), ContentType="text/plain"
    )
    return {
        "output_location": answer["OutputLocation"],
        "failure_location": answer["FailureLocation"],
        "inference_id": answer["InferenceId"],
        "submitted_at": time.time(),
    }


@pytest.fixture(scope="module")
def blocking(module_account: Account) -> str:
    """An endpoint whose answers come when a file appears."""
    return module_account.deploy(BLOCKING, asynchronous=True)


@pytest.fixture(scope="module")
def failing(module_account: Account) -> str:
    """An endpoint that fails every request."""
    return module_account.deploy(FAILING, asynchronous=True)


def test_the_output_is_awaited_and_its_location_returned(
    account: Account, blocking: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    invocation = _invoke(account, blocking, str(gate))
    waiting = sensor(invocations=invocation)
    assert not waiting.poke(context_for()).is_done
    gate.touch()
    assert waiting.execute(context_for()) == invocation["output_location"]
    assert account.read(invocation["output_location"]) == b"done"


def test_a_deferred_wait_outlives_the_triggerer(account: Account, blocking: str, tmp_path: Path) -> None:
    """The trigger is created again from what the database keeps, and the task again when its event comes."""
    gate = tmp_path / "gate"
    invocation = _invoke(account, blocking, str(gate))

    def make() -> SageMakerAsyncInferenceSensor:
        return sensor(invocations=[invocation], deferrable=True)

    deferral = deferred(make())
    once_more = rebuilt(rebuilt(deferral.trigger))
    gate.touch()
    event = event_of(once_more)
    assert make().execute_complete(context_for(), event) == [invocation["output_location"]]


def test_a_failure_object_fails_the_task_with_its_text_and_without_a_retry(
    account: Account, failing: str, run: Callable[..., Any]
) -> None:
    invocation = _invoke(account, failing, "anything")
    with pytest.raises(AirflowFailException, match="this handler always fails") as raised:
        run(invocations=invocation)
    assert isinstance(raised.value.__context__, AsyncInferenceFailed)
    assert str(invocation["failure_location"]) in str(raised.value)


def test_many_invocations_end_when_the_last_one_does(
    account: Account, blocking: str, failing: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    good = [_invoke(account, blocking, str(gate)) for _ in range(3)]
    bad = _invoke(account, failing, "anything")
    assert run(invocations=good) == [invocation["output_location"] for invocation in good]
    with pytest.raises(AirflowFailException, match=r"1 of 4 asynchronous inferences failed"):
        run(invocations=[*good, bad])


def test_an_output_beats_a_failure_object(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = fixed({"/results/one.out": b"", "/failures/one-error.out": b"late"})
    assert run(invocations=INVOCATION) == OUTPUT


def test_an_output_beats_the_clock(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = fixed({"/results/one.out": b""})
    assert run(invocations=INVOCATION | {"submitted_at": 1.0}, timeout=1) == OUTPUT


@pytest.mark.parametrize(
    ("limit", "shown", "hidden"),
    [
        (1_000, "abcdefghij", "…"),
        (10, "abcdefghij", "…"),
        (4, "abcd…", "abcde"),
        (0, "see its failure object", "abcd"),
    ],
)
def test_the_failure_text_is_cut(
    s3: StubS3,
    run: Callable[..., Any],
    limit: int,
    shown: str,
    hidden: str,
) -> None:
    s3.answer = fixed({"/failures/one-error.out": b"abcdefghij"})
    with pytest.raises(AirflowFailException) as raised:
        run(invocations=INVOCATION, failure_text_limit=limit)
    assert shown in str(raised.value)
    assert hidden not in str(raised.value)
    assert "s3://inputs/one.csv" in str(raised.value)


def test_a_text_is_never_cut_inside_a_character(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = fixed({"/failures/one-error.out": "ééé".encode()})
    with pytest.raises(AirflowFailException, match="é… "):
        run(invocations=INVOCATION, failure_text_limit=3)


def test_a_failure_object_that_cannot_be_read_is_a_failure_all_the_same(
    s3: StubS3,
    run: Callable[..., Any],
) -> None:
    seen: list[str] = []

    def answer(path: str) -> int | bytes:
        seen.append(path)
        return 404 if path.startswith("/results") else b"" if seen.count(path) == 1 else 403

    s3.answer = answer
    with pytest.raises(AirflowFailException, match=r"could not be read.*403.*s3://failures/one-error\.out"):
        run(invocations=INVOCATION)


def test_only_the_first_failures_are_reported(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = lambda path: b"no" if path.startswith("/failures") else 404
    many = [
        {"output_location": f"s3://results/{n}.out", "failure_location": f"s3://failures/{n}.out"}
        for n in range(6)
    ]
    with pytest.raises(AirflowFailException) as raised:
        run(invocations=many)
    assert "6 of 6 asynchronous inferences failed" in str(raised.value)
    assert "s3://failures/4.out" in str(raised.value)
    assert "s3://failures/5.out" not in str(raised.value)
    assert "and 1 more" in str(raised.value)


def test_the_deadline_counts_from_submission_and_names_object_and_remedy(
    s3: StubS3, run: Callable[..., Any]
) -> None:
    with pytest.raises(AsyncInferenceTimedOut) as raised:
        run(invocations=INVOCATION | {"submitted_at": time.time() - 100}, timeout=99)
    for part in (OUTPUT, "after 99 s", "Do: raise timeout"):
        assert part in str(raised.value)


def test_else_it_counts_from_the_first_poll(s3: StubS3, run: Callable[..., Any]) -> None:
    started = time.time()
    with pytest.raises(AsyncInferenceTimedOut):
        run(output_location=OUTPUT, timeout=timedelta(seconds=0.3))
    assert time.time() - started >= 0.3


def test_each_invocation_has_its_own_deadline(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = fixed({"/results/two.out": b""})
    late = INVOCATION | {"submitted_at": time.time() - 100}
    with pytest.raises(AsyncInferenceTimedOut, match="1 of 2"):
        run(invocations=[late, {"output_location": "s3://results/two.out"}], timeout=99)


def test_a_reschedule_remembers_its_first_poll(s3: StubS3) -> None:
    """Each poll is a process of its own; Airflow knows when the first one was."""

    class Rescheduled(TaskInstanceDouble):
        """A task instance of Airflow 3 that was rescheduled ten seconds ago."""

        def get_first_reschedule_date(self, _: object) -> datetime:
            return datetime.now(UTC) - timedelta(seconds=10)

    context = context_for(Rescheduled())
    waiting = sensor(output_location=OUTPUT, timeout=600, mode="reschedule")
    assert not waiting.poke(context).is_done
    with pytest.raises(AsyncInferenceTimedOut, match="after 9 s"):
        sensor(output_location=OUTPUT, timeout=9, mode="reschedule").poke(context)


def test_a_mapped_invokes_xcoms_are_read_as_a_sequence(s3: StubS3) -> None:
    """Airflow hands a lazy sequence over: neither a list nor a tuple, without equality or slices."""

    class Lazy(Sequence[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - as Sequence spells it
            if index >= 2:
                raise IndexError
            return {"output_location": f"s3://results/{index}.out"}

    s3.answer = lambda _: b""
    assert sensor(invocations=Lazy()).execute(context_for()) == ["s3://results/0.out", "s3://results/1.out"]


def test_its_deferral_times_out_a_little_after_its_own_deadline(s3: StubS3) -> None:
    """Airflow's time-out is the safety net: it would end the task with a poorer text."""
    began = time.time()
    deferral = deferred(sensor(output_location=OUTPUT, timeout=100, deferrable=True))
    took = time.time() - began
    assert deferral.timeout is not None
    assert 100 - took <= deferral.timeout.total_seconds() - 120 <= 100
    trigger: Any = deferral.trigger
    assert 100 <= trigger.deadline - began <= 100 + took


def test_nothing_it_logs_holds_an_objects_content(
    s3: StubS3, run: Callable[..., Any], logged: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    s3.answer = fixed({"/results/one.out": b"the-prediction"})
    assert run(invocations=INVOCATION) == OUTPUT
    assert "found 1 asynchronous result" in (text := logged())
    assert "the-prediction" not in text
