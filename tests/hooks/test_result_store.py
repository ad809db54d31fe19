"""Results in S3: what one look tells, and what it does not."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.core.async_inference import AsyncInvocation, Look, Sight
from airflow_sm_plugin.exceptions import AccessDenied, InvalidS3Uri, RequestRefused
from airflow_sm_plugin.hooks.result_store import ResultStoreHook
from tests.support import Account, Answer, answering, closed_port

ONCE = {"retries": {"total_max_attempts": 1}}


def store(**arguments: object) -> ResultStoreHook:
    return ResultStoreHook(**{"aws_conn_id": None} | arguments)


def missing(account: Account, key: str = "no/such/object") -> str:
    return f"s3://{account.bucket}/{key}"


def test_an_object_is_there_or_not(account: Account) -> None:
    assert store().sight(account.upload("x")) is Sight.PRESENT
    assert store().sight(missing(account)) is Sight.ABSENT
    assert store().sight("s3://no-such-bucket-anywhere/key") is Sight.ABSENT


@pytest.mark.parametrize(
    ("answer", "sight"),
    [
        (Answer(403, "AccessDenied"), Sight.FORBIDDEN),
        (Answer(503, "SlowDown"), Sight.UNKNOWN),
        (Answer(500, "InternalError"), Sight.UNKNOWN),
    ],
    ids=["403", "503", "500"],
)
def test_an_error_of_the_service_is_no_verdict(
    account: Account, monkeypatch: pytest.MonkeyPatch, answer: Answer, sight: Sight
) -> None:
    with answering(answer) as (bad, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bad)
        assert store(config=ONCE).sight(missing(account)) is sight


def test_nobody_there_is_no_verdict_and_can_be_told(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = closed_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nobody)
    assert store(config=ONCE).sight(missing(account)) is Sight.UNKNOWN
    assert nobody in store(config=ONCE).why_blind(missing(account))


def test_what_never_can_be_asked_is_an_error_at_once(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessDenied, match="no AWS credentials"):
        store().sight(missing(account))
    with pytest.raises(InvalidS3Uri):
        store().sight("s3://bucket")


@pytest.mark.parametrize(
    ("there", "seen"),
    [
        ((), Look(Sight.ABSENT, Sight.ABSENT)),
        (("output",), Look(Sight.PRESENT, Sight.ABSENT)),
        (("failure",), Look(Sight.ABSENT, Sight.PRESENT)),
        (("output", "failure"), Look(Sight.PRESENT, Sight.ABSENT)),
    ],
)
def test_a_look_asks_for_the_failure_object_only_without_an_output(
    account: Account, there: tuple[str, ...], seen: Look, request: pytest.FixtureRequest
) -> None:
    places = {name: missing(account, f"{request.node.name}/{name}") for name in ("output", "failure")}
    for name in there:
        account.upload("x", places[name].removeprefix(f"s3://{account.bucket}/"))
    invocation = AsyncInvocation(output_location=places["output"], failure_location=places["failure"])
    assert store().look(invocation) == seen


def test_reading_stops_at_the_limit_and_endures_other_encodings(account: Account) -> None:
    assert store().read_start(account.upload("0123456789"), 4) == "0123"
    assert store().read_start(account.upload(b"caf\xe9"), 100) == "caf\ufffd"
    assert store().read_start(account.upload(b""), 100) == ""


def test_reading_says_what_it_could_not_read(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestRefused, match=f"s3:GetObject {missing(account)}: AWS answered NoSuchKey"):
        store().read_start(missing(account), 10)
    with answering(Answer(403, "AccessDenied")) as (strict, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", strict)
        with pytest.raises(AccessDenied, match="allow this action to the task's role"):
            store().read_start(missing(account), 10)
