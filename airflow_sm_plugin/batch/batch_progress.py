"""How far a batch is, told in the task's log every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.core.batch_report import MOST_FAILURES

log = logging.getLogger(__name__)

_EVERY_SECONDS = 10.0
_MINUTE, _HOUR = 60, 3_600


class BatchProgress:
    """Counts of what this process has done.

    :param about: what opens each line
    :param total_inputs: inputs to do
    :param total_bytes: bytes of these; 0 when they say nothing about the work, as of compressed ones
    """

    def __init__(self, about: str, *, total_inputs: int, total_bytes: int) -> None:
        self._about = about
        self._total_inputs = total_inputs
        self._total_bytes = total_bytes
        self._began = self._told = time.monotonic()
        self._told_records = 0
        self.inputs = 0
        """Inputs that have ended."""
        self.records = 0
        """Records with a result."""
        self.records_failed = 0
        self.bytes = 0
        """Of the inputs, as far as their records are settled."""
        self.failures: list[Mapping[str, Any]] = []
        """The first rows of errors."""

    def failed(self, row: Mapping[str, Any], records: int) -> None:
        """Count records that failed."""
        self.records_failed += records
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(row)

    def tell(self, *, warm: int, loading: int, in_flight: int, bound: int) -> None:
        """Say how far it is, when it is time to."""
        now = time.monotonic()
        if now - self._told < _EVERY_SECONDS:
            return
        done = self.records + self.records_failed
        rate = (done - self._told_records) / (now - self._told)
        log.info(
            "%s: %d of %d inputs, %d records (%d failed), %.0f records/s; %d models warm, %d loading; %d of %d in "
            "flight; %s",
            self._about,
            self.inputs,
            self._total_inputs,
            done,
            self.records_failed,
            rate,
            warm,
            loading,
            in_flight,
            bound,
            self._left(now),
        )
        self._told, self._told_records = now, done

    def _left(self, now: float) -> str:
        if self._total_bytes:
            share = self.bytes / self._total_bytes
        else:
            share = self.inputs / self._total_inputs if self._total_inputs else 0.0
        if share <= 0:
            return "time left unknown"
        return f"about {in_words((now - self._began) * max(0.0, 1 - share) / share)} left"


def in_words(seconds: float) -> str:
    """Return a duration for people: ``"4 min 10 s"``."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
