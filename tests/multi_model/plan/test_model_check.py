"""A missing artefact is found before the endpoint is invoked, if the role is permitted to check."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan import draft
from airflow_sm_plugin.multi_model.plan.draft import missing_models
from tests.multi_model.plan.plans import in_s3
from tests.stubs.aws import StubClient, running
from tests.support import Account, Answer, answering, unique

NAMES = ["a/1.tar.gz", "b &+%.tar.gz", "c.tar.gz"]


def missing(endpoint: EndpointModels, models: list[str]) -> tuple[str, ...]:
    return in_s3(lambda s3: missing_models(s3, endpoint, models))


def endpoint_of(*prefixes: str) -> EndpointModels:
    return EndpointModels(endpoint_name="ratings", prefixes=prefixes)


@pytest.fixture
def prefix(account: Account) -> str:
    """The prefix of all models of ``NAMES`` but the last."""
    key = f"{unique('models')}/"
    for name in NAMES[:-1]:
        account.upload("x", f"{key}{name}")
    return f"s3://{account.bucket}/{key}"


@pytest.mark.parametrize("max_heads", [0, 1_000], ids=["listed", "checked one by one"])
def test_missing_models_are_named(prefix: str, monkeypatch: pytest.MonkeyPatch, max_heads: int) -> None:
    monkeypatch.setattr(draft, "MAX_HEADS", max_heads)
    assert missing(endpoint_of(prefix), [*NAMES, "0.tar.gz"]) == ("0.tar.gz", "c.tar.gz")
    assert missing(endpoint_of(prefix), NAMES[:2]) == ()


def test_a_model_must_be_below_each_prefix(account: Account, prefix: str) -> None:
    """An endpoint can have several multi-model containers."""
    other = f"{unique('models')}/"
    account.upload("x", f"{other}{NAMES[0]}")
    both = endpoint_of(prefix, f"s3://{account.bucket}/{other}")
    assert missing(both, NAMES[:2]) == (NAMES[1],)


def test_prefix_and_model_are_joined_with_one_slash(prefix: str) -> None:
    assert missing(endpoint_of(prefix), [f"/{NAMES[0]}"]) == ()


def test_without_a_prefix_no_model_counts_as_missing() -> None:
    assert missing(endpoint_of(), NAMES) == ()


@pytest.mark.parametrize("max_heads", [0, 1_000], ids=["listed", "checked one by one"])
def test_if_access_is_denied_no_model_counts_as_missing_and_the_log_says_so(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, max_heads: int
) -> None:
    monkeypatch.setattr(draft, "MAX_HEADS", max_heads)
    with answering(Answer(403, "AccessDenied")) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with caplog.at_level(logging.INFO):
            assert missing(endpoint_of("s3://b/models/"), NAMES) == ()
    assert any("s3://b/models/" in record.getMessage() for record in caplog.records)


def test_an_s3_that_does_not_answer_is_an_error(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_sm_plugin.aws.retry.ATTEMPTS", 1)
    with answering(Answer(503, "ServiceUnavailable")) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(ServiceUnavailable):
            missing(endpoint_of("s3://b/models/"), NAMES)


@pytest.fixture(scope="module")
def quick() -> Iterator[StubClient]:
    with running() as stub:
        yield stub


def test_many_models_cost_a_listing_instead_of_a_head_each(
    quick: StubClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing ends with the page of the last model."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", quick.url)
    names = [f"{number:05d}.tar.gz" for number in range(1_500)]
    below = unique("models")
    quick.fill([f"{below}/{name}" for name in names if name != "00777.tar.gz"])
    quick.fill([f"{below}/z{number:05d}" for number in range(3_000)])
    quick.take_calls()
    assert missing(endpoint_of(f"s3://bench/{below}/"), names) == ("00777.tar.gz",)
    assert quick.take_calls() == {"list": 2}
