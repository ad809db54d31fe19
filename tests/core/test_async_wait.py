"""Waiting for many: whatever is seen, each invocation has exactly one fate, and every wait ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.async_inference import AsyncInvocation, Look, Sight
from airflow_sm_plugin.core.async_wait import (
    TOLERATED_BLIND_LOOKS,
    AsyncWait,
    deadlines_of,
    read_invocations,
)
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri

COUNT = 4
NOTHING = Look(Sight.ABSENT, Sight.ABSENT)
OUTPUT = Look(Sight.PRESENT, Sight.ABSENT)
FAILURE = Look(Sight.ABSENT, Sight.PRESENT)
BOTH = Look(Sight.PRESENT, Sight.PRESENT)
DENIED = Look(Sight.FORBIDDEN, Sight.FORBIDDEN)
BLIND = Look(Sight.UNKNOWN, Sight.UNKNOWN)

any_look = st.builds(Look, st.sampled_from(Sight), st.sampled_from(Sight))
rounds = st.lists(st.dictionaries(st.integers(min_value=0, max_value=COUNT - 1), any_look), max_size=12)
DEADLINES = (3.0, 6.0, 6.0, 9.0)


def after(wait: AsyncWait, looks: Mapping[int, Look], now: float = 0.0) -> AsyncWait:
    return wait.after(looks, now=now, deadlines=DEADLINES)


def succeeded(wait: AsyncWait) -> set[int]:
    return set(range(COUNT)) - {*wait.pending, *wait.failed, *wait.timed_out}


@given(rounds)
def test_every_invocation_has_one_fate_and_keeps_it(seen: list[dict[int, Look]]) -> None:
    wait = AsyncWait.begin(COUNT)
    for second, looks in enumerate(seen):
        before, wait = wait, after(wait, looks, now=float(second))
        fates = [*wait.pending, *wait.failed, *wait.timed_out]
        assert len(fates) == len(set(fates)), "nobody has two fates"
        assert set(before.failed) <= set(wait.failed)
        assert set(before.timed_out) <= set(wait.timed_out)
        assert set(wait.pending) <= set(before.pending), "nobody comes back"
        assert succeeded(before) <= succeeded(wait)
        assert set(wait.forbidden) <= {*wait.pending, *wait.timed_out}


@given(rounds)
def test_the_fate_is_what_the_first_telling_look_said(seen: list[dict[int, Look]]) -> None:
    wait = AsyncWait.begin(COUNT)
    for second, looks in enumerate(seen):
        wait = after(wait, looks, now=float(second))
    expected: dict[int, str] = {}
    for number in range(COUNT):
        for second, looks in enumerate(seen):
            look = looks.get(number)
            if look is None or number in expected:
                continue
            if look.output is Sight.PRESENT:
                expected[number] = "succeeded"
            elif look.failure is Sight.PRESENT:
                expected[number] = "failed"
            elif second >= DEADLINES[number]:
                expected[number] = "timed out"
    found = (
        dict.fromkeys(succeeded(wait), "succeeded")
        | dict.fromkeys(wait.failed, "failed")
        | dict.fromkeys(wait.timed_out, "timed out")
    )
    assert found == expected


@given(st.lists(st.lists(any_look, min_size=COUNT, max_size=COUNT), min_size=10, max_size=10))
def test_a_wait_that_is_looked_after_is_over_by_its_last_deadline(seen: list[list[Look]]) -> None:
    wait = AsyncWait.begin(COUNT)
    for second, looks in enumerate(seen):
        wait = after(wait, dict(enumerate(looks)), now=float(second))
    assert wait.over
    assert wait.pending == ()


@given(rounds)
def test_the_event_carries_everything_through_json(seen: list[dict[int, Look]]) -> None:
    wait = AsyncWait.begin(COUNT)
    for second, looks in enumerate(seen):
        wait = after(wait, looks, now=float(second))
    assert AsyncWait.from_event(json.loads(json.dumps(wait.event()))) == wait


def test_a_trigger_may_put_more_into_the_event() -> None:
    wait = AsyncWait(pending=(1,), failed=(0,), blind_looks=21)
    assert AsyncWait.from_event({"status": "over", **wait.event()}) == wait


def test_an_output_ends_the_wait_for_it_and_beats_a_failure_object() -> None:
    wait = after(AsyncWait.begin(2), {0: OUTPUT, 1: BOTH})
    assert wait.over
    assert (wait.failed, wait.timed_out) == ((), ())


def test_a_failure_does_not_end_the_wait_for_the_others() -> None:
    wait = after(AsyncWait.begin(2), {0: FAILURE, 1: NOTHING})
    assert (wait.pending, wait.failed, wait.over) == ((1,), (0,), False)


def test_a_look_at_what_is_done_changes_nothing() -> None:
    """A listing shows more than what is pending; nobody fails twice."""
    wait = after(AsyncWait.begin(2), {0: FAILURE, 1: NOTHING})
    assert after(wait, {0: FAILURE, 1: NOTHING}) == wait
    assert after(wait, {0: BLIND, 1: NOTHING}).blind_looks == 0


def test_nothing_to_wait_for_is_over_at_once() -> None:
    assert AsyncWait.begin(0).over


def test_denied_looks_wait_until_the_deadline_and_are_remembered_beyond_it() -> None:
    """Without s3:ListBucket a missing key is a 403: the task tells it when time is up, also for the first of many."""
    wait = after(AsyncWait.begin(COUNT), dict.fromkeys(range(COUNT), DENIED), now=2.9)
    assert wait.pending == (0, 1, 2, 3)
    assert wait.forbidden == (0, 1, 2, 3)
    wait = after(wait, dict.fromkeys(range(COUNT), DENIED), now=3.0)
    assert wait.timed_out == (0,)
    wait = after(wait, {1: OUTPUT, 2: FAILURE, 3: NOTHING}, now=4.0)
    assert wait.forbidden == (0,), "it timed out on a 403; the others were seen since"


@pytest.mark.parametrize(
    ("look", "remembered"),
    [
        (Look(Sight.FORBIDDEN, Sight.ABSENT), (0,)),
        (Look(Sight.ABSENT, Sight.FORBIDDEN), (0,)),
        (Look(Sight.PRESENT, Sight.FORBIDDEN), ()),
        (Look(Sight.FORBIDDEN, Sight.PRESENT), ()),
        (NOTHING, ()),
    ],
)
def test_a_403_on_either_object_counts_while_there_is_no_result(
    look: Look, remembered: tuple[int, ...]
) -> None:
    """A failure path that may not be read hides failures until the deadline."""
    assert after(AsyncWait.begin(1), {0: look}).forbidden == remembered
    assert after(AsyncWait.begin(1), {0: look}, now=99.0).forbidden == remembered


def test_denied_looks_are_answers_and_no_outage() -> None:
    wait = AsyncWait.begin(1)
    for _ in range(2 * TOLERATED_BLIND_LOOKS):
        wait = after(wait, {0: DENIED})
    assert not wait.over


@pytest.mark.parametrize(
    "look", [BLIND, Look(Sight.UNKNOWN, Sight.ABSENT), Look(Sight.UNKNOWN, Sight.FORBIDDEN)]
)
def test_an_outage_is_tolerated_for_twenty_looks_and_then_told(look: Look) -> None:
    wait = AsyncWait.begin(1)
    for _ in range(TOLERATED_BLIND_LOOKS):
        wait = after(wait, {0: look})
        assert not wait.over
    wait = after(wait, {0: look})
    assert wait.over
    assert wait.unreachable
    assert wait.pending == (0,), "no verdict was made up"
    assert wait.blind_looks == TOLERATED_BLIND_LOOKS + 1


@pytest.mark.parametrize("look", [NOTHING, DENIED, Look(Sight.ABSENT, Sight.UNKNOWN)])
def test_one_answer_about_an_output_ends_an_outage(look: Look) -> None:
    """An unreadable failure path does not: its inferences are told by the deadline, as without one."""
    wait = AsyncWait.begin(2)
    for _ in range(TOLERATED_BLIND_LOOKS):
        wait = after(wait, {0: BLIND, 1: BLIND})
    wait = after(wait, {0: BLIND, 1: look})
    assert (wait.blind_looks, wait.over) == (0, False)


def test_a_failure_object_is_seen_through_an_outage_of_the_output() -> None:
    wait = after(AsyncWait.begin(1), {0: Look(Sight.UNKNOWN, Sight.PRESENT)})
    assert (wait.failed, wait.blind_looks) == ((0,), 0)


def test_each_invocation_has_its_own_deadline() -> None:
    invocations = [AsyncInvocation("s3://b/1", submitted_at=5.0), AsyncInvocation("s3://b/2")]
    assert deadlines_of(invocations, first_look=100.0, seconds=10) == (15.0, 110.0)


ONE = {"output_location": "s3://b/1"}
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
    assert [invocation.output_location for invocation in read_invocations(value)] == locations


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the list is empty"),
        (None, "not None"),
        (5, "not 5"),
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
        read_invocations(value)


def test_a_location_outside_of_s3_is_refused_before_any_look() -> None:
    with pytest.raises(InvalidS3Uri):
        read_invocations([ONE, {"output_location": "out/2"}])


def test_a_long_text_does_not_fill_the_message() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_invocations("x" * 10_000)
    assert len(str(refused.value)) < 250
