"""An S3 in memory that carries out what a poll asks for, counts it, and fails on request."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_sm_plugin.async_inference.poll import HeadRequest, ListRequest, Poll, Request
from airflow_sm_plugin.async_inference.watch import AwaitedResults
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
        names = [name for name in self._sorted[at : at + PAGE + 1] if name.startswith(start + prefix)]
        return [name.removeprefix(start) for name in names[:PAGE]], len(names) > PAGE

    def poll(
        self, watch: AwaitedResults, state: WatchState, *, now: float, thorough: bool = False
    ) -> WatchState:
        """Carry out one poll."""
        poll = Poll(watch, state, now=now, thorough=thorough)
        for _ in range(20):
            requests = poll.next_requests()
            if not requests:
                return poll.finish()
            self._carry_out(requests, poll)
        raise AssertionError("a poll never ends")

    def _carry_out(self, requests: Iterable[Request], poll: Poll) -> None:
        for request in requests:
            trouble = self.trouble(request)
            if isinstance(request, HeadRequest):
                self.asked[f"head {request.kind.value}"] += 1
                seen = Presence.PRESENT if request.location in self.locations else Presence.ABSENT
                poll.report_head(request, trouble or seen)
            else:
                self._list(request, trouble, poll)

    def _list(self, request: ListRequest, trouble: Presence | None, poll: Poll) -> None:
        start, pages = request.next_start(), 0
        while trouble is None and start is not None and pages < request.max_pages:
            keys, more = self.keys(request.bucket, request.prefix, start)
            self.asked[f"list {request.kind.value}"] += 1
            poll.report_page(request, keys)
            pages += 1
            start = request.next_start(keys[-1]) if more else None
        poll.report_listing(request, trouble or Presence.PRESENT, next_start=start)
