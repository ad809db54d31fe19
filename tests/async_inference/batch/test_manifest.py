"""A batch of a manifest: its objects are checked once, before anything is sent, and their ETags are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.exceptions import InputNotFound, InvalidRequest
from tests.async_inference.batch.async_batches import (
    OBEDIENT,
    invocations_of,
    rows_at,
    run_batch,
    settings_for,
)
from tests.support import Account, unique


@pytest.fixture
def own_endpoint(account: Account) -> str:
    return account.deploy(OBEDIENT, asynchronous=True)


def settings_of(account: Account, endpoint: str, *lines: dict[str, str], **changes: Any) -> BatchSettings:  # noqa: ANN401 - fields
    """Return settings of a batch of a manifest with these lines."""
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    location = account.upload(text, f"manifests/{unique('m')}.jsonl")
    settings = settings_for(account, endpoint, location, attempts=1)
    source = InputSource(location=location, inputs_type="ManifestFile", **changes)
    return replace(settings, source=source)


def test_every_line_ends_as_one_row_with_its_own_attributes(account: Account, own_endpoint: str) -> None:
    twice, other = account.upload("a"), account.upload("b", "day=7/b.txt")
    settings = settings_of(
        account,
        own_endpoint,
        {"source-ref": twice},
        {"source-ref": other, "content-type": "text/csv"},
        {"source-ref": twice, "custom-attributes": "of its own"},
        custom_attributes="{number}",
    )
    done = run_batch(settings)
    rows = rows_at(account, done.report.rows_location)
    assert [row.source for row in rows] == [twice, other, twice]
    assert [row.custom_attributes for row in rows] == ["0", "1", "of its own"]
    assert [account.read(row.output_location or "") for row in rows] == [b"A", b"B", b"A"]
    assert all(row.etag for row in rows)
    assert invocations_of(account, own_endpoint) == 3


def test_a_batch_that_runs_again_sends_only_what_changed(account: Account, own_endpoint: str) -> None:
    kept, changed = account.upload("a"), account.upload("b", f"{unique('b')}.txt")
    settings = settings_of(account, own_endpoint, {"source-ref": kept}, {"source-ref": changed})
    run_batch(settings)
    account.upload("changed", changed.removeprefix(f"s3://{account.bucket}/"))
    done = run_batch(replace(settings, run="another"))
    rows = rows_at(account, done.report.rows_location)
    assert [account.read(row.output_location or "") for row in rows] == [b"A", b"CHANGED"]
    assert invocations_of(account, own_endpoint) == 3


def test_a_missing_object_is_reported_before_anything_is_sent(account: Account, own_endpoint: str) -> None:
    lines = [{"source-ref": account.upload("a")}, {"source-ref": f"s3://{account.bucket}/not/there"}]
    settings = settings_of(account, own_endpoint, *lines)
    with pytest.raises(InputNotFound, match=r"line 2: s3://\S+/not/there\. Nothing was sent"):
        run_batch(settings)
    assert invocations_of(account, own_endpoint) == 0
    account.upload("b", "not/there")
    assert run_batch(settings).report.counts.succeeded == 2


def test_unchecked_a_missing_object_is_a_failed_row(account: Account, own_endpoint: str) -> None:
    missing = f"s3://{account.bucket}/{unique('nowhere')}"
    settings = settings_of(account, own_endpoint, {"source-ref": missing}, check_inputs=False)
    (row,) = rows_at(account, run_batch(settings).report.failures_location)
    assert (row.source, row.status, row.etag) == (missing, "failed", None)


def test_a_malformed_line_sends_nothing(account: Account, own_endpoint: str) -> None:
    line = {"source-ref": account.upload("a")}
    with pytest.raises(InvalidRequest, match="line 2 of the manifest"):
        run_batch(settings_of(account, own_endpoint, line, {"target": "nonsense"}))
    assert invocations_of(account, own_endpoint) == 0
