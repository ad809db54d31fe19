"""A sensor's invocations as they come from XCom: each form is read, and anything else is refused with its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from airflow_sm_plugin.async_inference.awaited import AwaitedInvocations
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri

ONE = {"output_location": "s3://b/1", "endpoint_name": "churn"}
TWO = {"output_location": "s3://b/2", "failure_location": "s3://b/2-error.out"}


@pytest.mark.parametrize(
    ("value", "locations"),
    [
        (ONE, ["s3://b/1"]),
        ([ONE], ["s3://b/1"]),
        ([TWO, ONE], ["s3://b/2", "s3://b/1"]),
        ((ONE, TWO), ["s3://b/1", "s3://b/2"]),
        (iter([ONE]), ["s3://b/1"]),
    ],
)
def test_one_invocation_or_many_are_read_in_their_order(value: object, locations: Sequence[str]) -> None:
    """A mapped task's XCom is a lazy sequence, not a list."""
    awaited = AwaitedInvocations.read(value)
    assert [invocation.output_location for invocation in awaited.invocations] == locations
    assert awaited.is_one == (value is ONE)


@pytest.mark.parametrize("written", [json.dumps, repr, str], ids=["json", "repr", "python"])
@pytest.mark.parametrize("value", [ONE, [ONE], [TWO, ONE]])
def test_the_text_that_a_template_makes_of_them_is_read_as_they_are(
    value: object, written: Callable[[object], str]
) -> None:
    assert AwaitedInvocations.read(f" {written(value)}\n") == AwaitedInvocations.read(value)
    if isinstance(value, list):
        assert AwaitedInvocations.read([written(item) for item in value]) == AwaitedInvocations.read(value)


def test_endpoints_are_known_where_the_invoke_task_reported_them() -> None:
    assert AwaitedInvocations.read([ONE, TWO]).endpoints == ("churn", None)


def test_a_deadline_counts_from_submission_where_known_else_from_the_first_poll() -> None:
    awaited = AwaitedInvocations.read([ONE | {"submitted_at": 5.0}, TWO, ONE | {"submitted_at": 0.0}])
    assert awaited.deadlines(first_poll=100.0, seconds=10) == (15.0, 110.0, 10.0), "0 is known"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the list is empty"),
        (None, "not None"),
        (5, "not 5"),
        ("[]", "the list is empty"),
        ("s3://b/1", "JSON or Python text of either, not 's3://b/1': pass that task's output"),
        ("LazyXComSelectSequence([2 items])", "pass that task's output"),
        ('"s3://b/1"', "s3://b/1.', pass|s3://b/1.*pass that task's output"),
        ("5", "not '5'"),
        ("{{ ti.xcom_pull() }}", "not '{{ ti.xcom_pull"),
        (b"x", "not b'x'"),
        (["s3://b/1"], "a mapping with output_location, not str"),
        ([[ONE]], "a mapping with output_location, not list"),
        ([ONE, None], "a mapping with output_location, not NoneType"),
        ([ONE, {"inference_id": "x"}], "needs an output_location"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(value: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        AwaitedInvocations.read(value)


def test_a_location_outside_of_s3_is_refused_before_any_poll() -> None:
    with pytest.raises(InvalidS3Uri):
        AwaitedInvocations.read([ONE, {"output_location": "out/2"}])


def test_a_long_text_does_not_fill_the_message() -> None:
    with pytest.raises(InvalidRequest) as refused:
        AwaitedInvocations.read("x" * 10_000)
    assert len(str(refused.value)) < 250
