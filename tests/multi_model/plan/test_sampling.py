"""A plan can be estimated without writing or invoking anything."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from airflow_sm_plugin.multi_model.plan.estimate import PlanEstimate, estimate_plan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from tests.multi_model.plan.plans import finish, in_s3, planned, settings_of
from tests.support import Account, unique

SINGLE = SplitOptions()
LINE = b"0123456789abcde\n"


@pytest.fixture
def top(account: Account) -> str:
    """A prefix of this test alone, without a slash at its end."""
    return f"s3://{account.bucket}/{unique('plan')}"


def estimated(
    settings: PlanSettings, options: SplitOptions = SINGLE, endpoint: EndpointModels | None = None
) -> PlanEstimate:
    return in_s3(lambda s3: estimate_plan(s3, settings, endpoint, options))


def put(account: Account, top: str, name: str, body: bytes) -> None:
    account.upload(body, f"{top}/{name}".removeprefix(f"s3://{account.bucket}/"))


def keys(account: Account, top: str) -> set[str]:
    prefix = top.removeprefix(f"s3://{account.bucket}/")
    return {
        listed_object["Key"]
        for listed_object in account.s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix)["Contents"]
    }


@pytest.mark.parametrize("body", [LINE * 1_000, gzip.compress(LINE * 1_000)], ids=["plain", "gzip"])
def test_records_are_estimated_from_the_inputs_beginnings(account: Account, top: str, body: bytes) -> None:
    for store in range(3):
        put(account, top, f"in/store={store}/a", body)
    estimate = estimated(settings_of(top))
    assert estimate.sampled == 3
    assert estimate.payloads == pytest.approx(3_000, rel=0.01)
    many = SplitOptions(batch_strategy="MultiRecord", max_payload_bytes=8_000)
    assert estimated(settings_of(top), many).payloads == pytest.approx(6, rel=0.01)


def test_a_record_ends_where_the_batch_splits_it(account: Account, top: str) -> None:
    """At LF and nowhere else; lines of spaces are no records."""
    put(account, top, "in/store=1/a", b"a\rb\x0cc\x1cd\r\n \r\n\t\n" * 500)
    assert estimated(settings_of(top)).payloads == pytest.approx(1_000, rel=0.01)


def test_an_inputs_beginning_represents_the_input(account: Account, top: str) -> None:
    put(account, top, "in/store=1/a", LINE * 100_000)
    put(account, top, "in/store=1/b", b"\n" * 10)
    assert estimated(settings_of(top)).payloads == pytest.approx(100_000, rel=0.01)


def test_unsplit_inputs_are_counted_and_none_is_read(account: Account, top: str) -> None:
    for store, body in enumerate((LINE, LINE, b"")):
        put(account, top, f"in/store={store}/a", body)
    estimate = estimated(settings_of(top), SplitOptions(split_type="None"))
    assert (estimate.payloads, estimate.sampled) == (2, None)


def test_an_estimate_has_shards_missing_models_and_finished_inputs_and_writes_nothing(
    account: Account, top: str
) -> None:
    put(account, top, "models/0.tar.gz", b"x")
    endpoint = EndpointModels(endpoint_name="ratings", prefixes=(f"{top}/models/",))
    put(account, top, "in/store=0/a", LINE)
    settings = settings_of(top)
    finish(planned(settings))
    put(account, top, "in/store=0/b", LINE)
    put(account, top, "in/store=1/a", LINE * 2)
    before = keys(account, top)
    estimate = estimated(settings, endpoint=endpoint)
    assert keys(account, top) == before
    assert estimate.carried == 1
    assert [(model.target_model, model.inputs, model.shards, model.missing) for model in estimate.models] == [
        ("0.tar.gz", 1, 1, False),
        ("1.tar.gz", 1, 1, True),
    ]
    assert sorted(estimate.shard_bytes) == [16, 32]
    assert estimated(replace(settings, restart=True)).carried == 0


def test_an_error_of_the_plan_is_an_error_of_its_estimate(top: str) -> None:
    with pytest.raises(InvalidRequest, match="no inputs below"):
        estimated(settings_of(top))
    assert estimated(settings_of(top, empty_ok=True)).lines()
