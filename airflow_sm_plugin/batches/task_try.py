"""The order of the tries of a task instance, those of deleted DAG runs included.

Airflow counts tries up over the life of one DAG run, also when a task is cleared. A DAG run that is deleted and created
again under its old run id begins with try 1: only the DAG run's start date separates it from the deleted one. Airflow
sets that date when the run begins and when a finished run is cleared, each time by the clock of the scheduler at hand;
a retry leaves it as it is. How often a run was cleared (its ``clear_number``) separates the two.

State in S3 names the try that wrote it. Whether a later try uses the state follows from the order of the two.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field


class Origin(enum.Enum):
    """The relation of the try that wrote a state to the try that reads it."""

    SAME_RUN = "an earlier try, or this one"
    CLEARED = "a try before the DAG run's task was cleared"
    DELETED_RUN = "a try of a DAG run that was deleted and created again"
    LATER_TRY = "a later try: this one was left behind"


@dataclass(frozen=True)
class TaskTry:
    """One try of a task instance.

    :param run_started: the DAG run's start date, epoch seconds; None if unknown
    :param number: Airflow's try number, from 1
    :param times_cleared: the DAG run's ``clear_number``; None if unknown
    """

    run_started: float | None = None
    number: int = 1
    times_cleared: int | None = None

    def origin_of(self, writer: TaskTry) -> Origin:
        """Decide how the try that wrote a state is related to this one.

        Equal start dates belong to one DAG run, so the try numbers decide. They also decide if a date is unknown; a
        deleted run's later try then counts as one of this run. Different dates belong to one DAG run only if it was
        cleared between them; the dates come from the clocks of schedulers, which may disagree by minutes:

        ================  =======================  ================================================
        this try number   this ``clear_number``    the writer is of
        ================  =======================  ================================================
        higher            higher                   ``CLEARED``, whatever the dates
        higher            equal                    ``DELETED_RUN``, whatever the dates
        higher            lower                    by date: ``DELETED_RUN``, or ``LATER_TRY``
        higher            unknown                  by date: ``CLEARED``, or ``LATER_TRY``
        equal or lower    any                      by date: ``DELETED_RUN``, or ``LATER_TRY``
        ================  =======================  ================================================

        So a try with a higher number whose run was cleared as often, or more often, is never the earlier one. An orphan
        of a deleted run may have such numbers, too: the claim of the later run's next try stops it. A later run's try
        with a lower number differs from the earlier run's tries by its date alone.
        """
        started, writer_started = self.run_started, writer.run_started
        if started is None or writer_started is None or started == writer_started:
            return Origin.SAME_RUN if writer.number <= self.number else Origin.LATER_TRY
        is_higher, cleared = self.number > writer.number, self.times_cleared
        cleared_before = writer.times_cleared or 0
        if is_higher and cleared is not None and cleared >= cleared_before:
            return Origin.CLEARED if cleared > cleared_before else Origin.DELETED_RUN
        if writer_started > started:
            return Origin.LATER_TRY
        return Origin.CLEARED if is_higher and cleared is None else Origin.DELETED_RUN

    def run_began(self, writer: TaskTry | None, before: float | None) -> float | None:
        """Find when the current DAG run began, counted from its creation, as far as earlier writers of state show it.

        A later start date alone does not show that a run was deleted, since clearing moves the date, too. A try number
        that is not higher shows it, and then every earlier state belongs to the deleted run, whatever its number.

        :param writer: of the latest state; None if there is none
        :param before: the result of that writer's own call
        :return: epoch seconds; None as long as no deleted run is known
        """
        if writer is None:
            return None
        if self.origin_of(writer) is Origin.DELETED_RUN:
            return self.run_started
        if before is None or self.run_started is None:
            return before
        return min(before, self.run_started)  # a run that was cleared by a scheduler whose clock is slow

    def origin_in_run(self, writer: TaskTry, began: float | None) -> Origin:
        """Decide how the try that wrote a state is related to this one, where the current DAG run's beginning is known.

        :param began: the result of :meth:`run_began`; None decides as :meth:`origin_of`
        """
        started = writer.run_started
        if began is not None and started is not None and started < began and started != self.run_started:
            return Origin.DELETED_RUN
        return self.origin_of(writer)

    def of_this_run(self, writers: Sequence[TaskTry]) -> list[bool]:
        """Decide for each writer, given in the order of writing, whether it belongs to the current DAG run."""
        began, before = None, None
        for writer in (*writers, self):
            began, before = writer.run_began(before, began), writer
        return [self.origin_in_run(writer, began) is not Origin.DELETED_RUN for writer in writers]

    def as_list(self) -> list[float | None]:
        return [self.run_started, self.number, self.times_cleared]

    @classmethod
    def from_list(cls, value: Sequence[float | None]) -> TaskTry:
        started, number, cleared = value
        return cls(started, int(number or 1), None if cleared is None else int(cleared))


@dataclass(frozen=True)
class StateWriter:
    """A try that writes state or reads another try's state.

    :param run: the same for all retries of a task, and another once the task is cleared, even within its DAG run. With
        None every call counts as a run of its own
    """

    task_try: TaskTry = field(default_factory=TaskTry)
    run: str | None = None

    @property
    def is_dated(self) -> bool:
        """Check whether the DAG run's start date is known, as it always is in Airflow."""
        return self.task_try.run_started is not None

    def origin_of(self, writer: StateWriter) -> Origin:
        """Decide how the try that wrote a state is related to this one."""
        origin = self.task_try.origin_of(writer.task_try)
        is_same_run = self.run is not None and self.run == writer.run
        if origin is Origin.SAME_RUN and not is_same_run:
            return Origin.CLEARED  # while its DAG run goes on, which keeps its start date
        if origin is Origin.CLEARED and is_same_run:
            return Origin.DELETED_RUN  # its first try ended before it wrote anything
        return origin

    def surely_goes_on_from(self, writer: StateWriter) -> bool:
        """Decide whether this try, or an earlier one of the same run, certainly wrote a state.

        Without start dates a first try cannot know: the state may be from the first try of a deleted DAG run.
        """
        dates = (self.task_try.run_started, writer.task_try.run_started)
        return self.origin_of(writer) is Origin.SAME_RUN and (self.task_try.number > 1 or None not in dates)
