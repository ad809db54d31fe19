"""Awaited results survive JSON, whatever their names, and every name leads back to its position."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.watch import (
    AwaitedResults,
    ListedNames,
    NumberedNames,
    ObjectKind,
    ResultFolder,
    ResultPosition,
    group,
    mask_of,
    positions_of,
)
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

names = st.text(st.sampled_from("ab/.-é{}%0"), min_size=1, max_size=6).filter(
    lambda name: not name.endswith("/")
)
folders = st.sampled_from(["s3://b/", "s3://b/o/", "s3://c/o/p/"])
invocations = st.builds(
    AsyncInvocation,
    st.builds(str.__add__, folders, names),
    st.none() | st.builds(str.__add__, folders, names),
    st.none() | st.sampled_from(["i1", "i2"]),
)


@given(st.lists(st.tuples(invocations, st.sampled_from([1.0, 2.5])), min_size=1, max_size=30))
def test_every_invocation_keeps_its_position(
    given_: list[tuple[AsyncInvocation, float]],
) -> None:
    watch, positions = group([invocation for invocation, _ in given_], [deadline for _, deadline in given_])
    read = AwaitedResults.from_mapping(json.loads(json.dumps(watch.as_mapping())))
    assert read == watch
    for (invocation, deadline), result_position in zip(given_, positions, strict=True):
        folder = read.folders[result_position.folder]
        assert folder.output(result_position.position) == invocation.output_location
        assert folder.failure(result_position.position) == invocation.failure_location
        assert folder.deadlines[result_position.position if len(folder.deadlines) > 1 else 0] >= deadline
        output_name = invocation.output_location.removeprefix(folder.outputs)
        assert folder.names.positions([output_name, "no"], ObjectKind.OUTPUTS) == [result_position.position]
        if invocation.failure_location and folder.failures:
            assert result_position.position in folder.names.positions(
                [invocation.failure_location.removeprefix(folder.failures)], ObjectKind.FAILURES
            )
    assert watch.count == len(set(positions))


def test_results_of_one_folder_share_folders_of_a_thousand_in_the_order_of_names() -> None:
    many = [AsyncInvocation(f"s3://b/o/{n:05}.out", f"s3://b/f/{n:05}-error.out") for n in range(2_500)]
    watch, positions = group(many[::-1], [9.0] * 2_500)
    assert [folder.names.count for folder in watch.folders] == [1_000, 1_000, 500]
    assert positions[-1] == ResultPosition(0, 0)
    assert watch.folders[0].deadlines == (9.0,)
    assert len(json.dumps(watch.as_mapping())) < 2_500 * 12, "what names have in common is stored once"


def test_what_is_given_twice_is_waited_for_once_up_to_the_later_deadline() -> None:
    one = AsyncInvocation("s3://b/o/1.out")
    watch, positions = group([one, one], [1.0, 2.0])
    assert watch.count == 1
    assert positions == (ResultPosition(0, 0), ResultPosition(0, 0))
    assert watch.last_deadline == 2.0


@given(
    first=st.integers(0, 5_000),
    count=st.integers(1, 1_000),
    data=st.data(),
)
def test_numbered_names_are_read_by_arithmetic(first: int, count: int, data: st.DataObject) -> None:
    numbered = NumberedNames(first, count, "{:07}.out", "x{:07}-error.out", "root-{:07}")
    position = data.draw(st.integers(0, count - 1))
    assert numbered.positions(["", numbered.name(position, ObjectKind.OUTPUTS), "x"], ObjectKind.OUTPUTS) == [
        position
    ]
    assert numbered.positions([numbered.name(position, ObjectKind.FAILURES)], ObjectKind.FAILURES) == [
        position
    ]
    assert numbered.id_at(f"root-{first + position:07}") == position
    assert numbered.positions([f"{first + count:07}.out"], ObjectKind.OUTPUTS) == []
    low, high = sorted((position, data.draw(st.integers(0, count - 1))))
    assert numbered.span(mask_of([low, high]), ObjectKind.FAILURES) == (
        numbered.name(low, ObjectKind.FAILURES),
        numbered.name(high, ObjectKind.FAILURES),
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0000001",
        "1.out",
        "0000001.outs",
        "a0000001.out",
        "\u0660\u0660\u0660\u0660\u0660\u0660\u0661.out",
        "-000001.out",
    ],
)
def test_a_strangers_name_has_no_number(name: str) -> None:
    numbered = NumberedNames(0, 10, "{:07}.out", None)
    assert numbered.positions([name], ObjectKind.OUTPUTS) == []
    assert numbered.positions([name], ObjectKind.FAILURES) == []
    assert numbered.id_at(name) == -1


def test_numbers_that_break_the_order_of_names_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="10 does not fit"):
        NumberedNames(0, 11, "{:01}.out")
    with pytest.raises(InvalidRequest, match="must look like"):
        NumberedNames(0, 11, "{}.out")


def test_listed_names_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="in their own order"):
        ListedNames(("b", "a"))
    with pytest.raises(InvalidRequest, match="cannot have 1 inference ids"):
        ListedNames(("a", "b"), ids=("x",))


def test_failures_in_another_order_than_outputs_are_spanned_all_the_same() -> None:
    """By itself "a" sorts before "a-", with a dot behind it."""
    listed = ListedNames(("a-", "a"), ".out", "0")
    assert listed.span(0b11, ObjectKind.OUTPUTS) == ("a-.out", "a.out")
    assert listed.span(0b11, ObjectKind.FAILURES) == ("a-0", "a0")


def test_a_folder_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="one deadline or one each"):
        ResultFolder("s3://b/", None, ListedNames(("a", "b", "c")), (1.0, 2.0))
    with pytest.raises(InvalidRequest, match="ends with a slash"):
        ResultFolder("s3://b/x", None, ListedNames(("a",)), (1.0,))


@pytest.mark.parametrize("value", [{}, {"folders": 1, "own_ids": ""}, {"folders": [{}], "own_ids": ""}])
def test_something_else_than_a_watch_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match="no description of a wait"):
        AwaitedResults.from_mapping(value)


@given(st.sets(st.integers(0, 3_000)))
def test_masks_and_positions_are_the_same_thing(positions: set[int]) -> None:
    assert list(positions_of(mask_of(sorted(positions)))) == sorted(positions)


def test_a_hundred_thousand_numbered_results_take_a_few_bytes_each_thousand() -> None:
    folders = tuple(
        ResultFolder(
            f"s3://bucket/outputs/r1/{n:05}/",
            f"s3://bucket/failures/r1/{n:05}/",
            NumberedNames(n * 1_000, 1_000, "{:07}.out", "{:07}-error.out", "root-r1-{:07}"),
            (1.0,),
        )
        for n in range(100)
    )
    assert len(json.dumps(AwaitedResults(folders).as_mapping())) < 100 * 300
