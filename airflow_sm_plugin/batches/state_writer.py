"""Who wrote a batch's state: a try of the task instance, in one run of it. Whether the state counts follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_sm_plugin.batches.task_try import Origin, TaskTry


@dataclass(frozen=True)
class StateWriter:
    """A try that writes state, or finds another's.

    :param task_try: the DAG run's start date tells a DAG run from a deleted one of the same id, the number its tries
    :param run: what stays the same over the retries of one run of the task, and differs when it is cleared, also in a
        DAG run that goes on; None where that cannot be told: every call then counts as a run of its own
    """

    task_try: TaskTry = field(default_factory=TaskTry)
    run: str | None = None

    @property
    def is_dated(self) -> bool:
        """Whether its DAG run's start date is known, as it always is in Airflow."""
        return self.task_try.run_started is not None

    def origin_of(self, writer: StateWriter) -> Origin:
        """Tell how the try that wrote a state stands to this one."""
        origin = self.task_try.origin_of(writer.task_try)
        is_same_run = self.run is not None and self.run == writer.run
        if origin is Origin.SAME_RUN and not is_same_run:
            return Origin.CLEARED  # while its DAG run goes on, which keeps its start date
        if origin is Origin.CLEARED and is_same_run:
            return Origin.DELETED_RUN  # its first try ended before it wrote anything
        return origin

    def surely_goes_on_from(self, writer: StateWriter) -> bool:
        """Tell whether a state is surely an earlier try's of this very run, or this one's.

        Without start dates a first try cannot know: a deleted DAG run's was a first one, too.
        """
        dates = (self.task_try.run_started, writer.task_try.run_started)
        return self.origin_of(writer) is Origin.SAME_RUN and (self.task_try.number > 1 or None not in dates)
