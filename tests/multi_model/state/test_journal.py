"""The sum of a journal: which records have a result, which failures are tried again, which gaps are left."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.multi_model.state.journal import Gap, InputProgress, Journal
from airflow_sm_plugin.multi_model.state.records import Ended, Failure, JournalPart, Reopened, Run


def failure(
    entry: int, start: int, end: int, record: int, *, retryable: bool = False, offset: int = 0
) -> Failure:
    return Failure(entry, start, end, record, 1, "ModelError", retryable, offset, 10)


FIRST, SECOND = StateWriter(TaskTry(1.0, 1), "1"), StateWriter(TaskTry(1.0, 2), "2")


def journal(*parts: JournalPart, keep: bool = True) -> Journal:
    total = Journal(lambda entry: entry // 10, keep=keep)
    for part in parts:
        total.add(part)
    return total


def part(**fields: object) -> JournalPart:
    return JournalPart(token="t", written_at=1.0, **fields)  # type: ignore[arg-type]


FULL = JournalPart(
    token="t",
    written_at=12.5,
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


def test_a_part_survives_encoding_zeros_included() -> None:
    assert JournalPart.from_json(FULL.as_json()) == FULL
    assert JournalPart.from_json(part().as_json()) == part()


def test_the_first_claim_is_number_zero_and_is_kept() -> None:
    total = journal(JournalPart.from_json(part(claim=0, writer=FIRST).as_json()))
    assert (total.claim, total.writer) == (0, FIRST)


def test_an_unreadable_rest_is_no_gap_until_it_is_tried_again() -> None:
    rest = failure(0, 20, 20, 4)._replace(records=None)
    first = part(data="d", runs=(Run(0, 0, 10, 0, 2, 0, 5),), failures=(rest,))
    assert list(journal(first).progress_of(0).gaps()) == [Gap(10, 20, 2)]
    unreadable = part(failures=(rest._replace(start=0, end=0, first_record=0),))
    assert list(journal(unreadable).progress_of(0).gaps()) == []
    retried = journal(first, part(reopened=(rest.reopened,)))
    assert list(retried.progress_of(0).gaps()) == [Gap(10, None, 2)]


def test_an_input_without_results_is_one_gap() -> None:
    assert list(InputProgress(0, []).gaps()) == [Gap(0, None, 0)]


def test_gaps_are_between_runs_and_failures_and_behind_them() -> None:
    total = journal(
        part(
            data="d",
            runs=(Run(0, 0, 10, 0, 2, 0, 1), Run(0, 30, 40, 5, 1, 1, 1)),
            failures=(failure(0, 20, 30, 4),),
        )
    )
    assert list(total.progress_of(0).gaps()) == [Gap(10, 20, 2), Gap(40, None, 6)]


def test_a_failure_that_is_tried_again_is_a_gap() -> None:
    total = journal(
        part(data="d", runs=(Run(0, 0, 10, 0, 2, 0, 1),), failures=(failure(0, 10, 20, 2),)),
        part(ended=(Ended(0, 3, 1),)),
    )
    assert total.left(0, 2) == [1]
    assert total.to_retry(everything=False) == []
    [again] = total.to_retry(everything=True)
    total.add(part(reopened=(again.reopened,)))
    assert total.left(0, 2) == [0, 1]
    assert list(total.progress_of(0).gaps()) == [Gap(10, None, 2)]


def test_only_retryable_failures_are_tried_again_within_a_run() -> None:
    total = journal(
        part(failures=(failure(0, 0, 5, 0, retryable=True), failure(0, 5, 9, 1))),
        part(ended=(Ended(0, 2, 2, False, True),)),
    )
    assert [retried.reopened for retried in total.to_retry(everything=False)] == [Reopened(0, 0)]


def test_the_rest_of_an_unreadable_input_is_a_gap_once_it_is_tried_again() -> None:
    unreadable = Failure(0, 10, 10, 2, None, "AccessDenied", False, 0, 10)
    total = journal(
        part(data="d", runs=(Run(0, 0, 10, 0, 2, 0, 1),), failures=(unreadable,)),
        part(ended=(Ended(0, 2, 0, True),)),
    )
    total.add(part(reopened=tuple(retried.reopened for retried in total.to_retry(everything=True))))
    assert list(total.progress_of(0).gaps()) == [Gap(10, None, 2)]


def test_inputs_without_a_failure_are_counted_by_group_and_not_kept() -> None:
    total = journal(
        part(data="d", runs=(Run(3, 0, 9, 0, 4, 0, 1),)), part(ended=(Ended(3, 4, 0), Ended(12, 5, 0)))
    )
    assert total.clean == (1 << 3) | (1 << 12)
    assert (total.clean_inputs, total.clean_records) == ({0: 1, 1: 1}, {0: 4, 1: 5})
    assert total.left(2, 12) == [2, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    assert not total.progress


def test_failed_inputs_that_are_not_tried_again_are_not_kept() -> None:
    total = journal(part(failures=(failure(0, 0, 5, 0),)), part(ended=(Ended(0, 1, 1),)))
    assert total.progress
    total.forget_failed()
    assert not total.progress
    assert total.left(0, 1) == []


def test_a_later_claim_reopens_a_finished_shard() -> None:
    total = journal(part(claim=0, writer=FIRST), part(finished=True))
    assert bool(total.is_finished)
    total.add(part(claim=1, writer=SECOND))
    assert not total.is_finished
    assert total.writer == SECOND


def test_consecutive_failures_of_one_class_are_joined() -> None:
    first, second = failure(0, 0, 5, 0), failure(0, 5, 9, 1, offset=10)
    assert second.follows(first)
    assert first.joined(second) == first._replace(end=9, records=2, size=20)
    assert not failure(0, 6, 9, 1, offset=10).follows(first)
    assert not failure(0, 5, 9, 1, offset=11).follows(first)
    assert not failure(0, 5, 9, 1, offset=10, retryable=True).follows(first)


def test_runs_are_in_the_inputs_order_with_the_names_of_their_data_objects() -> None:
    total = journal(
        part(data="d0", runs=(Run(0, 10, 20, 1, 1, 7, 3),)),
        part(failures=()),
        part(data="d1", runs=(Run(0, 0, 10, 0, 1, 0, 4, 4, 2),)),
    )
    progress = total.progress_of(0)
    assert list(progress.in_order()) == [
        (Run(0, 0, 10, 0, 1, 0, 4, 4, 2), "d1"),
        (Run(0, 10, 20, 1, 1, 7, 3), "d0"),
    ]
    assert (progress.records, progress.bytes) == (2, 7)


def test_the_first_writer_survives_a_restart() -> None:
    total = journal(part(claim=0, writer=FIRST), part(claim=1, writer=SECOND, is_restart=True))
    assert (total.first_writer, total.writer) == (FIRST, SECOND)


def test_parts_before_a_restart_are_void() -> None:
    before = msgspec.structs.replace(FULL, is_restart=False)
    total = journal(
        before, part(claim=1, writer=SECOND, is_restart=True, data="d1", runs=(Run(3, 0, 9, 0, 1, 0, 4),))
    )
    alone = journal(
        part(claim=1, writer=SECOND, is_restart=True, data="d1", runs=(Run(3, 0, 9, 0, 1, 0, 4),))
    )
    assert (total.clean, total.failed, total.etags, total.is_finished) == (0, {}, {}, False)
    assert (total.clean_inputs, total.clean_records) == (alone.clean_inputs, alone.clean_records)
    assert list(total.progress_of(3).in_order()) == list(alone.progress_of(3).in_order())
    assert list(total.progress) == [3]
    assert total.began_at == 1.0
    assert total.statistics.as_json() == alone.statistics.as_json()
    assert total.parts == 2


@given(st.data())
def test_runs_and_gaps_tile_an_input(data: st.DataObject) -> None:
    """For all runs in any order, the gaps are exactly the rest of the input."""
    cuts = sorted(data.draw(st.sets(st.integers(1, 200), min_size=1, max_size=20)))
    pieces = [(start, end, record) for record, (start, end) in enumerate(zip([0, *cuts], cuts, strict=False))]
    recorded = data.draw(st.lists(st.sampled_from(pieces), unique=True))
    runs = tuple(Run(0, start, end, record, 1, 0, 0) for start, end, record in recorded)
    gaps = list(journal(part(data="d", runs=runs)).progress_of(0).gaps())
    covered = sorted(
        [(start, end) for start, end, _ in recorded] + [(gap.start, gap.end) for gap in gaps[:-1]]
    )
    assert all(before[1] == after[0] for before, after in itertools.pairwise(covered))
    assert gaps[-1].end is None
    assert gaps[-1].start == (covered[-1][1] if covered else 0)
    records = {start: record for start, _, record in pieces}
    assert all(gap.first_record == records.get(gap.start, len(pieces)) for gap in gaps)
