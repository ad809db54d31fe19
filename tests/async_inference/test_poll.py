"""Looking at many results: what becomes of each is what S3 held, whatever the order, and it costs few pages."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.outcome import Outcome
from airflow_sm_plugin.async_inference.poll import HeadRequest, ListRequest, Request, Which
from airflow_sm_plugin.async_inference.watch import ListedNames, NumberedNames, Place, Shelf, Watch, group
from airflow_sm_plugin.async_inference.watch_state import LAST_LOOKS_SECONDS, WatchState
from airflow_sm_plugin.core.failed_polls import TOLERATED_FAILED_LOOKS
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from tests.async_inference.polls import MemoryS3

END = 1_000.0


def shelves(
    count: int,
    *,
    on_each: int = 1_000,
    failures: bool = True,
    deadline: float = END,
    left_out: tuple[int, ...] = (),
) -> Watch:
    """Return a batch's watch: numbered names, a folder for each shelf."""
    return Watch(
        tuple(
            Shelf(
                f"s3://b/out/root/r1/{shelf:05}/",
                f"s3://b/bad/root/r1/{shelf:05}/" if failures else None,
                NumberedNames(
                    shelf * 1_000,
                    on_each,
                    "{:07}.out",
                    "{:07}-error.out" if failures else None,
                    "root-r1-{:07}",
                ),
                (deadline,),
                left_out,
            )
            for shelf in range(count)
        ),
        own_ids="root-",
    )


def outputs(watch: Watch, *shelf_numbers: int) -> list[str]:
    return [
        watch.shelves[shelf].output(position)
        for shelf in shelf_numbers
        for position in range(watch.shelves[shelf].names.count)
    ]


def failure(watch: Watch, shelf: int, position: int) -> str:
    return str(watch.shelves[shelf].failure(position))


# Whatever happens, each has the fate that S3 tells

KINDS = ("numbered", "flat", "combined", "scattered")


def _watch_of(kind: str, count: int) -> tuple[Watch, list[tuple[str, str | None]]]:
    if kind == "numbered":
        watch = shelves(2, on_each=count // 2)
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
    places = [
        (shelf.output(position), shelf.failure(position))
        for shelf in watch.shelves
        for position in range(shelf.names.count)
    ]
    return watch, places


@given(
    kind=st.sampled_from(KINDS),
    count=st.sampled_from([2, 12, 14, 60]),
    seed=st.integers(0, 2**32),
    denied=st.booleans(),
    outage=st.floats(0, 0.7),
)
def test_each_has_the_fate_that_s3_tells(
    kind: str, count: int, seed: int, denied: bool, outage: float
) -> None:
    """Outputs and failures appear at random, requests fail at random, listing may be denied: the end is the same."""
    chance = random.Random(seed)  # noqa: S311 - a made-up world
    watch, places = _watch_of(kind, count)
    fates = [chance.choice(("output", "failure", "both", "nothing")) for _ in places]
    s3 = MemoryS3()

    def trouble(request: Request) -> Presence | None:
        if chance.random() < outage:
            return Presence.UNKNOWN
        return Presence.FORBIDDEN if denied and isinstance(request, ListRequest) else None

    s3.trouble = trouble
    state = WatchState.begin(watch)
    for look in range(30):
        for (output, failed), fate in zip(places, fates, strict=True):
            if chance.random() < 0.2:
                s3.put(*([output] if fate in ("output", "both") else []))
                s3.put(*([failed] if fate == "failure" and failed else []))
        before = dict(state.outcomes(watch))
        state = s3.look(watch, state, now=look * 30.0)
        after = dict(state.outcomes(watch))
        settled = {place: fate for place, fate in before.items() if fate is Outcome.SUCCEEDED}
        assert settled.items() <= after.items(), "nothing that was seen is forgotten"
    for (output, failed), fate in zip(places, fates, strict=True):
        s3.put(*([output] if fate in ("output", "both") else []))
        s3.put(*([failed] if fate in ("failure", "both") and failed else []))
    s3.trouble = lambda request: Presence.FORBIDDEN if denied and isinstance(request, ListRequest) else None
    state = s3.look(watch, state, now=END + 1)
    verdict = state.verdict(watch, now=END + 1)
    assert verdict is not None
    assert verdict.why == ("deadline" if verdict.counts.timed_out else "complete")
    found = list(dict(state.outcomes(watch)).values())
    for (_, failed), fate, outcome in zip(places, fates, found, strict=True):
        expected = {
            "output": Outcome.SUCCEEDED,
            "both": Outcome.SUCCEEDED,
            "failure": Outcome.FAILED if failed else Outcome.TIMED_OUT,
            "nothing": Outcome.TIMED_OUT,
        }[fate]
        assert outcome is expected


@given(seed=st.integers(0, 2**32), answered=st.booleans())
def test_no_verdict_is_given_without_an_answer_after_the_deadline(seed: int, answered: bool) -> None:
    chance = random.Random(seed)  # noqa: S311 - a made-up world
    watch = shelves(chance.randint(1, 12), on_each=chance.choice([3, 100]))
    s3, state = MemoryS3(), WatchState.begin(watch)
    for look in range(chance.randint(0, 5)):
        state = s3.look(watch, state, now=float(look))
    silent = chance.choice(list(Which))
    if not answered:
        s3.trouble = lambda request: Presence.UNKNOWN if request.which is silent else None
    state = s3.look(watch, state, now=END)
    counts = state.counts(watch)
    assert (counts.timed_out, counts.pending) == ((watch.count, 0) if answered else (0, watch.count))


def test_a_403_is_an_answer_for_the_deadline_and_is_remembered() -> None:
    watch = shelves(1, on_each=3)
    s3 = MemoryS3(trouble=lambda _: Presence.FORBIDDEN)
    state = s3.look(watch, WatchState.begin(watch), now=0)
    assert (state.forbidden(watch), state.failed.in_a_row) == (Place(0, 0), 0)
    assert state.verdict(watch, now=0) is None
    state = s3.look(watch, state, now=END)
    assert state.counts(watch).timed_out == 3
    assert state.forbidden(watch) == Place(0, 0), "the task tells it"
    s3.trouble = lambda _: None
    s3.put(*outputs(watch, 0))
    fresh = s3.look(watch, WatchState.begin(watch), now=END)
    assert fresh.forbidden(watch) is None


def test_an_outage_is_endured_for_some_looks_and_then_told_without_a_verdict() -> None:
    watch = shelves(2)
    s3, state = MemoryS3(trouble=lambda _: Presence.UNKNOWN), WatchState.begin(watch)
    for _ in range(TOLERATED_FAILED_LOOKS):
        state = s3.look(watch, state, now=1)
        assert state.verdict(watch, now=1) is None
    state = s3.look(watch, state, now=1)
    verdict = state.verdict(watch, now=1)
    assert verdict is not None
    assert (verdict.why, verdict.failed_looks) == ("unreachable", TOLERATED_FAILED_LOOKS + 1)
    assert verdict.counts.pending == 2_000, "no verdict was made up"


def test_after_the_last_deadline_an_outage_is_endured_for_a_minute() -> None:
    watch = shelves(1)
    s3 = MemoryS3(trouble=lambda _: Presence.UNKNOWN)
    state = s3.look(watch, WatchState.begin(watch), now=END)
    assert state.verdict(watch, now=END) is None
    verdict = state.verdict(watch, now=END + LAST_LOOKS_SECONDS)
    assert verdict is not None
    assert verdict.why == "unreachable"


def test_one_answer_about_an_output_ends_an_outage() -> None:
    watch = shelves(2, on_each=3)
    s3, state = MemoryS3(trouble=lambda _: Presence.UNKNOWN), WatchState.begin(watch)
    for _ in range(3):
        state = s3.look(watch, state, now=1)
    assert state.failed.in_a_row == 3
    s3.trouble = lambda request: Presence.UNKNOWN if "00001" in str(request) else None
    assert s3.look(watch, state, now=1).failed.in_a_row == 0


def test_a_failure_object_is_seen_through_an_outage_of_the_output() -> None:
    watch = shelves(1, on_each=1)
    s3 = MemoryS3(trouble=lambda request: Presence.UNKNOWN if request.which is Which.OUTPUTS else None)
    s3.put(failure(watch, 0, 0))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert (state.counts(watch).failed, state.failed.in_a_row) == (1, 0)


def test_each_result_has_its_own_deadline() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n}.out", f"s3://b/o/{n}-error.out") for n in range(3)]
    watch, places = group(invocations, [5.0, 50.0, 5.0])
    state = MemoryS3().look(watch, WatchState.begin(watch), now=6)
    outcomes = dict(state.outcomes(watch))
    assert [outcomes[place] for place in places] == [Outcome.TIMED_OUT, Outcome.WAITING, Outcome.TIMED_OUT]


def test_what_is_left_out_is_neither_asked_for_nor_counted() -> None:
    watch = shelves(1, on_each=4, left_out=(1, 2))
    s3 = MemoryS3()
    s3.put(watch.shelves[0].output(0), watch.shelves[0].output(3))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert state.counts(watch).succeeded == 2
    assert state.verdict(watch, now=1) is not None
    assert s3.asked["head outputs"] == 2


def test_the_wait_may_end_with_some_still_pending() -> None:
    watch = shelves(1)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0)[:600])
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert state.verdict(watch, now=1, until_pending=399) is None
    verdict = state.verdict(watch, now=1, until_pending=400)
    assert verdict is not None
    assert verdict.why == "room"


# What it costs


def test_a_first_look_at_a_hundred_thousand_is_a_page_a_shelf() -> None:
    watch = shelves(100)
    s3 = MemoryS3()
    s3.put(*outputs(watch, *range(100)))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert state.counts(watch).succeeded == 100_000
    assert s3.asked == {"list outputs": 100}


def test_a_finished_shelf_is_never_asked_about_again() -> None:
    watch = shelves(3)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0, 2))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    s3.asked.clear()
    for _ in range(5):
        state = s3.look(watch, state, now=2)
    assert s3.asked["list outputs"] == 5


def test_empty_shelves_are_looked_at_in_turn_but_each_at_least_every_eighth_time() -> None:
    watch = shelves(64)
    s3, state = MemoryS3(), WatchState.begin(watch)
    state = s3.look(watch, state, now=1)
    last = dict.fromkeys(range(64), 0)
    for look in range(1, 40):
        before = sum(s3.asked.values())
        state = s3.look(watch, state, now=1.0 + look)
        assert sum(s3.asked.values()) - before <= 16
        for number, shelf in enumerate(state.shelves):
            if shelf.outputs_at == 1.0 + look:
                last[number] = look
            assert look - last[number] < 8


def test_a_result_on_a_shelf_that_nobody_expected_is_seen_within_eight_looks() -> None:
    """SageMaker promises no order."""
    watch = shelves(64)
    s3 = MemoryS3()
    state = s3.look(watch, WatchState.begin(watch), now=1)
    s3.put(watch.shelves[63].output(999))
    for _ in range(8):
        state = s3.look(watch, state, now=2)
    assert state.counts(watch).succeeded == 1


@pytest.mark.parametrize("count", [1, 10, 40])
@pytest.mark.parametrize("failing", [0.0, 0.02])
@pytest.mark.parametrize("order", ["in order", "shuffled"])
def test_a_run_costs_about_a_page_for_each_unfinished_shelf(count: int, failing: float, order: str) -> None:
    """Sixty looks over a whole run; the goal is 1.05 pages per thousand inputs of unfinished shelves."""
    chance = random.Random(7)  # noqa: S311 - a made-up world
    watch = shelves(count, deadline=1e9)
    s3, state = MemoryS3(), WatchState.begin(watch)
    todo = [
        failure(watch, shelf, position)
        if chance.random() < failing
        else watch.shelves[shelf].output(position)
        for shelf in range(count)
        for position in range(1_000)
    ]
    if order == "shuffled":
        chance.shuffle(todo)
    looks, unfinished = 60, 0
    step = len(todo) // looks + 1
    for look in range(looks):
        unfinished += sum(
            bool(one.pending(shelf)) for shelf, one in zip(watch.shelves, state.shelves, strict=True)
        )
        state = s3.look(watch, state, now=float(look))
        s3.put(*todo[:step])
        del todo[:step]
    extra = 0
    while state.verdict(watch, now=100) is None and extra < 30:
        unfinished += sum(
            bool(one.pending(shelf)) for shelf, one in zip(watch.shelves, state.shelves, strict=True)
        )
        state, extra = s3.look(watch, state, now=100), extra + 1
    pages = s3.asked["list outputs"] + s3.asked["list failures"]
    assert pages <= 1.05 * unfinished + 2
    assert extra <= 3, "the wait ends soon after the last result"


def test_nothing_at_all_for_a_long_time_costs_no_more_than_a_page_a_look() -> None:
    watch = shelves(1, deadline=1e9)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for look in range(200):
        state = s3.look(watch, state, now=float(look))
    assert s3.asked["list outputs"] == 200
    assert s3.asked["list failures"] <= 11
    assert s3.asked["head failures"] <= 200


def test_the_look_after_the_last_output_ends_the_wait() -> None:
    watch = shelves(3)
    s3 = MemoryS3()
    s3.put(*outputs(watch, 0, 1, 2)[:-1])
    state = s3.look(watch, WatchState.begin(watch), now=1)
    s3.put(outputs(watch, 2)[-1])
    state = s3.look(watch, state, now=2)
    assert state.verdict(watch, now=2) is not None


def test_what_all_came_between_two_looks_is_all_seen_at_the_next() -> None:
    """Nearly all shelves were still empty, and most of them not looked at every time."""
    watch = shelves(100)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for now in (1.0, 2.0):
        state = s3.look(watch, state, now=now)
    s3.put(*outputs(watch, *range(100)))
    s3.asked.clear()
    state = s3.look(watch, state, now=3.0)
    assert state.counts(watch).pending == 0
    assert s3.asked.total() <= 101


def test_when_all_that_is_missing_has_failed_the_wait_ends_soon() -> None:
    watch = shelves(20)
    s3 = MemoryS3()
    good = [one for one in outputs(watch, *range(20)) if not one.endswith("7.out")]
    bad = [failure(watch, shelf, position) for shelf in range(20) for position in range(7, 1_000, 10)]
    s3.put(*good, *bad)
    state, looks = WatchState.begin(watch), 0
    while state.verdict(watch, now=1) is None and looks < 30:
        state, looks = s3.look(watch, state, now=1), looks + 1
    assert looks <= 3
    assert state.counts(watch).failed == 2_000
    assert s3.asked["list failures"] <= 2 * 3, (
        "two thousand failure objects are two pages of their common folder"
    )


def test_one_failure_among_many_pending_is_found_by_a_canary_and_then_the_others() -> None:
    """Everything fails, nothing comes out: no credit is needed to notice."""
    watch = shelves(1)
    s3, state = MemoryS3(), WatchState.begin(watch)
    for look in range(10):
        state = s3.look(watch, state, now=float(look))
    s3.put(*(failure(watch, 0, position) for position in range(1_000)))
    state = s3.look(watch, state, now=11)
    assert state.counts(watch).failed == 1_000


def test_stragglers_are_asked_for_one_by_one() -> None:
    watch = shelves(1)
    s3 = MemoryS3()
    s3.put(*(one for number, one in enumerate(outputs(watch, 0)) if number not in (3, 500, 999)))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    s3.asked.clear()
    s3.look(watch, state, now=2)
    assert s3.asked == {"head outputs": 3, "head failures": 3}


def test_results_among_a_hundred_thousand_old_ones_are_asked_for_one_by_one_when_that_is_cheaper() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n * 997:06}.out") for n in range(100)]
    watch, _ = group(invocations, [END] * 100)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/{n:06}.old" for n in range(100_000)))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert s3.asked == {"list outputs": 8, "head outputs": 100}
    s3.asked.clear()
    for _ in range(7):
        state = s3.look(watch, state, now=2)
    assert s3.asked == {"head outputs": 700}


def test_a_listing_begins_with_the_first_missing_name_and_stops_behind_the_last() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n:06}.out") for n in range(50_000, 51_000)]
    watch, _ = group(invocations, [END] * 1_000)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/{n:06}.out" for n in range(100_000)))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert state.counts(watch).succeeded == 1_000
    assert s3.asked == {"list outputs": 1}


def test_outputs_and_failures_in_one_folder_are_one_listing() -> None:
    invocations = [AsyncInvocation(f"s3://b/o/{n:04}.out", f"s3://b/o/{n:04}-error.out") for n in range(500)]
    watch, _ = group(invocations, [END] * 500)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/o/{n:04}{'-error' if n % 2 else ''}.out" for n in range(500)))
    state = s3.look(watch, WatchState.begin(watch), now=1)
    assert (state.counts(watch).succeeded, state.counts(watch).failed) == (250, 250)
    assert s3.asked == {"list outputs": 1}


def test_where_listing_is_denied_heads_are_bounded_until_a_verdict_is_due() -> None:
    watch = shelves(10, deadline=END)
    s3 = MemoryS3(trouble=lambda request: Presence.FORBIDDEN if isinstance(request, ListRequest) else None)
    s3.put(*outputs(watch, *range(10)))
    state, seen = WatchState.begin(watch), []
    for _ in range(10):
        s3.asked.clear()
        state = s3.look(watch, state, now=1)
        assert s3.asked["head outputs"] <= 2_000
        seen.append(state.counts(watch).succeeded)
    assert seen[-1] == 10_000, "all come in turn"
    late = MemoryS3(trouble=s3.trouble)
    state = late.look(watch, WatchState.begin(watch), now=END)
    assert state.counts(watch).timed_out == 10_000


def test_a_denied_listing_is_tried_again_later() -> None:
    """A session that expired for a while denies it, too."""
    watch = shelves(1)
    s3 = MemoryS3(trouble=lambda request: Presence.FORBIDDEN if isinstance(request, ListRequest) else None)
    state = s3.look(watch, WatchState.begin(watch), now=1)
    s3.trouble = lambda _: None
    s3.asked.clear()
    for _ in range(8):
        state = s3.look(watch, state, now=2)
    assert s3.asked["list outputs"] >= 1


def test_a_thorough_look_leaves_nothing_open() -> None:
    """What a task does before it judges, without the trigger's memory."""
    watch = shelves(30)
    s3 = MemoryS3()
    s3.put(*outputs(watch, *range(10)), *(failure(watch, 20, position) for position in range(1_000)))
    state = s3.look(watch, WatchState.begin(watch), now=1, thorough=True)
    assert (state.counts(watch).succeeded, state.counts(watch).failed) == (10_000, 1_000)
    assert all(one.outputs_at == 1 for one in state.shelves)
    assert all(one.failures_at == 1 for one in state.shelves[10:])


def test_failures_among_many_foreign_objects_are_listed_shelf_by_shelf() -> None:
    watch = shelves(3)
    s3 = MemoryS3()
    s3.put(*(f"s3://b/bad/root/r1/00000x/{n:06}" for n in range(50_000)))
    s3.put(failure(watch, 2, 5))
    state = s3.look(watch, WatchState.begin(watch), now=END)
    assert state.counts(watch).failed == 1
    assert state.counts(watch).timed_out == 2_999
    assert s3.asked["list failures"] <= 4 + 3


def test_explicit_names_of_single_results_need_no_folder_in_common() -> None:
    watch, _ = group([AsyncInvocation("s3://b/x/y.out", inference_id="i")], [END])
    assert watch.shelves[0].names == ListedNames(("y.out",), ids=("i",))
    assert MemoryS3().look(watch, WatchState.begin(watch), now=0).counts(watch).pending == 1


@pytest.mark.parametrize("which", list(Which))
def test_a_head_that_is_not_answered_is_no_answer_for_its_shelf(which: Which) -> None:
    watch = shelves(1, on_each=2)

    def silent(request: Request) -> Presence | None:
        first = isinstance(request, HeadRequest) and request.place.position == 0
        return Presence.UNKNOWN if first and request.which is which else None

    state = MemoryS3(trouble=silent).look(watch, WatchState.begin(watch), now=END)
    assert state.counts(watch).pending == 2
