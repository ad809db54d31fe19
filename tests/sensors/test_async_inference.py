"""The sensor: output or failure object, whichever comes first, in every mode of waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException, AirflowSkipException
from airflow_sm_plugin.core.async_wait import TOLERATED_BLIND_LOOKS
from airflow_sm_plugin.exceptions import (
    AsyncInferenceFailed,
    AsyncInferenceTimedOut,
    InvalidRequest,
    ServiceUnavailable,
)
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.stub_s3 import DROP, QUICK, fixed, statuses, stub_s3, use
from tests.support import (
    BLOCKING,
    FAILING,
    POLL,
    Account,
    TaskInstanceDouble,
    closed_port,
    context_for,
    deferred,
    event_of,
    rebuilt,
    run_task,
)

Make = Callable[..., SageMakerAsyncInferenceSensor]
OUTPUT, FAILURE = "s3://results/one.out", "s3://failures/one-error.out"
INVOCATION = {"output_location": OUTPUT, "failure_location": FAILURE, "input_location": "s3://inputs/one.csv"}


def _sensor(**arguments: Any) -> SageMakerAsyncInferenceSensor:  # noqa: ANN401 - the sensor's own
    defaults: dict[str, Any] = {
        "task_id": "wait",
        "poke_interval": POLL,
        "aws_conn_id": None,
        "botocore_config": QUICK,
    }
    return SageMakerAsyncInferenceSensor(**defaults | arguments)


@pytest.fixture(params=["poke", "deferrable"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a sensor of the given arguments to its end, blocking a worker or deferred."""

    def to_its_end(**arguments: Any) -> Any:  # noqa: ANN401 - a location or a list of them
        return run_task(lambda: _sensor(deferrable=request.param == "deferrable", **arguments))

    return to_its_end


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


class TestAgainstARealEndpoint:
    """Real invocations of real handlers in the embedded SageMaker."""

    @pytest.fixture(scope="class")
    def blocking(self, session_account: Account) -> str:
        """An endpoint whose answers come when a file appears."""
        return session_account.deploy(BLOCKING, asynchronous=True)

    @pytest.fixture(scope="class")
    def failing(self, session_account: Account) -> str:
        """An endpoint that fails every request."""
        return session_account.deploy(FAILING, asynchronous=True)

    def test_the_output_is_awaited_and_its_location_returned(
        self, account: Account, blocking: str, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        invocation = _invoke(account, blocking, str(gate))
        sensor = _sensor(invocations=invocation)
        assert not sensor.poke(context_for()).is_done
        gate.touch()
        assert sensor.execute(context_for()) == invocation["output_location"]
        assert account.read(invocation["output_location"]) == b"done"

    def test_a_deferred_wait_outlives_the_triggerer(
        self, account: Account, blocking: str, tmp_path: Path
    ) -> None:
        """The trigger is made anew from what the database keeps, and the task anew when its event comes."""
        gate = tmp_path / "gate"
        invocation = _invoke(account, blocking, str(gate))

        def make() -> SageMakerAsyncInferenceSensor:
            return _sensor(invocations=[invocation], deferrable=True)

        deferral = deferred(make())
        once_more = rebuilt(rebuilt(deferral.trigger))
        gate.touch()
        event = event_of(once_more)
        assert make().execute_complete(context_for(), event) == [invocation["output_location"]]

    def test_a_failure_object_fails_the_task_with_its_text_and_without_a_retry(
        self, account: Account, failing: str, run: Callable[..., Any]
    ) -> None:
        invocation = _invoke(account, failing, "anything")
        with pytest.raises(AirflowFailException, match="this handler always fails") as raised:
            run(invocations=invocation)
        assert isinstance(raised.value.__cause__, AsyncInferenceFailed)
        assert str(invocation["failure_location"]) in str(raised.value)

    def test_many_invocations_end_when_the_last_one_does(
        self, account: Account, blocking: str, failing: str, run: Callable[..., Any], tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        gate.touch()
        good = [_invoke(account, blocking, str(gate)) for _ in range(3)]
        bad = _invoke(account, failing, "anything")
        assert run(invocations=good) == [one["output_location"] for one in good]
        with pytest.raises(AirflowFailException, match=r"1 of 4 asynchronous inferences failed"):
            run(invocations=[*good, bad])


class TestWhatItMakesOfWhatItSees:
    """S3's answers are decided by the test."""

    @pytest.fixture(autouse=True)
    def s3(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """An S3 in which nothing exists yet."""
        with stub_s3(fixed({})) as stub:
            use(monkeypatch, stub.url)
            yield stub

    def test_an_output_beats_a_failure_object(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = fixed({"/results/one.out": b"", "/failures/one-error.out": b"late"})
        assert run(invocations=INVOCATION) == OUTPUT

    def test_an_output_beats_the_clock(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
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
        self,
        s3: Any,
        run: Callable[..., Any],
        limit: int,
        shown: str,
        hidden: str,  # noqa: ANN401
    ) -> None:
        s3.answer = fixed({"/failures/one-error.out": b"abcdefghij"})
        with pytest.raises(AirflowFailException) as raised:
            run(invocations=INVOCATION, failure_text_limit=limit)
        assert shown in str(raised.value)
        assert hidden not in str(raised.value)
        assert "s3://inputs/one.csv" in str(raised.value)

    def test_a_text_is_never_cut_inside_a_character(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = fixed({"/failures/one-error.out": "ééé".encode()})
        with pytest.raises(AirflowFailException, match="é… "):
            run(invocations=INVOCATION, failure_text_limit=3)

    def test_a_failure_object_that_cannot_be_read_is_a_failure_all_the_same(
        self,
        s3: Any,
        run: Callable[..., Any],  # noqa: ANN401
    ) -> None:
        seen: list[str] = []

        def answer(path: str) -> int | bytes:
            seen.append(path)
            return 404 if path.startswith("/results") else b"" if seen.count(path) == 1 else 403

        s3.answer = answer
        with pytest.raises(
            AirflowFailException, match=r"could not be read.*403.*s3://failures/one-error\.out"
        ):
            run(invocations=INVOCATION)

    def test_only_the_first_failures_are_told(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = lambda path: b"no" if path.startswith("/failures") else 404
        many = [
            {"output_location": f"s3://results/{n}.out", "failure_location": f"s3://failures/{n}.out"}
            for n in range(8)
        ]
        with pytest.raises(AirflowFailException) as raised:
            run(invocations=many)
        assert "8 of 8 asynchronous inferences failed" in str(raised.value)
        assert "s3://failures/4.out" in str(raised.value)
        assert "s3://failures/5.out" not in str(raised.value)
        assert "and 3 more" in str(raised.value)

    def test_the_deadline_counts_from_submission_and_names_object_and_remedy(
        self, run: Callable[..., Any]
    ) -> None:
        with pytest.raises(AsyncInferenceTimedOut) as raised:
            run(invocations=INVOCATION | {"submitted_at": time.time() - 100}, timeout=99)
        for part in (OUTPUT, "after 99 s", "Raise timeout"):
            assert part in str(raised.value)

    def test_else_it_counts_from_the_first_look(self, run: Callable[..., Any]) -> None:
        started = time.time()
        with pytest.raises(AsyncInferenceTimedOut):
            run(output_location=OUTPUT, timeout=timedelta(seconds=0.3))
        assert 0.3 <= time.time() - started < 15

    def test_each_invocation_has_its_own_deadline(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = fixed({"/results/two.out": b""})
        late = INVOCATION | {"submitted_at": time.time() - 100}
        with pytest.raises(AsyncInferenceTimedOut, match="1 of 2"):
            run(invocations=[late, {"output_location": "s3://results/two.out"}], timeout=99)

    def test_a_reschedule_remembers_its_first_look(self) -> None:
        """Each look is a process of its own; Airflow knows when the first one was."""

        class Rescheduled(TaskInstanceDouble):
            """A task instance of Airflow 3 that was rescheduled ten seconds ago."""

            def get_first_reschedule_date(self, _: object) -> datetime:
                return datetime.now(UTC) - timedelta(seconds=10)

        context = context_for(Rescheduled())
        waiting = _sensor(output_location=OUTPUT, timeout=60, mode="reschedule")
        assert not waiting.poke(context).is_done
        with pytest.raises(AsyncInferenceTimedOut, match="after 9 s"):
            _sensor(output_location=OUTPUT, timeout=9, mode="reschedule").poke(context)

    def test_403_is_no_verdict_until_the_deadline_which_then_names_it(
        self,
        s3: Any,
        run: Callable[..., Any],
        caplog: pytest.LogCaptureFixture,  # noqa: ANN401
    ) -> None:
        s3.answer = fixed({}, otherwise=403)
        with pytest.raises(AsyncInferenceTimedOut, match=r"403.*s3:GetObject and s3:ListBucket"):
            run(invocations=INVOCATION, timeout=0.3)
        assert "S3 answers 403 for s3://results/one.out" in caplog.text

    def test_403_ends_when_the_object_comes(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = statuses(*[403] * (2 * TOLERATED_BLIND_LOOKS), then=b"")
        assert run(output_location=OUTPUT) == OUTPUT

    @pytest.mark.parametrize("trouble", [503, 500, 429, DROP])
    def test_an_outage_is_waited_out(self, s3: Any, run: Callable[..., Any], trouble: int) -> None:  # noqa: ANN401
        s3.answer = statuses(*[trouble] * TOLERATED_BLIND_LOOKS, then=b"")
        assert run(output_location=OUTPUT) == OUTPUT

    @pytest.mark.parametrize(("trouble", "told"), [(503, "503"), (DROP, "closed")])
    def test_an_outage_that_does_not_end_is_told_and_retried(
        self,
        s3: Any,
        run: Callable[..., Any],
        trouble: int,
        told: str,  # noqa: ANN401
    ) -> None:
        s3.answer = lambda _: trouble
        with pytest.raises(ServiceUnavailable) as raised:
            run(invocations=INVOCATION)
        for part in (
            f"{TOLERATED_BLIND_LOOKS + 1} looks in a row",
            "1 invocations are pending",
            told,
            OUTPUT,
        ):
            assert part in str(raised.value)

    def test_an_outage_at_the_deadline_is_told(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = lambda _: 503
        with pytest.raises(AsyncInferenceTimedOut, match="S3 gave no useful answer at the end.*503"):
            run(invocations=INVOCATION | {"submitted_at": 1.0}, timeout=10)

    def test_looks_are_not_repeated_at_what_was_seen(self, s3: Any) -> None:  # noqa: ANN401
        s3.answer = fixed({"/results/one.out": b""})
        sensor = _sensor(invocations=[INVOCATION, {"output_location": "s3://results/two.out"}])
        for _ in range(3):
            assert not sensor.poke(context_for()).is_done
        assert s3.asked == ["/results/one.out"] + ["/results/two.out"] * 3


def test_nobody_at_the_address_is_told_with_the_address(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    nobody = closed_port()
    use(monkeypatch, nobody)
    with pytest.raises(ServiceUnavailable, match=nobody):
        run(invocations=INVOCATION, timeout=3_600)


def test_missing_credentials_are_told_at_once_and_not_retried(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    use(monkeypatch, closed_port())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    with pytest.raises(AirflowFailException, match=r"AccessDenied.*no AWS credentials"):
        run(invocations=INVOCATION)


class TestSkipsInsteadOfFailing:
    """soft_fail and never_fail mean the same in every mode."""

    @pytest.fixture(autouse=True)
    def s3(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """An S3 with one failure object."""
        with stub_s3(fixed({"/failures/one-error.out": b"why"})) as stub:
            use(monkeypatch, stub.url)
            yield stub

    @pytest.mark.parametrize("asks", ["soft_fail", "never_fail"])
    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ({"invocations": INVOCATION}, "why"),
            ({"output_location": OUTPUT, "timeout": 0.2}, "had neither output nor failure"),
            ({"invocations": 7}, "invocations must be"),
        ],
        ids=["failed", "timed out", "malformed"],
    )
    def test_what_no_retry_mends_is_skipped(
        self, run: Callable[..., Any], asks: str, arguments: dict[str, Any], why: str
    ) -> None:
        with pytest.raises(AirflowSkipException, match=f"{asks}.*{why}"):
            run(**arguments, **{asks: True})

    def test_an_outage_is_skipped_by_never_fail_only(self, s3: Any, run: Callable[..., Any]) -> None:  # noqa: ANN401
        s3.answer = lambda _: 503
        with pytest.raises(ServiceUnavailable):
            run(invocations=INVOCATION, soft_fail=True)
        with pytest.raises(AirflowSkipException, match="looks in a row"):
            run(invocations=INVOCATION, never_fail=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "give either invocations .* or output_location"),
        ({"invocations": INVOCATION, "output_location": OUTPUT}, "give either"),
        ({"invocations": []}, "the list is empty"),
        ({"invocations": "s3://results/one.out"}, "not 's3://results/one.out'"),
        ({"invocations": [INVOCATION, None]}, "not NoneType"),
        (
            {"invocations": {"inference_id": "x"}},
            r"needs an output_location; this one has only \['inference_id'\]",
        ),
        ({"invocations": INVOCATION | {"submitted_at": "soon"}}, "epoch seconds or None, not 'soon'"),
        ({"output_location": "results/one.out"}, "results/one.out"),
        ({"output_location": OUTPUT, "failure_location": "s3://failures"}, "s3://failures"),
    ],
)
def test_malformed_invocations_are_refused_before_any_call(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], arguments: dict[str, Any], told: str
) -> None:
    use(monkeypatch, closed_port())
    with pytest.raises(AirflowFailException, match=told) as raised:
        run(**arguments)
    assert isinstance(raised.value.__cause__, InvalidRequest)


def test_a_mapped_invokes_xcoms_are_read_as_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow hands a lazy sequence over: neither a list nor a tuple, without equality or slices."""

    class Lazy(Sequence[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - as Sequence spells it
            if index >= 2:
                raise IndexError
            return {"output_location": f"s3://results/{index}.out"}

    with stub_s3(lambda _: b"") as s3:
        use(monkeypatch, s3.url)
        assert _sensor(invocations=Lazy()).execute(context_for()) == [
            "s3://results/0.out",
            "s3://results/1.out",
        ]


def test_its_deferral_times_out_a_little_after_its_own_deadline() -> None:
    """Airflow's time-out is the safety net: it would end the task with a poorer text."""
    with pytest.MonkeyPatch.context() as patch, stub_s3(fixed({})) as s3:
        use(patch, s3.url)
        deferral = deferred(_sensor(output_location=OUTPUT, timeout=100, deferrable=True))
    assert deferral.timeout is not None
    assert 200 < deferral.timeout.total_seconds() <= 220
    trigger: Any = deferral.trigger
    assert trigger.deadline == pytest.approx(time.time() + 100, abs=30)


def test_nothing_it_logs_holds_an_objects_content(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run: Callable[..., Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    with stub_s3(fixed({"/results/one.out": b"the-prediction"})) as s3:
        use(monkeypatch, s3.url)
        assert run(invocations=INVOCATION) == OUTPUT
    assert "the-prediction" not in caplog.text
