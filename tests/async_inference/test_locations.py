from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.locations import (
    LocationPattern,
    batch_root,
    extension,
    filename,
    inference_id,
    shard_of,
    shards_of,
)
from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.invoke.async_request import AsyncRequest

ROOT = batch_root("0123456789ab", "ba9876543210", 0, nonce="n")
PREFIX = st.text(st.sampled_from("abzAZ09-_./{}%$ é"), max_size=30).map(lambda text: f"s3://bucket/{text}x")


@given(st.integers(0, 9_999_999), st.integers(1, 99))
def test_every_name_is_within_sagemakers_limits(number: int, round_number: int) -> None:
    AsyncRequest(
        endpoint_name="e",
        input_location="s3://b/k",
        filename=filename(number),
        s3_output_path_extension=extension(ROOT, round_number, shard_of(number)),
        inference_id=inference_id(ROOT, round_number, number),
    ).checked()


def test_names_differ_between_task_instances_arguments_plans_nonces_and_rounds() -> None:
    both = ("a", "b")
    roots = {batch_root(o, a, p, nonce=n) for o in both for a in both for p in (0, 1) for n in both}
    assert len(roots) == 16
    assert len({extension(root, r, s) for root in roots for r in (1, 2) for s in (0, 1)}) == 64
    assert len({inference_id(root, r, n) for root in roots for r in (1, 11, 12) for n in (0, 1, 10)}) == 144


def test_file_names_are_listed_in_number_order() -> None:
    numbers = [0, 9, 10, 99, 999, 1_000, 99_999, 9_999_999]
    assert sorted(map(filename, numbers)) == [filename(number) for number in numbers]


@pytest.mark.parametrize("number", [-1, 10_000_000])
def test_a_number_that_would_break_the_order_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="9999999"):
        filename(number)


def test_shards_hold_a_page_of_a_listing() -> None:
    assert [shard_of(n) for n in (0, SHARD - 1, SHARD)] == [0, 0, 1]
    assert [shards_of(n) for n in (0, 1, SHARD, SHARD + 1)] == [0, 1, 1, 2]


@pytest.mark.parametrize("form", ["{p}/{e}/{n}", "{p}/{e}/{s}-error.out", "{p}/{e}/deeper/{n}.gz"])
@given(PREFIX, st.integers(0, 99_999), st.integers(0, 99_999))
def test_a_pattern_learned_from_one_answer_shows_where_the_others_are(
    form: str, prefix: str, first: int, other: int
) -> None:
    def location(number: int) -> str:
        name = filename(number)
        stem = name.removesuffix(".out")
        return form.format(p=prefix, e=extension(ROOT, 1, shard_of(number)), n=name, s=stem)

    ext, name = extension(ROOT, 1, shard_of(first)), filename(first)
    pattern = LocationPattern.learned(ext, name, output=location(first), failure=location(first) + "-f")
    assert pattern is not None
    ext, name = extension(ROOT, 1, shard_of(other)), filename(other)
    assert pattern.output(ext, name) == location(other)
    assert pattern.failure(ext, name) == location(other) + "-f"
    assert pattern.matches(ext, name, output=location(other), failure=location(other) + "-f")
    assert not pattern.matches(ext, name, output=location(other), failure=None)
    assert not pattern.matches(ext, name, output=location(other) + "x", failure=location(other) + "-f")


@pytest.mark.parametrize(
    ("output", "failure"),
    [
        ("s3://b/out/6e6f.out", None),
        ("s3://b/out/{e}/6e6f.out", None),
        ("s3://b/out/{n}", None),
        ("s3://b/out/{n}/{e}", None),
        ("s3://b/out/{e}/{n}", "s3://b/fail/6e6f-error.out"),
    ],
)
def test_locations_that_do_not_show_the_names_give_no_pattern(output: str, failure: str | None) -> None:
    names = {"e": extension(ROOT, 1, 0), "n": filename(7)}
    learned = LocationPattern.learned(
        names["e"],
        names["n"],
        output=output.format(**names),
        failure=failure.format(**names) if failure else None,
    )
    assert learned is None


def test_before_any_answer_the_natural_reading_is_guessed() -> None:
    guess = LocationPattern.guessed("s3://b/out/", None)
    assert guess.output("e/r1/00000", "0000001.out") == "s3://b/out/e/r1/00000/0000001.out"
    assert guess.failure("e/r1/00000", "0000001.out") is None
    both = LocationPattern.guessed("s3://b/out", "s3://b/fail/")
    assert both.failure("e", "n.out") == "s3://b/fail/e/n.out"
