from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.multi_model.state.journal import Gap, InputProgress, Journal
from airflow_sm_plugin.multi_model.state.records import Ended, Failure, JournalPart, Reopened, Run


def failure(
    entry: int, start: int, end: int, record: int, *, retryable: bool = False, at: int = 0
) -> Failure:
    return Failure(entry, start, end, record, 1, "ModelError", retryable, at, 10)


FIRST, SECOND = StateWriter(TaskTry(1.0, 1), "1"), StateWriter(TaskTry(1.0, 2), "2")


def journal(*parts: JournalPart, keep: bool = True) -> Journal:
    found = Journal(lambda entry: entry // 10, keep=keep)
    for part in parts:
        found.add(part)
    return found


def part(**given: object) -> JournalPart:
    return JournalPart(token="t", at=1.0, **given)  # type: ignore[arg-type]


WHOLE = JournalPart(
    token="t",
    at=12.5,
    claim=0,
    writer=StateWriter(TaskTry(1.5, 2), "0"),
    is_restart=True,
    data="00000001-t",
    runs=(Run(0, 0, 10, 0, 2, 0, 5, 5, 7),),
    failures=(failure(1, 0, 5, 0),),
    ended=(Ended(2, 7, 0), Ended(1, 1, 1, False, True)),
    reopened=(Reopened(3, 0),),
    etags={4: "abc"},
    finished=True,
    statistics={"models": {}},
)


def test_a_part_is_read_as_it_was_written_zeros_included() -> None:
    assert JournalPart.from_json(WHOLE.as_json()) == WHOLE
    assert JournalPart.from_json(part().as_json()) == part()


def test_the_first_claim_is_number_zero_and_is_kept() -> None:
    found = journal(JournalPart.from_json(part(claim=0, writer=FIRST).as_json()))
    assert (found.claim, found.writer) == (0, FIRST)


def test_a_rest_that_has_failed_as_a_whole_is_no_gap_until_it_is_tried_again() -> None:
    rest = failure(0, 20, 20, 4)._replace(records=None)
    known = part(data="d", runs=(Run(0, 0, 10, 0, 2, 0, 5),), failures=(rest,))
    assert list(journal(known).progress_of(0).gaps()) == [Gap(10, 20, 2)]
    assert (
        list(journal(part(failures=(rest._replace(start=0, end=0, first_record=0),))).progress_of(0).gaps())
        == []
    )
    again = journal(known, part(reopened=(rest.reopened,)))
    assert list(again.progress_of(0).gaps()) == [Gap(10, None, 2)]


def test_an_input_of_which_nothing_is_known_is_one_gap() -> None:
    assert list(InputProgress(0, []).gaps()) == [Gap(0, None, 0)]


def test_gaps_lie_between_runs_and_failures_and_behind_them() -> None:
    found = journal(
        part(
            data="d",
            runs=(Run(0, 0, 10, 0, 2, 0, 1), Run(0, 30, 40, 5, 1, 1, 1)),
            failures=(failure(0, 20, 30, 4),),
        )
    )
    assert list(found.progress_of(0).gaps()) == [Gap(10, 20, 2), Gap(40, None, 6)]


def test_a_failure_that_is_tried_again_is_a_gap_once_more() -> None:
    found = journal(
        part(data="d", runs=(Run(0, 0, 10, 0, 2, 0, 1),), failures=(failure(0, 10, 20, 2),)),
        part(ended=(Ended(0, 3, 1),)),
    )
    assert found.left(0, 2) == [1]
    assert found.to_retry(everything=False) == []
    [again] = found.to_retry(everything=True)
    found.add(part(reopened=(again.reopened,)))
    assert found.left(0, 2) == [0, 1]
    assert list(found.progress_of(0).gaps()) == [Gap(10, None, 2)]


def test_only_what_may_pass_is_tried_again_within_a_run() -> None:
    found = journal(
        part(failures=(failure(0, 0, 5, 0, retryable=True), failure(0, 5, 9, 1))),
        part(ended=(Ended(0, 2, 2, False, True),)),
    )
    assert [each.reopened for each in found.to_retry(everything=False)] == [Reopened(0, 0)]


def test_the_rest_of_an_unreadable_input_is_a_gap_once_it_is_tried_again() -> None:
    lost = Failure(0, 10, 10, 2, None, "AccessDenied", False, 0, 10)
    found = journal(
        part(data="d", runs=(Run(0, 0, 10, 0, 2, 0, 1),), failures=(lost,)),
        part(ended=(Ended(0, 2, 0, True),)),
    )
    found.add(part(reopened=tuple(each.reopened for each in found.to_retry(everything=True))))
    assert list(found.progress_of(0).gaps()) == [Gap(10, None, 2)]


def test_inputs_without_a_failure_are_counted_by_their_group_and_forgotten() -> None:
    found = journal(
        part(data="d", runs=(Run(3, 0, 9, 0, 4, 0, 1),)), part(ended=(Ended(3, 4, 0), Ended(12, 5, 0)))
    )
    assert found.clean == (1 << 3) | (1 << 12)
    assert (found.clean_inputs, found.clean_records) == ({0: 1, 1: 1}, {0: 4, 1: 5})
    assert found.left(2, 12) == [2, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    assert not found.progress


def test_failed_inputs_are_forgotten_when_nobody_will_try_them_again() -> None:
    found = journal(part(failures=(failure(0, 0, 5, 0),)), part(ended=(Ended(0, 1, 1),)))
    assert found.progress
    found.forget_failed()
    assert not found.progress
    assert found.left(0, 1) == []


def test_a_later_claim_reopens_what_was_finished() -> None:
    found = journal(part(claim=0, writer=FIRST), part(finished=True))
    assert bool(found.is_finished)
    found.add(part(claim=1, writer=SECOND))
    assert not found.is_finished
    assert found.writer == SECOND


def test_failures_of_one_class_that_follow_each_other_are_kept_as_one() -> None:
    first, second = failure(0, 0, 5, 0), failure(0, 5, 9, 1, at=10)
    assert second.follows(first)
    assert first.joined(second) == first._replace(end=9, records=2, size=20)
    assert not failure(0, 6, 9, 1, at=10).follows(first)
    assert not failure(0, 5, 9, 1, at=11).follows(first)
    assert not failure(0, 5, 9, 1, at=10, retryable=True).follows(first)


def test_runs_are_told_in_the_inputs_order_with_the_object_that_holds_their_bytes() -> None:
    found = journal(
        part(data="d0", runs=(Run(0, 10, 20, 1, 1, 7, 3),)),
        part(failures=()),
        part(data="d1", runs=(Run(0, 0, 10, 0, 1, 0, 4, 4, 2),)),
    )
    story = found.progress_of(0)
    assert list(story.in_order()) == [
        (Run(0, 0, 10, 0, 1, 0, 4, 4, 2), "d1"),
        (Run(0, 10, 20, 1, 1, 7, 3), "d0"),
    ]
    assert (story.records, story.bytes) == (2, 7)


def test_who_began_a_journal_stays_known() -> None:
    found = journal(part(claim=0, writer=FIRST), part(claim=1, writer=SECOND, is_restart=True))
    assert (found.first_writer, found.writer) == (FIRST, SECOND)


def test_nothing_before_a_restart_counts() -> None:
    before = msgspec.structs.replace(WHOLE, is_restart=False)
    found = journal(
        before, part(claim=1, writer=SECOND, is_restart=True, data="d1", runs=(Run(3, 0, 9, 0, 1, 0, 4),))
    )
    alone = journal(
        part(claim=1, writer=SECOND, is_restart=True, data="d1", runs=(Run(3, 0, 9, 0, 1, 0, 4),))
    )
    assert (found.clean, found.failed, found.etags, found.is_finished) == (0, {}, {}, False)
    assert (found.clean_inputs, found.clean_records) == (alone.clean_inputs, alone.clean_records)
    assert list(found.progress_of(3).in_order()) == list(alone.progress_of(3).in_order())
    assert list(found.progress) == [3]
    assert found.began_at == 1.0
    assert found.statistics.as_json() == alone.statistics.as_json()
    assert found.parts == 2


@given(st.data())
def test_runs_and_gaps_tile_an_input(data: st.DataObject) -> None:
    """Whatever was written down in whatever order, what is left is exactly the rest."""
    cuts = sorted(data.draw(st.sets(st.integers(1, 200), min_size=1, max_size=20)))
    pieces = [(start, end, number) for number, (start, end) in enumerate(zip([0, *cuts], cuts, strict=False))]
    known = data.draw(st.lists(st.sampled_from(pieces), unique=True))
    runs = tuple(Run(0, start, end, number, 1, 0, 0) for start, end, number in known)
    gaps = list(journal(part(data="d", runs=runs)).progress_of(0).gaps())
    covered = sorted([(start, end) for start, end, _ in known] + [(gap.start, gap.end) for gap in gaps[:-1]])
    assert all(one[1] == next_[0] for one, next_ in itertools.pairwise(covered))
    assert gaps[-1].end is None
    assert gaps[-1].start == (covered[-1][1] if covered else 0)
    for gap in gaps:
        assert gap.first_record == next((n for s, _, n in pieces if s == gap.start), len(pieces))
