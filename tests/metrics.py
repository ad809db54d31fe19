"""Airflow's statistics, received by the backend that a test gives to Airflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_sm_plugin._compat import stats


class Metrics:
    """A backend of Airflow's statistics, as StatsD's client is one."""

    def __init__(self) -> None:
        self._counts: list[tuple[str, int, Mapping[str, str]]] = []
        self.timings: list[tuple[str, float, Mapping[str, str]]] = []

    def incr(self, stat: str, count: int = 1, *, tags: Mapping[str, str] | None = None, **_: Any) -> None:  # noqa: ANN401 - the protocol's
        self._counts.append((stat, count, dict(tags or {})))

    def timing(self, stat: str, dt: float, *, tags: Mapping[str, str] | None = None, **_: Any) -> None:  # noqa: ANN401 - the protocol's
        self.timings.append((stat, dt, dict(tags or {})))

    def counts(self, tags: Mapping[str, str]) -> Counter[str]:
        """Return the counters that have exactly these tags."""
        found: Counter[str] = Counter()
        for stat, count, given in self._counts:
            if given == tags:
                found[stat] += count
        return found

    @contextmanager
    def installed(self) -> Iterator[Metrics]:
        """Be the backend of the installed Airflow."""
        kind = stats()
        if hasattr(kind, "factory"):  # before Airflow 3.2
            before, kind.instance = kind.instance, self
            yield self
            kind.instance = before
        else:
            kind.initialize(factory=lambda: self, export_legacy_names=False)
            yield self
            kind.initialize(factory=None, export_legacy_names=True)
