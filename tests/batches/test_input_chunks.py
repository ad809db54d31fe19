"""A plan holds every input once, in order and checked, and says why it cannot be made before anything is sent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.input_chunks import (
    PlanSummary,
    chunk_location,
    inputs_digest,
    plan_inputs,
    read_chunk,
    write_chunks,
)
from airflow_sm_plugin.batches.inputs import SHARD, BatchInput, InputLimits, InputSource
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InputNotFound,
    InvalidCustomAttributes,
    InvalidRequest,
    InvalidS3Uri,
)
from tests.stubs.aws import StubClient, running
from tests.support import Account, Answer, answering, unique

RUN = {"dag_id": "scores", "run_id": "manual__2026-01-01T00:00:00+00:00", "task_id": "batch"}

Result = TypeVar("Result")


def in_s3(work: Callable[[S3Objects], Awaitable[Result]]) -> Result:
    """Run work on S3 in a new event loop."""

    async def opened() -> Result:
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            return await work(s3)

    return asyncio.run(opened())


def planned(source: InputSource, into: str) -> PlanSummary:
    return in_s3(lambda s3: plan_inputs(s3, source, into=into))


def inputs_of(into: str, plan: PlanSummary) -> list[BatchInput]:
    async def read(s3: S3Objects) -> list[BatchInput]:
        return [item for number in range(plan.shards) for item in await read_chunk(s3, into, number)]

    return in_s3(read)


@pytest.fixture
def top(account: Account) -> str:
    """A prefix of this test alone, without a slash at its end."""
    return f"s3://{account.bucket}/{unique('plan')}"


def upload(account: Account, location: str, body: str | bytes = "x") -> str:
    return account.upload(body, location.removeprefix(f"s3://{account.bucket}/"))


def manifest(account: Account, top: str, *lines: object, check_inputs: bool = False) -> InputSource:
    """Upload a manifest, and make a source whose objects are not checked, except on request."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    location = upload(account, f"{top}/manifest.jsonl", text)
    return InputSource(location=location, inputs_type="ManifestFile", check_inputs=check_inputs)


def test_every_object_below_a_prefix_is_an_input_in_the_order_of_the_keys(account: Account, top: str) -> None:
    names = ["b/2.csv", "a.csv", "b/1 &+,%.csv", "b/"]
    for name in names:
        upload(account, f"{top}/in/{name}", name)
    upload(account, f"{top}/in/c_$folder$", "")
    upload(account, f"{top}/elsewhere.csv")
    plan = planned(InputSource(location=f"{top}/in/"), f"{top}/plan")
    inputs = inputs_of(f"{top}/plan", plan)
    assert [item.source for item in inputs] == [
        f"{top}/in/{name}" for name in ("a.csv", "b/1 &+,%.csv", "b/2.csv")
    ]
    assert [item.size for item in inputs] == [5, 12, 7]
    heads = [account.s3.head_object(Bucket=account.bucket, Key=key) for key in keys_of(inputs)]
    assert [f'"{item.etag}"' for item in inputs] == [head["ETag"] for head in heads]
    assert (plan.count, plan.shards) == (3, 1)


def test_markers_of_spark_and_others_are_no_inputs_and_are_logged_once_by_kind(
    account: Account, top: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (
        "_SUCCESS",
        ".part-0.csv.crc",
        "day=1/._SUCCESS.crc",
        "_delta_log/0.json",
        "day=1/",
        "d_$folder$",
    ):
        upload(account, f"{top}/in/{name}", "")
    for name in ("part-0.csv", "day=1/part-0.csv", "_day=2/part-0.csv"):
        upload(account, f"{top}/in/{name}")
    with caplog.at_level(logging.INFO):
        plan = planned(InputSource(location=f"{top}/in"), f"{top}/plan")
    assert [item.source for item in inputs_of(f"{top}/plan", plan)] == [
        f"{top}/in/{name}" for name in ("_day=2/part-0.csv", "day=1/part-0.csv", "part-0.csv")
    ]
    assert plan.passed_over == 6
    (message,) = [record.getMessage() for record in caplog.records if "no inputs" in record.getMessage()]
    assert message == (
        f"{top}/in: 6 objects are no inputs: 2 *.crc, 2 folder markers, 1 _SUCCESS, 1 _delta_log"
    )


def test_patterns_select_and_one_without_a_match_is_logged(
    account: Account, top: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.csv", "b.csv", "old/c.csv", "d.json", "_raw/e.csv"):
        upload(account, f"{top}/in/{name}")
    source = InputSource(
        location=f"{top}/in/",
        include=("*.csv", "_raw/*", "*.tsv"),
        exclude=("old/*", "*.tmp"),
        custom_attributes="{relative}#{number}",
    )
    with caplog.at_level(logging.INFO):
        plan = planned(source, f"{top}/plan")
    inputs = inputs_of(f"{top}/plan", plan)
    assert [item.custom_attributes for item in inputs] == ["_raw/e.csv#0", "a.csv#1", "b.csv#2"]
    assert f"{top}/in/: 2 objects are no inputs: 1 not included, 1 excluded" in caplog.text
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert levels[f"{top}/in/: no object there matches include '*.tsv'"] == "WARNING"
    assert levels[f"{top}/in/: no object there matches exclude '*.tmp'"] == "INFO"


def test_a_pattern_for_a_prefix_gets_the_remedy(account: Account, top: str) -> None:
    upload(account, f"{top}/in/a.csv")
    folder = top.removeprefix(f"s3://{account.bucket}/")
    match = rf"no inputs below .*\*\.csv: nothing was sent; .* end in '{folder}/in/', and give include=\[\"\*\.csv\"\]"
    with pytest.raises(InvalidRequest, match=match):
        planned(InputSource(location=f"{top}/in/*.csv"), f"{top}/plan")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, r"the only object there is passed over \(1 _SUCCESS\): .*/in/_SUCCESS'"),
        ({"exclude": ("*",)}, r"\(1 _SUCCESS\)"),
        ({"include": ("*.cvs",)}, r"no object matches include '\*\.cvs'"),
    ],
)
def test_the_error_explains_why_there_are_no_inputs(
    account: Account, top: str, given: dict[str, tuple[str, ...]], reason: str
) -> None:
    upload(account, f"{top}/in/_SUCCESS", "")
    with pytest.raises(InvalidRequest, match=f"no inputs below {top}/in/: nothing was sent; .*{reason}"):
        planned(InputSource(location=f"{top}/in/", **given), f"{top}/plan")  # type: ignore[arg-type] # a table


@pytest.mark.parametrize("given", [{"include": ("*.csv",)}, {"exclude": ("*.csv",)}])
def test_a_manifest_takes_no_patterns(given: dict[str, tuple[str, ...]]) -> None:
    source = InputSource(location="s3://b/m.json", inputs_type="ManifestFile", **given)  # type: ignore[arg-type] # a table
    with pytest.raises(InvalidRequest, match="a manifest says by itself which are meant: leave them out"):
        source.checked()


def test_patterns_change_the_digest_only_where_they_change_the_inputs(account: Account, top: str) -> None:
    for name in ("a.csv", "b.json"):
        upload(account, f"{top}/in/{name}")

    def digest_of(**given: tuple[str, ...]) -> str:
        source = InputSource(location=f"{top}/in/", **given)  # type: ignore[arg-type] # patterns
        return in_s3(lambda s3: inputs_digest(s3, source))

    everything = digest_of()
    assert digest_of(include=("*",)) == digest_of(exclude=("*.gz",)) == everything
    assert digest_of(include=("*.csv",)) == digest_of(exclude=("*.json",)) != everything


def test_a_manifest_of_batch_transform_lists_inputs_below_its_prefix(account: Account, top: str) -> None:
    for name in ("deep/a.csv", "_SUCCESS"):
        upload(account, f"{top}/in/{name}", name)
    body = json.dumps([{"prefix": f"{top}/in/"}, "deep/a.csv", "_SUCCESS"], indent=1)
    location = upload(account, f"{top}/manifest.json", body)
    source = InputSource(location=location, inputs_type="ManifestFile", custom_attributes="{relative}")
    inputs = inputs_of(f"{top}/plan", planned(source, f"{top}/plan"))
    assert [(item.source, item.size, item.custom_attributes) for item in inputs] == [
        (f"{top}/in/deep/a.csv", 10, "deep/a.csv"),
        (f"{top}/in/_SUCCESS", 8, "_SUCCESS"),
    ]
    upload(account, location, body.replace("_SUCCESS", "nowhere"))
    with pytest.raises(
        InputNotFound, match=f"does not exist: element 3: {top}/in/nowhere \\(the prefix with the"
    ):
        planned(source, f"{top}/plan-2")


def keys_of(inputs: list[BatchInput]) -> list[str]:
    return [item.source.removeprefix("s3://").partition("/")[2] for item in inputs]


def test_the_same_inputs_make_the_same_digest_and_others_another(account: Account, top: str) -> None:
    upload(account, f"{top}/in/a.csv", "1")
    source = InputSource(location=f"{top}/in/")
    first = planned(source, f"{top}/plan-0")
    assert planned(source, f"{top}/plan-1") == first
    upload(account, f"{top}/in/a.csv", "2")
    changed = planned(source, f"{top}/plan-2")
    assert changed.digest != first.digest
    assert changed.count == first.count


def test_custom_attributes_are_rendered_from_the_key_the_run_and_the_number(
    account: Account, top: str
) -> None:
    for name in ("store=7/a.csv", "store=8/b.csv"):
        upload(account, f"{top}/in/{name}")
    source = InputSource(
        location=f"{top}/in/",
        custom_attributes="{dag_id}/{run_id}/{store}/{stem}/{relative}#{number}",
        run=RUN,
    )
    plan = planned(source, f"{top}/plan")
    assert [item.custom_attributes for item in inputs_of(f"{top}/plan", plan)] == [
        f"scores/{RUN['run_id']}/7/a/store=7/a.csv#0",
        f"scores/{RUN['run_id']}/8/b/store=8/b.csv#1",
    ]


def test_a_manifest_is_taken_line_by_line_duplicates_included(account: Account, top: str) -> None:
    source = manifest(
        account,
        top,
        {"source-ref": "s3://other/b.csv", "custom-attributes": "{own}", "content-type": "text/csv"},
        "",
        {"source-ref": "s3://other/day=1/a.csv"},
        {"source-ref": "s3://other/day=1/a.csv"},
    )
    plan = planned(
        replace(source, custom_attributes="{relative}#{number}"),
        f"{top}/plan",
    )
    assert inputs_of(f"{top}/plan", plan) == [
        BatchInput(source="s3://other/b.csv", content_type="text/csv", custom_attributes="{own}"),
        BatchInput(source="s3://other/day=1/a.csv", custom_attributes="day=1/a.csv#1"),
        BatchInput(source="s3://other/day=1/a.csv", custom_attributes="day=1/a.csv#2"),
    ]
    assert plan.count == 3


def test_a_manifest_may_lie_among_its_plan(account: Account, top: str) -> None:
    """Nothing is listed, so nothing can be taken for an input."""
    assert planned(manifest(account, top, {"source-ref": "s3://b/k"}), top).count == 1


def test_the_location_of_a_manifest_is_irrelevant_for_its_inputs(account: Account, top: str) -> None:
    """``relative`` is the full key, also if both are in one folder."""
    line = json.dumps({"source-ref": f"{top}/in/a.csv"})
    location = upload(account, f"{top}/in/manifest.jsonl", line)
    source = InputSource(
        location=location,
        inputs_type="ManifestFile",
        custom_attributes="{relative}|{key}",
        check_inputs=False,
    )
    inputs = inputs_of(f"{top}/plan", planned(source, f"{top}/plan"))
    key = f"{top}/in/a.csv".removeprefix(f"s3://{account.bucket}/")
    assert [item.custom_attributes for item in inputs] == [f"{key}|{key}"]


def test_a_malformed_line_is_named_by_number_and_no_plan_is_written(account: Account, top: str) -> None:
    good = [{"source-ref": f"s3://b/{number}"} for number in range(3)]
    with pytest.raises(InvalidRequest, match="line 4 of the manifest is not JSON"):
        planned(manifest(account, top, *good, "nonsense", *good), f"{top}/plan")
    with pytest.raises(InputNotFound):
        in_s3(lambda s3: read_chunk(s3, f"{top}/plan", 0))


@pytest.mark.parametrize(
    "body",
    [
        b'{"source-ref": "s3://b/k"}\r\n{"source-ref": "s3://b/l"}',
        b'\xef\xbb\xbf{"source-ref": "s3://b/k"}\n',
    ],
    ids=["Windows' line ends, none at the end", "byte order mark"],
)
def test_manifests_of_other_systems_are_read_too(account: Account, top: str, body: bytes) -> None:
    location = upload(account, f"{top}/manifest.jsonl", body)
    source = InputSource(location=location, inputs_type="ManifestFile", check_inputs=False)
    plan = planned(source, f"{top}/plan")
    assert inputs_of(f"{top}/plan", plan)[0].source == "s3://b/k"
    assert plan.count == body.count(b"source-ref")


def test_a_manifest_that_is_no_text_or_not_there_is_refused(account: Account, top: str) -> None:
    location = upload(account, f"{top}/manifest.jsonl", b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match=r"manifest\.jsonl"):
        planned(InputSource(location=location, inputs_type="ManifestFile"), f"{top}/plan")
    with pytest.raises(InputNotFound, match=r"nowhere\.jsonl does not exist"):
        planned(InputSource(location=f"{top}/nowhere.jsonl", inputs_type="ManifestFile"), f"{top}/plan")


def test_no_inputs_are_bad_input(account: Account, top: str) -> None:
    upload(account, f"{top}/in/", "")
    source = InputSource(location=f"{top}/in/")
    with pytest.raises(InvalidRequest, match=f"there are no inputs below {top}/in/: nothing was sent"):
        planned(source, f"{top}/plan")
    with pytest.raises(InvalidRequest, match=r"the manifest .*manifest.jsonl lists no inputs"):
        planned(manifest(account, top, ""), f"{top}/plan")


def test_an_input_over_the_limit_is_named(account: Account, top: str) -> None:
    for name, body in (("a", "xx"), ("b", "xxx"), ("c", "xxxx")):
        upload(account, f"{top}/in/{name}", body)
    source = InputSource(location=f"{top}/in/", limits=InputLimits(most_bytes=2, remedy="cut it"))
    with pytest.raises(InvalidRequest, match=f"the input {top}/in/b has 3 bytes, .* up to 2: cut it"):
        planned(source, f"{top}/plan")


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{nothing}", InvalidRequest, "custom_attributes names the field {nothing}"),
        ("{", InvalidRequest, "custom_attributes is no template"),
        ("x" * 1_020 + "{name}", InvalidCustomAttributes, "the input .*a.csv: CustomAttributes are 1025"),
    ],
)
def test_attributes_that_cannot_be_sent_are_refused_beforehand(
    account: Account, top: str, template: str, error: type[Exception], message: str
) -> None:
    upload(account, f"{top}/in/a.csv")
    with pytest.raises(error, match=message):
        planned(InputSource(location=f"{top}/in/", custom_attributes=template), f"{top}/plan")


@pytest.mark.parametrize(("inputs", "into"), [("", "/plan"), ("/", ""), ("/pl", "/plan"), ("/inputs/", "")])
def test_a_plan_among_its_own_inputs_is_refused(account: Account, top: str, inputs: str, into: str) -> None:
    upload(account, f"{top}{inputs}/a.csv")
    with pytest.raises(InvalidRequest, match="are not apart"):
        planned(InputSource(location=f"{top}{inputs}"), f"{top}{into}")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (InputSource(location="bucket/in"), InvalidS3Uri),
        (InputSource(location="s3://bucket/in/", inputs_type="ManifestFile"), InvalidS3Uri),
        (InputSource(location="s3://bucket/in/", inputs_type="AugmentedManifestFile"), InvalidRequest),
    ],
)
def test_a_source_that_is_none_is_refused_without_asking_s3(
    source: InputSource, error: type[Exception]
) -> None:
    with pytest.raises(error, match="inputs"):
        source.checked()


def test_a_listing_with_transient_errors_is_retried(
    account: Account, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(account, f"{top}/in/a.csv")
    slow_down = Answer(503, "SlowDown")
    with answering(slow_down, slow_down, otherwise=account.url) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        assert planned(InputSource(location=f"{top}/in/"), f"{top}/plan").count == 1
    assert sum("list-type=2" in request for request in asked) == 3


def test_a_refused_listing_is_raised_at_once(
    account: Account, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(Answer(403, "AccessDenied")) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(AccessDenied, match=f"s3:ListObjectsV2 {top}/in/"):
            planned(InputSource(location=f"{top}/in/"), f"{top}/plan")
    assert len(asked) == 1


@pytest.fixture(scope="module")
def quick() -> Iterator[StubClient]:
    """A quick S3 of this module's own, for more objects than moto takes in reasonable time."""
    with running() as stub:
        yield stub


@pytest.fixture
def many(quick: StubClient, account: Account, monkeypatch: pytest.MonkeyPatch) -> tuple[StubClient, str]:
    """Two and a half shards of inputs, and their prefix."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", quick.url)
    prefix = unique("in")
    quick.fill([f"{prefix}/{number:07d}.csv" for number in range(2 * SHARD + 500)])
    quick.take_calls()
    return quick, f"s3://bench/{prefix}/"


def test_many_inputs_fill_shards_in_order_at_one_request_for_each_page_and_shard(
    many: tuple[StubClient, str],
) -> None:
    quick, prefix = many
    into = f"s3://bench/{unique('plan')}"
    plan = planned(InputSource(location=prefix), into)
    assert (plan.count, plan.shards) == (2_500, 3)
    assert quick.take_calls() == {"list": 3, "put": 3}
    inputs = inputs_of(into, plan)
    assert [item.source for item in inputs] == [f"{prefix}{number:07d}.csv" for number in range(2_500)]
    assert len(in_s3(lambda s3: read_chunk(s3, into, 1))) == SHARD


def test_inputs_may_come_from_anywhere(account: Account, top: str) -> None:
    """A plan can be written from any inputs."""

    async def again() -> AsyncGenerator[BatchInput, None]:
        for number in range(3):
            yield BatchInput(source=f"s3://b/{number}", size=number)

    plan = in_s3(lambda s3: write_chunks(s3, again(), into=f"{top}/round-2/"))
    assert plan.count == 3
    assert chunk_location(f"{top}/round-2/", 0) == f"{top}/round-2/inputs/00000.jsonl"
    assert [item.size for item in inputs_of(f"{top}/round-2", plan)] == [0, 1, 2]


def test_a_shard_that_cannot_be_written_ends_the_plan_with_the_reason(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is raised at the next shard, and no later shard is written."""

    async def endless() -> AsyncGenerator[BatchInput, None]:
        while True:
            yield BatchInput(source="s3://b/k")

    with answering(Answer(403, "AccessDenied")) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(AccessDenied, match=r"s3:PutObject .*/inputs/00000\.jsonl"):
            in_s3(lambda s3: write_chunks(s3, endless(), into="s3://bucket/plan"))
    assert len(asked) == 1


def test_inputs_that_break_off_do_not_wait_for_a_shard_that_is_being_written(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leave nothing running, here against an S3 that never answers."""

    async def broken_off() -> set[asyncio.Task[object]]:
        asked, ended = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readline()
                asked.set()
                await ended.wait()
            finally:
                writer.close()

        async def broken() -> AsyncGenerator[BatchInput, None]:
            for _ in range(SHARD):
                yield BatchInput(source="s3://b/k")
            await asked.wait()
            raise InvalidRequest("from the test")

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
            async with asyncio.timeout(600), S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
                before = asyncio.all_tasks()
                with pytest.raises(InvalidRequest, match="from the test"):
                    await write_chunks(s3, broken(), into="s3://bucket/plan")
                ended.set()
                return {task for task in asyncio.all_tasks() - before if "silent" not in repr(task)}

    assert asyncio.run(broken_off()) == set()


def test_names_with_the_suffix_of_another_format_are_warned_of_once(
    account: Account, top: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.csv.gz", "b.parquet", "c.csv"):
        account.upload("1", f"{top}/in/{name}".removeprefix(f"s3://{account.bucket}/"))
    source = InputSource(location=f"{top}/in/")
    caplog.set_level("WARNING")
    for content_type, warned in (("text/csv", 1), ("application/x-parquet", 0), (None, 0)):
        caplog.clear()
        plan = in_s3(
            lambda s3, kind=content_type: plan_inputs(  # type: ignore[misc] # bound at once
                s3, source, into=f"{top}/{unique('plan')}", content_type=kind
            )
        )
        assert plan.count == 3
        messages = [
            record.getMessage() for record in caplog.records if "may not be what" in record.getMessage()
        ]
        assert len(messages) == warned
        assert all("2 inputs" in each and "a.csv.gz (gzip, sent as text/csv)" in each for each in messages)
