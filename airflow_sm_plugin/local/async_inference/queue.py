"""The queue of an asynchronous endpoint: which requests wait, run, or have expired.

A queue has a thread, which starts each request in a thread of its own, as far as the endpoint's capacity permits. The
capacity is read again each time: a queue outlives updates, and waits while there are no instances.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_sm_plugin.local.account.s3_objects import Location


@dataclass(frozen=True)
class Topics:
    """The SNS topics of an endpoint's results, and the messages that include the model's response."""

    success: str | None = None
    error: str | None = None
    included: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Invocation:
    """An accepted InvokeEndpointAsync.

    :param expires: end of its time in the queue, in seconds of the queue's clock
    :param invocation_timeout: seconds
    :param topics: NotificationConfig of the endpoint when the request was accepted
    """

    endpoint: str
    inference_id: str
    received: datetime.datetime
    expires: float
    invocation_timeout: float
    output: Location
    failure: Location | None
    input_location: str | None = None
    body: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = field(default=None, repr=False)
    kms_key_id: str | None = None
    topics: Topics = field(default_factory=Topics)


@dataclass(frozen=True)
class Backlog:
    """The values of the metrics that SageMaker publishes for scaling."""

    size: int
    instances: int

    @property
    def per_instance(self) -> float:
        """ApproximateBacklogSizePerInstance; the whole backlog when there is no instance."""
        return self.size / max(self.instances, 1)

    @property
    def without_capacity(self) -> bool:
        """HasBacklogWithoutCapacity: requests wait, and there is no instance."""
        return self.size > 0 and self.instances == 0


class AsyncQueue:
    """Requests in order of arrival. Thread-safe; ``run`` must be called in a thread of its own.

    :param capacity: how many invocations can run in parallel at the moment; called without a lock held
    :param start: runs an invocation in the background, and calls ``finished`` at its end
    :param expire: called with each request that waited longer than its TTL
    :param clock: seconds; the clock of ``Invocation.expires``
    """

    def __init__(
        self,
        *,
        capacity: Callable[[], int],
        start: Callable[[Invocation], None],
        expire: Callable[[Invocation], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._start = start
        self._expire = expire
        self._clock = clock
        self._changed = threading.Condition()
        self._changes = 0
        self._waiting: deque[Invocation] = deque()
        self._running = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Check whether the endpoint is deleted: then a running invocation must store and publish nothing."""
        return self._closed

    def put(self, invocation: Invocation) -> None:
        with self._changed:
            self._waiting.append(invocation)
            self._notify()

    def finished(self) -> None:
        with self._changed:
            self._running -= 1
            self._notify()

    def capacity_changed(self) -> None:
        with self._changed:
            self._notify()

    def size(self) -> int:
        with self._changed:
            return len(self._waiting) + self._running

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._notify()

    def run(self) -> None:
        while not self._closed:
            seen = self._changes
            if not self.step():
                self._wait_for_change(seen)

    def step(self) -> bool:
        """Expire and start the due requests; return whether there were any."""
        room = self._capacity()
        with self._changed:
            expired = self._take_expired()
            started = self._take(room)
        for invocation in expired:
            self._expire(invocation)
        for invocation in started:
            self._start(invocation)
        return bool(expired or started)

    def _take_expired(self) -> list[Invocation]:
        now = self._clock()
        expired = [invocation for invocation in self._waiting if invocation.expires <= now]
        if expired:
            self._waiting = deque(invocation for invocation in self._waiting if invocation.expires > now)
        return expired

    def _take(self, room: int) -> list[Invocation]:
        count = min(len(self._waiting), max(room - self._running, 0))
        self._running += count
        return [self._waiting.popleft() for _ in range(count)]

    def _wait_for_change(self, seen: int) -> None:
        with self._changed:
            if self._changes != seen or self._closed:
                return
            next_expiry = min((invocation.expires for invocation in self._waiting), default=None)
            self._changed.wait(None if next_expiry is None else max(next_expiry - self._clock(), 0))

    def _notify(self) -> None:
        self._changes += 1
        self._changed.notify_all()
