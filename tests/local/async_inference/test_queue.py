"""The queue of an asynchronous endpoint, with a clock of the test's own."""

from __future__ import annotations

import datetime
import threading

import pytest

from airflow_sm_plugin.local.account.s3_objects import Location
from airflow_sm_plugin.local.async_inference.queue import AsyncQueue, Backlog, Invocation


class Bench:
    """A queue whose clock, capacity and background are the test's."""

    def __init__(self, *, capacity: int) -> None:
        self.time = 0.0
        self.capacity = capacity
        self.started: list[str] = []
        self.expired: list[str] = []
        self.changed = threading.Condition()
        self.queue = AsyncQueue(
            capacity=lambda: self.capacity,
            start=lambda invocation: self._note(self.started, invocation),
            expire=lambda invocation: self._note(self.expired, invocation),
            clock=lambda: self.time,
        )

    def put(self, name: str, *, ttl: float = 60) -> None:
        self.queue.put(
            Invocation(
                endpoint="e",
                inference_id=name,
                received=datetime.datetime.now(datetime.UTC),
                expires=self.time + ttl,
                invocation_timeout=1,
                output=Location("bucket", name),
                failure=None,
            )
        )

    def _note(self, where: list[str], invocation: Invocation) -> None:
        with self.changed:
            where.append(invocation.inference_id)
            self.changed.notify_all()


def test_no_more_run_at_once_than_there_is_room_for_and_the_oldest_goes_first() -> None:
    bench = Bench(capacity=2)
    for name in "abc":
        bench.put(name)

    assert bench.queue.step()
    assert bench.started == ["a", "b"]
    assert not bench.queue.step()

    bench.queue.finished()
    assert bench.queue.step()
    assert bench.started == ["a", "b", "c"]


def test_what_waits_and_what_runs_is_the_backlog() -> None:
    bench = Bench(capacity=1)
    bench.put("a")
    bench.put("b")
    bench.queue.step()

    assert bench.queue.size() == 2
    bench.queue.finished()
    assert bench.queue.size() == 1


def test_without_instances_requests_wait_until_there_are_some() -> None:
    bench = Bench(capacity=0)
    bench.put("a")
    bench.queue.step()
    assert bench.started == []

    bench.capacity = 1
    bench.queue.step()
    assert bench.started == ["a"]


def test_a_request_that_waited_too_long_expires_and_a_running_one_does_not() -> None:
    bench = Bench(capacity=1)
    bench.put("running", ttl=60)
    bench.put("waiting", ttl=60)
    bench.put("patient", ttl=61)
    bench.queue.step()

    bench.time = 60
    assert bench.queue.step()

    assert bench.expired == ["waiting"]
    assert bench.queue.size() == 2


def test_the_thread_wakes_for_new_requests_for_room_and_at_its_close() -> None:
    bench = Bench(capacity=0)
    thread = threading.Thread(target=bench.queue.run)
    thread.start()
    try:
        bench.put("a")
        bench.capacity = 1
        bench.queue.capacity_changed()
        with bench.changed:
            assert bench.changed.wait_for(lambda: bench.started == ["a"], timeout=600)
        bench.put("b")
        bench.queue.finished()
        with bench.changed:
            assert bench.changed.wait_for(lambda: bench.started == ["a", "b"], timeout=600)
    finally:
        bench.queue.close()
        thread.join(timeout=600)
    assert not thread.is_alive()


def test_closing_drops_what_waits() -> None:
    bench = Bench(capacity=0)
    bench.put("a")

    bench.queue.close()

    assert bench.queue.closed
    assert bench.queue.size() == 0


@pytest.mark.parametrize(
    ("size", "instances", "per_instance", "without_capacity"),
    [(0, 0, 0, False), (6, 0, 6, True), (6, 2, 3, False), (0, 2, 0, False)],
)
def test_the_figures_for_scaling(
    size: int, instances: int, per_instance: float, without_capacity: bool
) -> None:
    backlog = Backlog(size=size, instances=instances)

    assert backlog.per_instance == per_instance
    assert backlog.without_capacity is without_capacity
