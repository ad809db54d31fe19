"""Objects that a batch wrote about itself are no inputs, of either kind of batch, by prefix or by manifest."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from airflow_sm_plugin.async_inference.batch.folder import BatchFolder
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.folder import MARK
from airflow_sm_plugin.batches.input_chunks import inputs_digest, plan_inputs
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.report.merge import report_batch
from tests.async_inference.batch.async_batches import OBEDIENT, calls, run_batch, settings_for
from tests.multi_model.plan.plans import in_s3, planned, settings_of
from tests.multi_model.report.reports import GOOD, shard_of
from tests.multi_model.report.shard_reports import lay_out
from tests.support import Account, Answer, answering, unique

Plan = Callable[[S3Objects, InputSource, str], Awaitable[object]]


async def _async_batch(s3: S3Objects, source: InputSource, top: str) -> object:
    return await plan_inputs(s3, source, into=f"{top}-plan")


async def _async_batch_again(s3: S3Objects, source: InputSource, top: str) -> object:
    return await inputs_digest(s3, source)


async def _multi_model_batch(s3: S3Objects, source: InputSource, top: str) -> object:
    return await make_plan(s3, settings_of(f"{top}-other", source=source, target_model="m.tar.gz"), None)


PLANS: dict[str, Plan] = {
    "an asynchronous batch": _async_batch,
    "one that ran before": _async_batch_again,
    "a multi-model batch": _multi_model_batch,
}


@pytest.fixture(params=PLANS.values(), ids=list(PLANS))
def plan(request: pytest.FixtureRequest) -> Plan:
    """List the inputs as one of the operators does."""
    chosen: Plan = request.param
    return chosen


@pytest.fixture
def top(account: Account) -> str:
    """A prefix of this test alone, without a slash at its end."""
    return f"s3://{account.bucket}/{unique('origins')}"


def put(account: Account, location: str, body: str = "x", *, mark: str | None = None) -> str:
    """Write an object, with a batch's mark if given."""
    key = location.removeprefix(f"s3://{account.bucket}/")
    metadata = {} if mark is None else {MARK: mark}
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=body.encode(), Metadata=metadata)
    return location


def manifest(account: Account, top: str, *sources: str, check_inputs: bool = False) -> InputSource:
    """Return a source of these objects."""
    lines = "".join(json.dumps({"source-ref": source}) + "\n" for source in sources)
    location = put(account, f"{top}-manifest.jsonl", lines)
    return InputSource(location=location, inputs_type="ManifestFile", check_inputs=check_inputs)


@pytest.mark.parametrize("state_prefix", [None, "/state"], ids=["default", "state_prefix"])
def test_a_multi_model_batchs_state_is_no_input(
    account: Account, top: str, plan: Plan, state_prefix: str | None
) -> None:
    put(account, f"{top}/in/store=1/a")
    state = None if state_prefix is None else f"{top}{state_prefix}"
    planned(settings_of(top, state_prefix=state, target_model="m.tar.gz"))
    source = InputSource(location=state or f"{top}/out/")
    with pytest.raises(
        InvalidRequest, match=r"/_batch/.* is part of the state of a batch.* list the objects"
    ):
        in_s3(lambda s3: plan(s3, source, top))


def test_an_asynchronous_batchs_ledger_is_no_input(account: Account, top: str, plan: Plan) -> None:
    folder = BatchFolder.below(f"{top}/ledger", owner=digest("o"), arguments=digest("a"))
    row = put(account, folder.plan(0).rows_of(0))
    sources = (InputSource(location=f"{top}/ledger/"), InputSource(location=folder.plan(0).rows))
    for source in (*sources, manifest(account, top, row), manifest(account, top, row, check_inputs=True)):
        with pytest.raises(InvalidRequest, match=f"the input {row} is part of the state of a batch"):
            in_s3(lambda s3, source=source: plan(s3, source, top))  # type: ignore[misc]


def test_the_reports_beside_outputs_are_no_inputs(account: Account, top: str, plan: Plan) -> None:
    folder, batch_plan = lay_out(account, [shard_of(0, {"a.tar.gz": GOOD})])
    in_s3(lambda s3: report_batch(s3, folder.location, task_try=TaskTry(), options=ObjectOptions()))
    for name in ("report.html", "report.json"):
        source = InputSource(location=f"{batch_plan.outputs}{name}")
        with pytest.raises(InvalidRequest, match=f"{name} is the report of a batch, no data for a model"):
            in_s3(lambda s3, source=source: plan(s3, source, top))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["report.json", "a.csv.errors.jsonl", "a.csv.attributes.jsonl"])
def test_marked_objects_are_distinguished_from_a_users_own_file(
    account: Account, top: str, plan: Plan, name: str
) -> None:
    own = put(account, f"{top}/in/{name}")
    result = put(account, f"{top}/in/a.csv.out", mark="a batch")
    for source in (InputSource(location=f"{top}/in/"), manifest(account, top, own, result)):
        in_s3(lambda s3, source=source: plan(s3, source, top))  # type: ignore[misc]
    put(account, own, mark="a batch")
    for source, remedy in (
        (InputSource(location=f"{top}/in/"), "take a prefix without it"),
        (manifest(account, top, result, own), rf"take its line out of {top}-manifest\.jsonl"),
    ):
        with pytest.raises(
            InvalidRequest, match=f"the input {own} is .*nothing was sent. To go on, {remedy}"
        ):
            in_s3(lambda s3, source=source: plan(s3, source, top))  # type: ignore[misc]


def test_a_batchs_results_are_inputs_where_a_pattern_leaves_its_state_and_reports_out(
    account: Account, top: str, plan: Plan
) -> None:
    put(account, f"{top}/in/store=1/a")
    planned(settings_of(top, target_model="m.tar.gz"))
    put(account, f"{top}/out/report.json", mark="a batch")
    put(account, f"{top}/out/store=1/a.out", mark="a batch")
    for given in ({"include": ("*.out",)}, {"exclude": ("_batch/*", "report.*")}):
        source = InputSource(location=f"{top}/out/", **given)
        in_s3(lambda s3, source=source: plan(s3, source, top))  # type: ignore[misc]
    source = InputSource(location=f"{top}/out/")
    with pytest.raises(InvalidRequest, match=r"choose with include, e\.g\. \['\*\.out'\]"):
        in_s3(lambda s3: plan(s3, source, top))


def test_a_manifest_is_none_of_its_own_inputs(account: Account, top: str, plan: Plan) -> None:
    source = manifest(account, top, f"{top}-manifest.jsonl")
    with pytest.raises(InvalidRequest, match="is the manifest itself"):
        in_s3(lambda s3: plan(s3, source, top))


def test_a_file_that_cannot_be_checked_is_taken_with_a_warning(
    account: Account,
    top: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = manifest(account, top, put(account, f"{top}/in/report.json", mark="a batch"))
    with answering(None, Answer(403, "AccessDenied"), otherwise=account.url) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        assert in_s3(lambda s3: plan_inputs(s3, source, into=f"{top}-plan")).count == 1
    assert asked[1].startswith("HEAD ")
    assert "cannot be checked" in caplog.text


def test_nothing_of_another_batch_is_sent(account: Account, top: str) -> None:
    """From the first byte that is paid for, an asynchronous batch over a multi-model batch's outputs is refused."""
    name = account.deploy(OBEDIENT, asynchronous=True)
    put(account, f"{top}/in/store=1/a")
    planned(settings_of(top, target_model="m.tar.gz"))
    with pytest.raises(InvalidRequest, match="is part of the state of a batch"):
        run_batch(settings_for(account, name, f"{top}/out/"))
    assert not [call for call in calls(account, "InvokeEndpointAsync") if call["resource"] == name]
