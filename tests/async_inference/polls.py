"""An S3 in memory that carries out what a look asks for, counts it, and fails as told."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_sm_plugin.async_inference.poll import HeadRequest, ListRequest, Looking, Request
from airflow_sm_plugin.async_inference.watch import Watch
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.core.s3 import Presence

PAGE = 1_000


@dataclass
class MemoryS3:
    """Locations that exist; ``trouble`` says how a request fails, None where it does not."""

    locations: set[str] = field(default_factory=set)
    trouble: Callable[[Request], Presence | None] = lambda _: None
    asked: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    _sorted: list[str] = field(default_factory=list)

    def put(self, *locations: str) -> None:
        """Have these from now on."""
        self.locations.update(locations)
        self._sorted = sorted(self.locations)

    def keys(self, bucket: str, prefix: str, after: str) -> tuple[list[str], bool]:
        """Return one page of keys, and whether more follow."""
        start = f"s3://{bucket}/"
        at = max(
            bisect.bisect_left(self._sorted, start + prefix), bisect.bisect_right(self._sorted, start + after)
        )
        found = [one for one in self._sorted[at : at + PAGE + 1] if one.startswith(start + prefix)]
        return [one.removeprefix(start) for one in found[:PAGE]], len(found) > PAGE

    def look(self, watch: Watch, state: WatchState, *, now: float, thorough: bool = False) -> WatchState:
        """Carry out one look."""
        looking = Looking(watch, state, now=now, thorough=thorough)
        for _ in range(20):
            requests = looking.next_requests()
            if not requests:
                return looking.finish()
            self._carry_out(requests, looking)
        raise AssertionError("a look never ends")

    def _carry_out(self, requests: Iterable[Request], looking: Looking) -> None:
        for request in requests:
            trouble = self.trouble(request)
            if isinstance(request, HeadRequest):
                self.asked[f"head {request.which.value}"] += 1
                seen = Presence.PRESENT if request.location in self.locations else Presence.ABSENT
                looking.headed(request, trouble or seen)
            else:
                self._list(request, trouble, looking)

    def _list(self, request: ListRequest, trouble: Presence | None, looking: Looking) -> None:
        after, pages, complete = request.start_after, 0, False
        while trouble is None and not complete and pages < request.max_pages:
            keys, more = self.keys(request.bucket, request.prefix, after)
            self.asked[f"list {request.which.value}"] += 1
            looking.saw(request, keys)
            pages += 1
            complete = not more or keys[-1] >= request.last
            after = keys[-1] if keys else after
        looking.listed(request, trouble or Presence.PRESENT, pages=pages, complete=complete)
