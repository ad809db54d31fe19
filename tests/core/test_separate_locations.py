"""Inputs and outputs are apart by the semantics of S3's keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.s3 import check_inputs_apart
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri
from airflow_sm_plugin.resources.endpoint_status import locations_written_by


def are_apart(inputs: str, outputs: str, *, is_object: bool = False) -> bool:
    try:
        check_inputs_apart(inputs, {"outputs": outputs}, is_object=is_object)
    except InvalidRequest:
        return False
    return True


def test_both_locations_are_named() -> None:
    with pytest.raises(InvalidRequest, match=r"s3://b/in .* the ledger s3://b/in/l "):
        check_inputs_apart("s3://b/in", {"outputs": "s3://b/out", "the ledger": "s3://b/in/l"})


@pytest.mark.parametrize(
    ("inputs", "outputs", "apart"),
    [
        ("s3://b/in/", "s3://b/out/", True),
        ("s3://b/in", "s3://c/in", True),
        ("s3://b/data/", "s3://b/data/out", False),
        ("s3://b/data/out/day-1/", "s3://b/data/out/", False),
        ("s3://b/out", "s3://b/out/", False),
        ("s3://b/out/", "s3://b/out", False),
        ("s3://b/in-put/", "s3://b/in", True),  # "in/…" does not begin with "in-put/"
        ("s3://b/in", "s3://b/in-put", False),  # a listing of "in" shows "in-put/…"
        ("s3://b", "s3://b/out", False),
        ("s3://b/in/", "s3://b/", False),
        ("s3://b/in/", "s3://b", False),
        ("s3://bucket/in/", "s3://buck", True),
    ],
)
def test_a_prefix_is_apart_from_what_it_neither_lists_nor_lies_in(
    inputs: str, outputs: str, apart: bool
) -> None:
    assert are_apart(inputs, outputs) is apart


@pytest.mark.parametrize(
    ("source", "apart"),
    [
        ("s3://b/out/x.csv", False),
        ("s3://b/out/a/x.csv", False),
        ("s3://b/out", True),
        ("s3://b/out-takes/x.csv", True),
        ("s3://b/o", True),
        ("s3://c/out/x.csv", True),
    ],
)
def test_an_object_of_a_manifest_is_apart_from_the_folders_it_does_not_lie_in(
    source: str, apart: bool
) -> None:
    assert are_apart(source, "s3://b/out", is_object=True) is apart


_KEYS = st.text("ab/-", max_size=6)


@given(prefix=_KEYS, path=_KEYS, name=st.text("ab/-", min_size=1, max_size=4))
def test_what_is_apart_never_lists_what_is_written(prefix: str, path: str, name: str) -> None:
    written = f"{path.rstrip('/')}/{name}" if path.rstrip("/") else name
    if written.startswith(prefix):
        assert not are_apart(f"s3://b/{prefix}", f"s3://b/{path}")
        assert not are_apart(f"s3://b/{written}", f"s3://b/{path}", is_object=True)


def test_an_endpoint_writes_outputs_failures_and_captured_data() -> None:
    described = {
        "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/o", "S3FailurePath": "s3://b/f"}},
        "DataCaptureConfig": {"EnableCapture": True, "DestinationS3Uri": "s3://b/c"},
    }
    assert list(locations_written_by(described).values()) == ["s3://b/o", "s3://b/f", "s3://b/c"]


@pytest.mark.parametrize("described", [None, {}, {"AsyncInferenceConfig": None, "DataCaptureConfig": None}])
def test_what_is_not_known_of_an_endpoint_is_no_location(described: dict[str, object] | None) -> None:
    assert locations_written_by(described) == {}


def test_a_text_that_is_no_location_is_named() -> None:
    with pytest.raises(InvalidS3Uri, match="ledger_prefix"):
        check_inputs_apart("s3://b/in", {"ledger_prefix": "nonsense"})
