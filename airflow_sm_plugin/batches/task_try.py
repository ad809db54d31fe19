"""One try of a task instance, ordered among all tries of that task instance, those of deleted DAG runs included.

Airflow counts tries up over the life of one DAG run, also when a task is cleared. A DAG run that is deleted and created
again under its old run id begins with try 1: only the DAG run's start date separates it from the deleted one. Airflow
sets that date when the run begins and when a finished run is cleared, each time by the clock of the scheduler at hand;
a retry leaves it as it is. How often a run was cleared (its ``clear_number``) separates the two.

The writer of a state is a try in one run of its task; whether the state counts follows from it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field


class Origin(enum.Enum):
    """How the writer of a state stands to the try that finds it."""

    SAME_RUN = "an earlier try, or this one"
    CLEARED = "a try before the DAG run's task was cleared"
    DELETED_RUN = "a try of a DAG run that was deleted and created again"
    LATER_TRY = "a later try: this one was left behind"


@dataclass(frozen=True)
class TaskTry:
    """One try of a task instance.

    :param run_started: the DAG run's start date, epoch seconds; None where it is not known
    :param number: Airflow's try number, from 1
    :param times_cleared: the DAG run's ``clear_number``; None where it is not known
    """

    run_started: float | None = None
    number: int = 1
    times_cleared: int | None = None

    def origin_of(self, writer: TaskTry) -> Origin:
        """Return how the try that wrote a state stands to this one.

        Equal start dates are of one DAG run: the try numbers tell. So they do where a date is not known, though then a
        deleted run's later try looks like one of this run. Different dates are of one DAG run only if it was cleared
        between them; the dates come from the clocks of schedulers, which may disagree by minutes:

        ================  =======================  ================================================
        this try number   this ``clear_number``    the writer is of
        ================  =======================  ================================================
        higher            higher                   ``CLEARED``, whatever the dates
        higher            equal                    ``DELETED_RUN``, whatever the dates
        higher            lower                    by date: ``DELETED_RUN``, or ``LATER_TRY``
        higher            unknown                  by date: ``CLEARED``, or ``LATER_TRY``
        equal or lower    any                      by date: ``DELETED_RUN``, or ``LATER_TRY``
        ================  =======================  ================================================

        So a try with a higher number whose run was cleared as often, or more often, is never the earlier one. What is
        left of a deleted run may look like that, too: it is then not stopped here, but by the claim of the later run's
        next try. A later run's try with a lower number differs from the earlier run's tries by its date alone.
        """
        mine, its = self.run_started, writer.run_started
        if mine is None or its is None or mine == its:
            return Origin.SAME_RUN if writer.number <= self.number else Origin.LATER_TRY
        is_higher, cleared = self.number > writer.number, self.times_cleared
        cleared_before = writer.times_cleared or 0
        if is_higher and cleared is not None and cleared >= cleared_before:
            return Origin.CLEARED if cleared > cleared_before else Origin.DELETED_RUN
        if its > mine:
            return Origin.LATER_TRY
        return Origin.CLEARED if is_higher and cleared is None else Origin.DELETED_RUN

    def run_began(self, writer: TaskTry | None, before: float | None) -> float | None:
        """Return when the present life of the DAG run began, as far as the writers of its states tell.

        A later start date alone does not tell a deleted run: clearing moves it, too. It does once a try number was seen
        that is not higher, and from then on for all that was written before, whatever the number.

        :param writer: of the latest state; None when there is none
        :param before: what that writer had found; None for nothing
        """
        if writer is None:
            return None
        if self.origin_of(writer) is Origin.DELETED_RUN:
            return self.run_started
        if before is None or self.run_started is None:
            return before
        return min(before, self.run_started)  # a run that was cleared by a scheduler whose clock is slow

    def origin_in_run(self, writer: TaskTry, began: float | None) -> Origin:
        """Do as :meth:`origin_of`, knowing when the present life of the DAG run began, as :meth:`run_began` has it."""
        if began is not None and writer.run_started is not None and writer.run_started < began:
            return self.origin_of(writer) if writer.run_started == self.run_started else Origin.DELETED_RUN
        return self.origin_of(writer)

    def of_this_run(self, writers: Sequence[TaskTry]) -> list[bool]:
        """Return of each of these writers, the earliest first, whether it is of the present life of the DAG run."""
        began, before = None, None
        for writer in (*writers, self):
            began, before = writer.run_began(before, began), writer
        return [self.origin_in_run(writer, began) is not Origin.DELETED_RUN for writer in writers]

    def as_list(self) -> list[float | None]:
        """Return it as a JSON value."""
        return [self.run_started, self.number, self.times_cleared]

    @classmethod
    def from_list(cls, value: Sequence[float | None] | None) -> TaskTry:
        """Read what :meth:`as_list` returned; None, as earlier versions wrote, is a first try of an unknown run."""
        if value is None:
            return cls()
        started, number, *further = value
        cleared = further[0] if further else None
        return cls(
            None if started is None else float(started),
            int(number or 1),
            None if cleared is None else int(cleared),
        )


@dataclass(frozen=True)
class StateWriter:
    """A try that writes state, or finds another's.

    :param task_try: the DAG run's start date tells a DAG run from a deleted one of the same id, the number its tries
    :param run: what stays the same over the retries of one run of the task, and differs when it is cleared, also in a
        DAG run that goes on; None where that is not known: every call then counts as a run of its own
    """

    task_try: TaskTry = field(default_factory=TaskTry)
    run: str | None = None

    @property
    def is_dated(self) -> bool:
        """Whether its DAG run's start date is known, as it always is in Airflow."""
        return self.task_try.run_started is not None

    def origin_of(self, writer: StateWriter) -> Origin:
        """Return how the try that wrote a state stands to this one."""
        origin = self.task_try.origin_of(writer.task_try)
        is_same_run = self.run is not None and self.run == writer.run
        if origin is Origin.SAME_RUN and not is_same_run:
            return Origin.CLEARED  # while its DAG run goes on, which keeps its start date
        if origin is Origin.CLEARED and is_same_run:
            return Origin.DELETED_RUN  # its first try ended before it wrote anything
        return origin

    def surely_goes_on_from(self, writer: StateWriter) -> bool:
        """Return whether a state is surely an earlier try's of this very run, or this one's.

        Without start dates a first try cannot know: a deleted DAG run's was a first one, too.
        """
        dates = (self.task_try.run_started, writer.task_try.run_started)
        return self.origin_of(writer) is Origin.SAME_RUN and (self.task_try.number > 1 or None not in dates)
