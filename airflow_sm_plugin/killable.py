"""Work and waits that end when Airflow kills the task."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from airflow_sm_plugin.exceptions import TaskKilled

_Result = TypeVar("_Result")


def quick_loop() -> asyncio.AbstractEventLoop:
    """Create an event loop of uvloop where that is installed, as with Airflow 3, else one of asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run(
    work: Coroutine[Any, Any, _Result], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> _Result:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(work)


class Killable:
    """Run coroutines until they end or ``on_kill`` is called, by a signal handler (SIGTERM) or by another thread.

    A killed task starts nothing new: each later coroutine ends at once.
    """

    _is_killed = False
    _running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def on_kill(self) -> None:
        """Cancel the running coroutine, which records its state for a retry, and start no other."""
        self._is_killed = True
        if (running := self._running) is not None:
            loop, task = running
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                return  # the loop was closed meanwhile; the next check raises TaskKilled

    def run_until_killed(
        self,
        work: Coroutine[Any, Any, _Result],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> _Result:
        """Run a coroutine in a separate event loop and thread.

        Airflow's time-outs, and Airflow 2's handler of SIGTERM, raise at any point of the main thread: in an event loop
        they would interrupt running requests. Here they interrupt the main thread's wait, which cancels the coroutine.

        :param loop_factory: creates the event loop, e.g. :func:`quick_loop`; None takes asyncio's own
        :raises TaskKilled: Airflow killed the task; the coroutine was cancelled, and has ended
        """
        if self._is_killed:
            work.close()
        self.check_not_killed()
        with ThreadPoolExecutor(max_workers=1) as thread:
            running: Future[_Result] | None = None
            try:
                watched = self._watched(work)
                running = thread.submit(contextvars.copy_context().run, _run, watched, loop_factory)
                return running.result()
            except BaseException:
                if running is None or not running.done():
                    Killable.on_kill(self)
                raise

    def pause(self, seconds: float) -> None:
        self.run_until_killed(asyncio.sleep(seconds))

    def check_not_killed(self) -> None:
        if self._is_killed:
            raise TaskKilled(
                "the task was killed; requests that were sent are recorded where the arguments give a location for "
                "that, and a retry goes on from there"
            )

    async def _watched(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        task = asyncio.ensure_future(work)
        self._running = (asyncio.get_running_loop(), task)
        if self._is_killed:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            self.check_not_killed()
            raise
        finally:
            self._running = None
