"""Poll at many results: what becomes of each is what S3 held, whatever the order, and it costs few pages."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.poll import HeadRequest, ListRequest, Poll, Request
from airflow_sm_plugin.async_inference.watch import (
    AwaitedResults,
    ListedNames,
    NumberedNames,
    ObjectKind,
    ResultFolder,
    ResultPosition,
    group,
)
from airflow_sm_plugin.async_inference.watch_state import OUTAGE_SECONDS, ResultOutcome, WatchState
from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from tests.async_inference.polls import MemoryS3

END = 1_000.0


def awaited(
    count: int,
    *,
    on_each: int = 1_000,
    failures: bool = True,
    deadline: float = END,
    left_out: tuple[int, ...] = (),
) -> AwaitedResults:
    """Return a batch's watch: numbered names, a folder for each thousand."""
    return AwaitedResults(
        tuple(
            ResultFolder(
                f"s3://b/out/root/r1/{folder:05}/",
                f"s3://b/bad/root/r1/{folder:05}/" if failures else None,
                NumberedNames(
                    folder * 1_000,
                    on_each,
                    "{:07}.out",
                    "{:07}-error.out" if failures else None,
                    "root-r1-{:07}",
                ),
                (deadline,),
                left_out,
            )
            for folder in range(count)
        ),
        own_ids="root-",
    )


def outputs(watch: AwaitedResults, *folder_numbers: int) -> list[str]:
    return [
        watch.folders[folder].output(position)
        for folder in folder_numbers
        for position in range(watch.folders[folder].names.count)
    ]


def failure(watch: AwaitedResults, folder: int, position: int) -> str:
    return str(watch.folders[folder].failure(position))


# Whatever happens, each has the fate that S3 shows

KINDS = ("numbered", "flat", "combined", "scattered")


def _watch_of(kind: str, count: int) -> tuple[AwaitedResults, list[tuple[str, str | None]]]:
    if kind == "numbered":
        watch = awaited(2, on_each=count // 2)
    else:
        kinds: dict[str, list[tuple[str, str | None]]] = {
            "flat": [
                (f"s3://b/o/{n * 7919 % 1000:04}.out", f"s3://b/f/{n * 7919 % 1000:04}-error.out")
                for n in range(count)
            ],
            "combined": [(f"s3://b/o/{n:04}.out", f"s3://b/o/{n:04}-error.out") for n in range(count)],
            "scattered": [
                (f"s3://b{n % 3}/o{n % 5}/x{n}", None if n % 2 else f"s3://f{n % 2}/{n}/y{n}")
                for n in range(count)
            ],
        }
        watch, _ = group([AsyncInvocation(*pair) for pair in kinds[kind]], [END] * count)
    locations = [
        (folder.output(position), folder.failure(position))
        for folder in watch.folders
        for position in range(folder.names.count)
    ]
    return watch, locations


@given(
    kind=st.sampled_from(KINDS),
    count=st.sampled_from([2, 12, 14, 60]),
    seed=st.integers(0, 2**32),
    denied=st.booleans(),
    outage=st.floats(0, 0.7),
)
def test_each_has_the_fate_that_s3_shows(
    kind: str, count: int, seed: int, denied: bool, outage: float
) -> None:
    """Outputs and failures appear at random, requests fail at random, listing may be denied: the end is the same."""
    chance = random.Random(seed)  # noqa: S311 - an invented world
    watch, locations = _watch_of(kind, count)
    fates = [chance.choice(("output", "failure", "both", "nothing")) for _ in locations]
    s3 = MemoryS3()

    def trouble(request: Request) -> Presence | None:
        if chance.random() < outage:
            return Presence.UNKNOWN
        return Presence.FORBIDDEN if denied and isinstance(request, ListRequest) else None

    s3.trouble = trouble
    state = WatchState.begin(watch)
    for poll in range(30):
        for (output, failed), fate in zip(locations, fates, strict=True):
            if chance.random() < 0.2:
                s3.put(*([output] if fate in ("output", "both") else []))
                s3.put(*([failed] if fate == "failure" and failed else []))
        before = dict(state.outcomes(watch))
        state = s3.poll(watch, state, now=poll * 30.0)
        after = dict(state.outcomes(watch))
        settled = {location: fate for location, fate in before.items() if fate is ResultOutcome.SUCCEEDED}
        assert settled.items() <= after.items(), "nothing that was seen is forgotten"
    for (output, failed), fate in zip(locations, fates, strict=True):
        s3.put(*([output] if fate in ("output", "both") else []))
        s3.put(*([failed] if fate in ("failure", "both") and failed else []))
    s3.trouble = lambda request: Presence.FORBIDDEN if denied and isinstance(request, ListRequest) else None
    state = s3.poll(watch, state, now=END + 1)
    result = state.result(watch, now=END + 1)
    assert result is not None
    assert result.why == ("deadline" if result.counts.timed_out else "complete")
    final = list(dict(state.outcomes(watch)).values())
    for (_, failed), fate, outcome in zip(locations, fates, final, strict=True):
        expected = {
            "output": ResultOutcome.SUCCEEDED,
            "both": ResultOutcome.SUCCEEDED,
            "failure": ResultOutcome.FAILED if failed else ResultOutcome.TIMED_OUT,
            "nothing": ResultOutcome.TIMED_OUT,
        }[fate]
        assert outcome is expected


@given(seed=st.integers(0, 2**32), answered=st.booleans())
def test_no_verdict_is_given_without_an_answer_after_the_deadline(seed: int, answered: bool) -> None:
    chance = random.Random(seed)  # noqa: S311 - an invented world
    watch = awaited(chance.randint(1, 12), on_each=chance.choice([3, 100]))
    s3, state = MemoryS3(), WatchState.begin(watch)
    for poll in range(chance.randint(0, 5)):
        state = s3.poll(watch, state, now=float(poll))
    silent = chance.choice(list(ObjectKind))
    if not answered:
        s3.trouble = lambda request: Presence.UNKNOWN if request.kind is silent else None
    state = s3.poll(watch, state, now=END)
    counts = state.counts(watch)
    assert (counts.timed_out, counts.pending) == ((watch.count, 0) if answered else (0, watch.count))


def test_a_403_is_an_answer_for_the_deadline_and_is_remembered() -> None:
    watch = awaited(1, on_each=3)
    s3 = MemoryS3(trouble=lambda _: Presence.FORBIDDEN)
    state = s3.poll(watch, WatchState.begin(watch), now=0)
    assert (state.forbidden(watch), state.failed.in_a_row) == (ResultPosition(0, 0), 0)
    assert state.result(watch, now=0) is None
    state = s3.poll(watch, state, now=END)
    assert state.counts(watch).timed_out == 3
    assert state.forbidden(watch) == ResultPosition(0, 0), "for the task's log"
    s3.trouble = lambda _: None
    s3.put(*outputs(watch, 0))
    fresh = s3.poll(watch, WatchState.begin(watch), now=END)
    assert fresh.forbidden(watch) is None


def test_an_outage_is_endured_for_some_polls_and_then_reported_without_a_verdict() -> None:
    watch = awaited(2)
    s3, state = MemoryS3(trouble=lambda _: Presence.UNKNOWN), WatchState.begin(watch)
    for _ in range(MAX_FAILED_POLLS):
        state = s3.poll(watch, state, now=1)
        assert state.result(watch, now=1) is None
    state = s3.poll(watch, state, now=1)
    result = state.result(watch, now=1)
    assert result is not None
    assert (result.why, result.failed_polls) == ("unreachable", MAX_FAILED_POLLS + 1)
    assert result.counts.pending == 2_000, "no verdict was invented"


def test_after_the_last_deadline_an_outage_is_endured_for_a_minute() -> None:
    watch = awaited(1)
    s3 = MemoryS3(trouble=lambda _: Presence.UNKNOWN)
    state = s3.poll(watch, WatchState.begin(watch), now=END)
    assert state.result(watch, now=END) is None
    result = state.result(watch, now=END + OUTAGE_SECONDS)
    assert result is not None
    assert result.why == "unreachable"


def test_one_answer_about_an_output_ends_an_outage() -> None:
    watch = awaited(2, on_each=3)
    s3, state = MemoryS3(trouble=lambda _: Presence.UNKNOWN), WatchState.begin(watch)
    for _ in range(3):
        state = s3.poll(watch, state, now=1)
    assert state.failed.in_a_row == 3
    s3.trouble = lambda request: Presence.UNKNOWN if "00001" in str(request) else None
    assert s3.poll(watch, state, now=1).failed.in_a_row == 0


def test_a_failure_object_is_seen_through_an_outage_of_the_output() -> None:
    watch = awaited(1, on_each=1)
    s3 = MemoryS3(trouble=lambda request: Presence.UNKNOWN if request.kind is ObjectKind.OUTPUTS else None)
    s3.put(failure(watch, 0, 0))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert (state.counts(watch).failed, state.failed.in_a_row) == (1, 0)


def test_each_result_has_its_own_deadline() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n}.out", f"s3://b/o/{n}-error.out") for n in range(3)]
    watch, locations = group(invocations, [5.0, 50.0, 5.0])
    state = MemoryS3().poll(watch, WatchState.begin(watch), now=6)
    outcomes = dict(state.outcomes(watch))
    assert [outcomes[location] for location in locations] == [
        ResultOutcome.TIMED_OUT,
        ResultOutcome.WAITING,
        ResultOutcome.TIMED_OUT,
    ]


def test_what_is_left_out_is_neither_asked_for_nor_counted() -> None:
    watch = awaited(1, on_each=4, left_out=(1, 2))
    s3 = MemoryS3()
    s3.put(watch.folders[0].output(0), watch.folders[0].output(3))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert state.counts(watch).succeeded == 2
    assert state.result(watch, now=1) is not None
    assert s3.asked["head outputs"] == 2


def test_the_wait_may_end_with_some_still_pending() -> None:
    watch = awaited(1)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0)[:600])
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert state.result(watch, now=1, until_pending=399) is None
    result = state.result(watch, now=1, until_pending=400)
    assert result is not None
    assert result.why == "room"


# What it costs


def test_a_first_poll_at_a_hundred_thousand_is_a_page_a_folder() -> None:
    watch = awaited(100)
    s3 = MemoryS3()
    s3.put(*outputs(watch, *range(100)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert state.counts(watch).succeeded == 100_000
    assert s3.asked == {"list outputs": 100}


def test_a_finished_folder_is_never_asked_about_again() -> None:
    watch = awaited(3)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0, 2))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    s3.asked.clear()
    for _ in range(5):
        state = s3.poll(watch, state, now=2)
    assert s3.asked["list outputs"] == 5


def test_empty_folders_are_one_listing_together() -> None:
    watch = awaited(64)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for poll in range(40):
        s3.asked.clear()
        state = s3.poll(watch, state, now=float(poll))
        assert s3.asked["list outputs"] == 1
        assert all(folder.outputs_at == poll for folder in state.folders)


def test_a_result_in_an_unexpected_folder_is_seen_at_the_next_poll() -> None:
    """SageMaker promises no order."""
    watch = awaited(64)
    s3 = MemoryS3()
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    s3.put(watch.folders[63].output(999))
    state = s3.poll(watch, state, now=2)
    assert state.counts(watch).succeeded == 1


def test_a_listing_skips_what_lies_between_folders_with_missing_names() -> None:
    watch = awaited(50)
    s3 = MemoryS3()
    s3.put(*outputs(watch, *range(1, 49)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    s3.asked.clear()
    s3.poll(watch, state, now=2)
    assert s3.asked["list outputs"] == 2


def test_folders_listed_before_an_outage_are_answered() -> None:
    watch = awaited(3, failures=False)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0)[1:], *outputs(watch, 1, 2))
    poll = Poll(watch, WatchState.begin(watch), now=END)
    (request,) = poll.next_requests()
    assert isinstance(request, ListRequest)
    keys, _ = s3.keys(request.bucket, request.prefix, str(request.next_start()))
    poll.report_page(request, keys)
    poll.report_listing(request, Presence.UNKNOWN, next_start=request.next_start(keys[-1]))
    assert poll.next_requests() == []
    counts = poll.finish().counts(watch)
    assert (counts.timed_out, counts.succeeded, counts.pending) == (1, 1_000, 1_999)


def test_only_folders_that_a_listing_did_not_reach_are_asked_for_by_head() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{folder}/{n:03}.out") for folder in "abc" for n in range(20)]
    watch, _ = group(invocations, [END] * 60)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/b/0{n:06}.old" for n in range(10_000)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert [folder.outputs_by_head for folder in state.folders] == [False, True, True]
    assert s3.asked == {"list outputs": 4, "head outputs": 40}


@pytest.mark.parametrize("count", [1, 10, 40])
@pytest.mark.parametrize("failing", [0.0, 0.02])
@pytest.mark.parametrize("order", ["in order", "shuffled"])
def test_a_run_costs_about_a_page_for_each_unfinished_folder(count: int, failing: float, order: str) -> None:
    """Sixty polls over one run; the goal is 1.05 pages per thousand inputs of unfinished folders."""
    chance = random.Random(7)  # noqa: S311 - an invented world
    watch = awaited(count, deadline=1e9)
    s3, state = MemoryS3(), WatchState.begin(watch)
    todo = [
        failure(watch, folder, position)
        if chance.random() < failing
        else watch.folders[folder].output(position)
        for folder in range(count)
        for position in range(1_000)
    ]
    if order == "shuffled":
        chance.shuffle(todo)
    polls, unfinished = 60, 0
    step = len(todo) // polls + 1
    for poll in range(polls):
        unfinished += sum(
            bool(folder_state.pending(folder))
            for folder, folder_state in zip(watch.folders, state.folders, strict=True)
        )
        state = s3.poll(watch, state, now=float(poll))
        s3.put(*todo[:step])
        del todo[:step]
    extra = 0
    while state.result(watch, now=100) is None and extra < 30:
        unfinished += sum(
            bool(folder_state.pending(folder))
            for folder, folder_state in zip(watch.folders, state.folders, strict=True)
        )
        state, extra = s3.poll(watch, state, now=100), extra + 1
    pages = s3.asked["list outputs"] + s3.asked["list failures"]
    assert pages <= 1.05 * unfinished + 2
    assert extra <= 3, "the wait ends soon after the last result"


def test_nothing_at_all_for_a_long_time_costs_about_a_page_a_poll() -> None:
    watch = awaited(1, deadline=1e9)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for poll in range(200):
        state = s3.poll(watch, state, now=float(poll))
    assert s3.asked["list outputs"] == 200
    assert s3.asked["list failures"] <= 200 / 8 + 2
    assert s3.asked["head failures"] == 0


def test_the_poll_after_the_last_output_ends_the_wait() -> None:
    watch = awaited(3)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0, 1, 2)[:-1])
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    s3.put(outputs(watch, 2)[-1])
    state = s3.poll(watch, state, now=2)
    assert state.result(watch, now=2) is not None


def test_what_all_came_between_two_polls_is_all_seen_at_the_next() -> None:
    watch = awaited(100)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for now in (1.0, 2.0):
        state = s3.poll(watch, state, now=now)
    s3.put(*outputs(watch, *range(100)))
    s3.asked.clear()
    state = s3.poll(watch, state, now=3.0)
    assert state.counts(watch).pending == 0
    assert s3.asked.total() <= 101


def test_when_all_that_is_missing_has_failed_the_wait_ends_soon() -> None:
    watch = awaited(20)
    s3 = MemoryS3()
    good = [location for location in outputs(watch, *range(20)) if not location.endswith("7.out")]
    bad = [failure(watch, folder, position) for folder in range(20) for position in range(7, 1_000, 10)]
    s3.put(*good, *bad)
    state, polls = WatchState.begin(watch), 0
    while state.result(watch, now=1) is None and polls < 30:
        state, polls = s3.poll(watch, state, now=1), polls + 1
    assert polls <= 3
    assert state.counts(watch).failed == 2_000
    assert s3.asked["list failures"] <= 2 * 3, (
        "two thousand failure objects are two pages of their common folder"
    )


def test_that_everything_failed_is_seen_within_eight_polls() -> None:
    watch = awaited(1)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for poll in range(10):
        state = s3.poll(watch, state, now=float(poll))
    s3.put(*(failure(watch, 0, position) for position in range(1_000)))
    for _ in range(8):
        state = s3.poll(watch, state, now=11)
    assert state.counts(watch).failed == 1_000


def test_stragglers_are_asked_for_one_by_one() -> None:
    watch = awaited(1)
    s3 = MemoryS3()
    s3.put(*(location for number, location in enumerate(outputs(watch, 0)) if number not in (3, 500, 999)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    s3.asked.clear()
    s3.poll(watch, state, now=2)
    assert s3.asked == {"head outputs": 3, "head failures": 3}


def test_results_among_a_hundred_thousand_old_ones_are_asked_for_one_by_one_when_that_is_cheaper() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n * 997:06}.out") for n in range(100)]
    watch, _ = group(invocations, [END] * 100)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/{n:06}.old" for n in range(100_000)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert s3.asked == {"list outputs": 8, "head outputs": 100}
    s3.asked.clear()
    for _ in range(7):
        state = s3.poll(watch, state, now=2)
    assert s3.asked == {"head outputs": 700}


def test_a_listing_begins_with_the_first_missing_name_and_stops_behind_the_last() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n:06}.out") for n in range(50_000, 51_000)]
    watch, _ = group(invocations, [END] * 1_000)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/{n:06}.out" for n in range(100_000)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert state.counts(watch).succeeded == 1_000
    assert s3.asked == {"list outputs": 1}


def test_outputs_and_failures_in_one_folder_are_one_listing() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n:04}.out", f"s3://b/o/{n:04}-error.out") for n in range(500)]
    watch, _ = group(invocations, [END] * 500)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/{n:04}{'-error' if n % 2 else ''}.out" for n in range(500)))
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    assert (state.counts(watch).succeeded, state.counts(watch).failed) == (250, 250)
    assert s3.asked == {"list outputs": 1}


def test_where_listing_is_denied_heads_are_bounded_until_a_verdict_is_due() -> None:
    watch = awaited(10, deadline=END)
    s3 = MemoryS3(trouble=lambda request: Presence.FORBIDDEN if isinstance(request, ListRequest) else None)
    s3.put(*outputs(watch, *range(10)))
    state, seen = WatchState.begin(watch), []
    for _ in range(10):
        s3.asked.clear()
        state = s3.poll(watch, state, now=1)
        assert s3.asked["head outputs"] <= 2_000
        seen.append(state.counts(watch).succeeded)
    assert seen[-1] == 10_000, "every result is polled"
    late = MemoryS3(trouble=s3.trouble)
    state = late.poll(watch, WatchState.begin(watch), now=END)
    assert state.counts(watch).timed_out == 10_000


def test_a_denied_listing_is_tried_again_later() -> None:
    """A session that expired for a while denies it, too."""
    watch = awaited(1)
    s3 = MemoryS3(trouble=lambda request: Presence.FORBIDDEN if isinstance(request, ListRequest) else None)
    state = s3.poll(watch, WatchState.begin(watch), now=1)
    s3.trouble = lambda _: None
    s3.asked.clear()
    for _ in range(8):
        state = s3.poll(watch, state, now=2)
    assert s3.asked["list outputs"] >= 1


def test_a_thorough_poll_leaves_nothing_open() -> None:
    """A task polls so before it judges, without the trigger's memory."""
    watch = awaited(30)
    s3 = MemoryS3()
    s3.put(*outputs(watch, *range(10)), *(failure(watch, 20, position) for position in range(1_000)))
    state = s3.poll(watch, WatchState.begin(watch), now=1, thorough=True)
    assert (state.counts(watch).succeeded, state.counts(watch).failed) == (10_000, 1_000)
    assert all(folder.outputs_at == 1 for folder in state.folders)
    assert all(folder.failures_at == 1 for folder in state.folders[10:])


def test_failures_among_many_foreign_objects_are_skipped_between_folders() -> None:
    watch = awaited(3)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/bad/root/r1/00000x/{n:06}" for n in range(50_000)))
    s3.put(failure(watch, 2, 5))
    state = s3.poll(watch, WatchState.begin(watch), now=END)
    assert state.counts(watch).failed == 1
    assert state.counts(watch).timed_out == 2_999
    assert s3.asked["list failures"] <= 4 + 3


def test_explicit_names_of_single_results_need_no_folder_in_common() -> None:
    watch, _ = group([AsyncInvocation("s3://b/x/y.out", inference_id="i")], [END])
    assert watch.folders[0].names == ListedNames(("y.out",), ids=("i",))
    assert MemoryS3().poll(watch, WatchState.begin(watch), now=0).counts(watch).pending == 1


@pytest.mark.parametrize("kind", list(ObjectKind))
def test_a_head_that_is_not_answered_is_no_answer_for_its_folder(kind: ObjectKind) -> None:
    watch = awaited(1, on_each=2)

    def silent(request: Request) -> Presence | None:
        first = isinstance(request, HeadRequest) and request.result.position == 0
        return Presence.UNKNOWN if first and request.kind is kind else None

    state = MemoryS3(trouble=silent).poll(watch, WatchState.begin(watch), now=END)
    assert state.counts(watch).pending == 2


def test_failure_objects_of_a_small_group_wait_until_they_are_due() -> None:
    """Those of a large group are one listing at every poll; a few elsewhere are not asked for each time as well."""
    small, _ = group([AsyncInvocation(f"s3://c/o/{n}.out", f"s3://c/f/{n}.err") for n in range(3)], [END] * 3)
    watch = AwaitedResults((*awaited(24).folders, *small.folders))
    s3, state = MemoryS3(), WatchState.begin(watch)
    for poll in range(24):
        state = s3.poll(watch, state, now=float(poll))
    assert s3.asked["list failures"] == 24
    assert s3.asked["head failures"] <= 3 * (3 + 24 / 8)
