"""The sensor when S3 refuses, fails or is not there, and what it makes of bad arguments."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException, AirflowSkipException
from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS
from airflow_sm_plugin.exceptions import AsyncInferenceTimedOut, InvalidRequest, ServiceUnavailable
from tests.sensors.conftest import INVOCATION, OUTPUT, sensor
from tests.stubs.s3 import DROP, StubS3, fixed, statuses, use
from tests.support import closed_port, context_for

pytestmark = pytest.mark.airflow


def test_403_is_no_verdict_until_the_deadline_which_then_names_it(
    s3: StubS3,
    run: Callable[..., Any],
    logged: Callable[[], str],
) -> None:
    s3.answer = fixed({}, otherwise=403)
    with pytest.raises(AsyncInferenceTimedOut, match=r"403.*s3:GetObject and s3:ListBucket"):
        run(invocations=INVOCATION, timeout=0.3)
    assert "S3 answers 403 for s3://results/one.out" in logged()


def test_403_ends_when_the_object_comes(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = statuses(*[403] * (2 * MAX_FAILED_POLLS), then=b"")
    assert run(output_location=OUTPUT) == OUTPUT


@pytest.mark.parametrize("trouble", [503, 500, 429, DROP])
def test_an_outage_is_waited_out(s3: StubS3, run: Callable[..., Any], trouble: int) -> None:
    s3.answer = statuses(*[trouble] * MAX_FAILED_POLLS, then=b"")
    assert run(output_location=OUTPUT) == OUTPUT


@pytest.mark.parametrize(("trouble", "reported"), [(503, "503"), (DROP, "closed")])
def test_an_outage_that_does_not_end_is_reported_and_retried(
    s3: StubS3,
    run: Callable[..., Any],
    trouble: int,
    reported: str,
) -> None:
    s3.answer = lambda _: trouble
    with pytest.raises(ServiceUnavailable) as raised:
        run(invocations=INVOCATION)
    for part in (
        f"{MAX_FAILED_POLLS + 1} failed polls in a row",
        "1 result pending",
        reported,
        OUTPUT,
    ):
        assert part in str(raised.value)


def test_an_outage_at_the_deadline_is_no_verdict_and_reported(s3: StubS3, run: Callable[..., Any]) -> None:
    """It is not known whether the output is there: the retry that follows polls again."""
    s3.answer = lambda _: 503
    with pytest.raises(
        ServiceUnavailable, match=r"(?s)S3 did not answer, 1 failed poll in a row.*Reason: .*503"
    ):
        run(invocations=INVOCATION | {"submitted_at": 1.0}, timeout=10)


def test_an_outage_that_ends_after_the_deadline_leaves_the_verdict_to_s3(
    s3: StubS3, run: Callable[..., Any]
) -> None:
    s3.answer = statuses(503, 503, 503, then=b"")
    late = {"output_location": OUTPUT, "submitted_at": time.time() - 10}
    assert run(invocations=late, timeout=9) == OUTPUT


def test_polls_are_not_repeated_at_what_was_seen(s3: StubS3) -> None:
    s3.answer = fixed({"/results/one.out": b""})
    waiting = sensor(invocations=[INVOCATION, {"output_location": "s3://results/two.out"}])
    for _ in range(3):
        assert not waiting.poke(context_for()).is_done
    assert sorted(s3.asked) == ["/results/one.out"] + ["/results/two.out"] * 3


def test_a_closed_port_is_reported_with_the_address(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    no_server = closed_port()
    use(monkeypatch, no_server)
    with pytest.raises(ServiceUnavailable, match=no_server):
        run(invocations=INVOCATION, timeout=3_600)


def test_missing_credentials_are_failed_polls_and_then_worth_a_retry(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    use(monkeypatch, closed_port())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    with pytest.raises(ServiceUnavailable, match="Unable to locate credentials"):
        run(invocations=INVOCATION)


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ({}, "give either invocations .* or output_location"),
        ({"invocations": INVOCATION, "output_location": OUTPUT}, "give either"),
        ({"invocations": []}, "the list is empty"),
        (
            {"output_location": OUTPUT, "completion_queue": "results"},
            "completion_queue must be a queue's URL",
        ),
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
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], arguments: dict[str, Any], reported: str
) -> None:
    use(monkeypatch, closed_port())
    with pytest.raises(AirflowFailException, match=reported) as raised:
        run(**arguments)
    assert isinstance(raised.value.__context__, InvalidRequest)


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
def test_what_no_retry_mends_is_skipped_where_asked(
    s3: StubS3, run: Callable[..., Any], asks: str, arguments: dict[str, Any], why: str
) -> None:
    """soft_fail and never_fail mean the same in every mode."""
    s3.answer = fixed({"/failures/one-error.out": b"why"})
    with pytest.raises(AirflowSkipException) as skipped:
        run(**arguments, **{asks: True})
    assert re.search(f"(?s){asks}.*{why}", _reason(skipped.value))


def _reason(skipped: AirflowSkipException) -> str:
    """Return its text; Airflow itself puts another exception around what a deferred sensor raises."""
    return f"{skipped} {skipped.__context__ or ''}"


def test_an_outage_is_skipped_by_never_fail_only(s3: StubS3, run: Callable[..., Any]) -> None:
    s3.answer = lambda _: 503
    with pytest.raises(ServiceUnavailable):
        run(invocations=INVOCATION, soft_fail=True)
    with pytest.raises(AirflowSkipException) as skipped:
        run(invocations=INVOCATION, never_fail=True)
    assert "polls in a row" in _reason(skipped.value)
