"""Log the progress of a batch every few seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.text import duration, plural

log = get_log(__name__)

_EVERY_SECONDS = 5.0
"""Seconds between two lines of progress: 720 in the log of an hour, and a stalled batch shows within seconds."""
_ESTIMATE_SHARE, _ESTIMATE_SECONDS = 0.1, 15.0
"""Before that share is done, and so many seconds have passed, cold starts hide how long the rest takes."""

_FEW_SECONDS = 10
"""Less than that is not estimated: the last inputs end at very different times."""


@dataclass(kw_only=True, eq=False)
class BatchProgress:
    """Counts of the work that this process has done.

    :param about: beginning of each line
    :param total_inputs: of the shard
    :param left_bytes: of inputs that have not ended; 0 for compressed inputs, whose sizes do not measure the work
    :param inputs_before: inputs that ended in earlier processes
    :param records_before: records with a result, or failed, in earlier processes
    :param inputs: inputs that have ended
    :param records: records with a result
    :param bytes: size of the inputs' settled records
    """

    about: str
    total_inputs: int
    left_bytes: int
    inputs_before: int
    records_before: int
    inputs: int = 0
    records: int = 0
    records_failed: int = 0
    bytes: int = 0

    def __post_init__(self) -> None:
        self._began = self._reported = time.monotonic()
        self._reported_records = 0

    def begin(self, *, models: int) -> None:
        """Log the work left, and the work of earlier processes."""
        left = self.total_inputs - self.inputs_before
        work = (
            f"{plural(left, 'input')} of {plural(models, 'model')} to do, {plural(self.left_bytes, 'byte')}"
        )
        log.info("%s: %s", self.about, work)
        if self.inputs_before or self.records_before:
            done = f"{plural(self.inputs_before, 'input')} done, {plural(self.records_before, 'record')} with results"
            log.info("%s: goes on: %s", self.about, done)

    def report(self, *, warm: int, loading: int, in_flight: int, bound: int, repeats: int) -> None:
        """Log the progress if the last line is five seconds old.

        :param repeats: attempts that failed and were followed by another
        """
        now = time.monotonic()
        if now - self._reported < _EVERY_SECONDS:
            return
        settled = self.records + self.records_failed
        rate = (settled - self._reported_records) / (now - self._reported)
        text = (
            f"{self.inputs_before + self.inputs} of {plural(self.total_inputs, 'input')}, "
            f"{plural(self.records_before + settled, 'record')} ({self.records_failed} failed in this try), "
            f"{rate:.0f} records/s; {plural(warm, 'model')} warm, {loading} loading; {in_flight} of "
            f"{plural(bound, 'invocation')} in flight, {repeats} repeated; {self._left(now)}"
        )
        log.info("%s: %s", self.about, text)
        self._reported, self._reported_records = now, settled

    def _left(self, now: float) -> str:
        left = self.total_inputs - self.inputs_before
        share = self.bytes / self.left_bytes if self.left_bytes else self.inputs / max(1, left)
        passed = now - self._began
        if share <= 0 or (share < _ESTIMATE_SHARE and passed < _ESTIMATE_SECONDS):
            return "time left unknown yet"
        seconds = round(passed * max(0.0, 1 - share) / share)
        return "a few seconds left" if seconds < _FEW_SECONDS else f"about {duration(seconds)} left"
