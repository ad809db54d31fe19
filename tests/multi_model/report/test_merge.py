"""Merging the reports in S3: the latest of each shard, for any number of shards, and both files in two folders."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.folder import numbered
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import FencedOff, InferenceError, InputNotFound
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.merge import merge_reports, report_batch
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.state.records import Failure, JournalPart, Run
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, StopReason
from tests.multi_model.report.reports import BAD, GOOD, T0, busy, collected, explained, shard_of
from tests.multi_model.report.shard_reports import lay_out, put
from tests.stubs.stopped_s3 import SharedS3, Stop
from tests.support import Account

CONNECTION = AwsConnection(aws_conn_id=None)


def merged(
    folder: MultiModelPlanFolder,
    *,
    write: bool = False,
    options: ObjectOptions | None = None,
    task_try: TaskTry = TaskTry(),  # noqa: B008 - frozen
) -> BatchReport:
    async def opened() -> BatchReport:
        async with S3Objects.open(CONNECTION) as s3:
            if not write:
                return await merge_reports(s3, folder.location)
            return await report_batch(
                s3, folder.location, task_try=task_try, options=options or ObjectOptions()
            )

    return asyncio.run(opened())


def test_more_shards_than_are_read_at_a_time_are_merged(account: Account) -> None:
    shards = [shard_of(number, {f"m{number}": GOOD}) for number in range(20)]
    folder, _ = lay_out(account, [*shards, None])
    report = merged(folder)
    assert (report.total.records, len(report.models), report.missing_shards) == (200, 21, [20])


def test_only_the_report_of_a_shards_latest_claim_counts(account: Account) -> None:
    folder, _ = lay_out(account, [shard_of(0, {"a.tar.gz": BAD})])
    put(account, numbered(folder.shard(0).claims, 1), b"{}")
    assert merged(folder).missing_shards == [0]
    put(account, folder.shard(0).report(1), shard_of(0, {"a.tar.gz": GOOD}).as_json())
    assert merged(folder).total == GOOD


def test_both_files_are_in_the_plans_folder_and_below_the_outputs(account: Account) -> None:
    folder, plan = lay_out(account, [shard_of(0, statistics=collected(busy("a.tar.gz")))])
    report = merged(folder, write=True, options=ObjectOptions(acl="bucket-owner-full-control"))
    assert (report.report_location, report.report_page_location) == (folder.report, folder.report_page)
    body, page = account.read(folder.report), account.read(folder.report_page)
    assert json.loads(body)["records"] == 10
    assert b"All 10 records succeeded" in page
    outputs = plan.outputs.rstrip("/")
    assert account.read(f"{outputs}/report.json") == body
    assert account.read(f"{outputs}/report.html") == page
    key = folder.report_page.removeprefix(f"s3://{account.bucket}/")
    head = account.s3.head_object(Bucket=account.bucket, Key=key)
    assert head["ContentType"] == "text/html; charset=utf-8"


def test_what_a_stopped_shard_did_and_why_it_stopped_is_in_the_report(account: Account) -> None:
    folder, _ = lay_out(account, [shard_of(0), None])
    reason = StopReason("EndpointNotFound", "there is no endpoint stores")
    counts = {"a.tar.gz": ModelCounts(records=7)}
    done = shard_of(1, counts, statistics=collected(explained()), stopped=reason)
    put(account, folder.shard(1).stop(0), done.as_json())
    report = merged(folder, write=True)
    assert (report.missing_shards, report.unreported, report.total.records) == ([1], 1, 17)
    written = json.loads(account.read(folder.report))
    assert written["stopped"] == [
        {"error": "EndpointNotFound", "message": "there is no endpoint stores", "shards": [1]}
    ]
    assert [(group["error"], group["records"]) for group in written["failure_groups"]] == [("ModelError", 3)]
    assert b"there is no endpoint stores" in account.read(folder.report_page)


def test_the_error_of_an_earlier_claim_does_not_count(account: Account) -> None:
    folder, _ = lay_out(account, [None])
    done = shard_of(0, {"a.tar.gz": ModelCounts()}, stopped=StopReason("EndpointNotFound", "there was none"))
    put(account, folder.shard(0).stop(0), done.as_json())
    put(account, numbered(folder.shard(0).claims, 1), b"{}")
    assert [stop.reason for stop in merged(folder).stops] == [None]


def test_what_a_killed_shard_recorded_is_in_the_report(account: Account) -> None:
    """Two records of its only input succeeded, three failed, and the input has not ended."""
    folder, _ = lay_out(account, [None])
    parts = [
        JournalPart(token="t", written_at=T0, claim=0),
        JournalPart(
            token="t",
            written_at=T0 + 60,
            data="d",
            runs=(Run(0, 0, 10, 0, 2, 0, 10),),
            failures=(Failure(0, 10, 20, 2, 3, "ModelError", retryable=False, offset=10, size=9),),
            statistics=collected(explained(), lambda s: s.called_in_vain("a.tar.gz")),
        ),
    ]
    for number, part in enumerate(parts):
        put(account, numbered(folder.shard(0).journal, number), part.as_json())
    report = merged(folder)
    assert report.total == ModelCounts(records=5, records_failed=3)
    assert (report.unreported, report.invocations, len(report.failure_groups)) == (1, 1, 1)
    assert [(stop.reason, stop.shards) for stop in report.stops] == [(None, [0])]
    assert report.summary()["seconds"] == 60


def test_a_shard_whose_journal_has_gaps_counts_as_not_done(account: Account) -> None:
    folder, _ = lay_out(account, [None])
    put(account, numbered(folder.shard(0).journal, 1), JournalPart(token="t", written_at=T0).as_json())
    assert (merged(folder).unreported, merged(folder).total.records) == (1, 0)


def test_merging_without_a_plan_fails(account: Account) -> None:
    with pytest.raises(InputNotFound, match="no plan"):
        merged(MultiModelPlanFolder(f"s3://{account.bucket}/nowhere/plan-000"))


def test_an_earlier_trys_report_never_replaces_a_later_ones(account: Account) -> None:
    """The earlier try reads a shard without a report, and is stopped before each of its requests until there is one."""

    async def raced(request_number: int) -> bool:
        folder, plan = lay_out(account, [shard_of(0, {"a.tar.gz": GOOD}), None])
        async with SharedS3.open() as shared:
            stop = Stop(request_number)
            orphan = asyncio.ensure_future(
                report_batch(
                    shared.of(stop), folder.location, task_try=TaskTry(1.0, 1), options=ObjectOptions()
                )
            )
            was_stopped = await stop.reached(orphan)
            report = shard_of(1, {"a.tar.gz": replace(GOOD, inputs=1)}).as_json()
            await asyncio.to_thread(put, account, folder.shard(1).report(0), report)
            later = await report_batch(
                shared.of(Stop()), folder.location, task_try=TaskTry(1.0, 2), options=ObjectOptions()
            )
            stop.gone_on.set()
            with suppress(FencedOff):
                await orphan
        assert not later.missing_shards
        for root in (folder.location, plan.outputs.rstrip("/")):
            assert json.loads(account.read(f"{root}/report.json"))["shards_missing"] == 0
            assert account.read(f"{root}/report.html") == account.read(folder.report_page)
        return was_stopped

    for request_number in range(99):
        if not asyncio.run(raced(request_number)):
            break
    assert request_number > 8


def test_a_report_that_does_not_add_up_is_not_written(account: Account) -> None:
    folder, _ = lay_out(account, [shard_of(0)])
    put(account, folder.shard(0).report(0), shard_of(0, {"a.tar.gz": GOOD + GOOD}).as_json())
    with pytest.raises(InferenceError, match="does not add up"):
        merged(folder, write=True)
    with pytest.raises(account.s3.exceptions.NoSuchKey):
        account.read(folder.report)
