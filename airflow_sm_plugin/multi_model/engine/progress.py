"""How far a batch is, told in the task's log every few seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.text import duration

log = get_log(__name__)

_EVERY_SECONDS = 5.0
_TELLING_SHARE, _TELLING_SECONDS = 0.1, 15.0


@dataclass(frozen=True, kw_only=True)
class Before:
    """What earlier processes have done of a shard.

    :param inputs: that have ended
    :param records: with a result, or failed, of these and of others
    """

    inputs: int = 0
    records: int = 0


class BatchProgress:
    """Counts of what this process has done.

    :param about: what opens each line
    :param total_inputs: of the shard
    :param left_bytes: of inputs that have not ended; 0 when they say nothing about the work, as of compressed ones
    """

    def __init__(self, about: str, *, total_inputs: int, left_bytes: int, before: Before) -> None:
        self._about = about
        self._total_inputs = total_inputs
        self._left_bytes = left_bytes
        self._before = before
        self._began = self._told = time.monotonic()
        self._told_records = 0
        self.inputs = 0
        """Inputs that have ended."""
        self.records = 0
        """Records with a result."""
        self.records_failed = 0
        self.bytes = 0
        """Of the inputs, as far as their records are settled."""

    def begin(self, *, models: int) -> None:
        """Say what there is to do, and what was done before."""
        left = self._total_inputs - self._before.inputs
        log.info("%s: %d inputs of %d models to do, %d bytes", self._about, left, models, self._left_bytes)
        if self._before.inputs or self._before.records:
            log.info(
                "%s: goes on: %d inputs are done, the results of %d records are written down",
                self._about,
                self._before.inputs,
                self._before.records,
            )

    def tell(self, *, warm: int, loading: int, in_flight: int, bound: int, repeats: int) -> None:
        """Say how far it is, when it is time to.

        :param repeats: attempts that failed and went again
        """
        now = time.monotonic()
        if now - self._told < _EVERY_SECONDS:
            return
        done = self.records + self.records_failed
        rate = (done - self._told_records) / (now - self._told)
        log.info(
            "%s: %d of %d inputs, %d records (%d failed in this try), %.0f records/s; %d models warm, %d loading; %d "
            "of %d invocations in flight, %d repeated; %s",
            self._about,
            self._before.inputs + self.inputs,
            self._total_inputs,
            self._before.records + done,
            self.records_failed,
            rate,
            warm,
            loading,
            in_flight,
            bound,
            repeats,
            self._left(now),
        )
        self._told, self._told_records = now, done

    def _left(self, now: float) -> str:
        left = self._total_inputs - self._before.inputs
        share = self.bytes / self._left_bytes if self._left_bytes else self.inputs / max(1, left)
        passed = now - self._began
        if share <= 0 or (
            share < _TELLING_SHARE and passed < _TELLING_SECONDS
        ):  # cold starts tell nothing of it
            return "time left unknown yet"
        return f"about {duration(round(passed * max(0.0, 1 - share) / share))} left"
