"""Work and waits that end when Airflow kills the task."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from airflow_sm_plugin.exceptions import TaskKilled

_Result = TypeVar("_Result")


class Killable:
    """Run coroutines until they end or ``on_kill`` is called: in a signal handler (SIGTERM), or by another thread.

    A killed task begins nothing new: whatever it runs next ends at once.
    """

    _is_killed = False
    _running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def on_kill(self) -> None:
        """Send nothing more, write down what is known, and end; a retry goes on from there."""
        self._is_killed = True
        if (running := self._running) is not None:
            loop, task = running
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                return  # the loop was closed meanwhile: what comes next finds the task killed

    def run_until_killed(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine in an event loop of its own, in a thread of its own.

        Airflow's time-outs, and Airflow 2's handler of SIGTERM, raise in the main thread wherever that is: in an event
        loop they would cut what is on its way. Here they only end the waiting, and the coroutine is cancelled.

        :raises TaskKilled: Airflow killed the task; the coroutine was cancelled, and has ended
        """
        if self._is_killed:
            work.close()
        self.check_not_killed()
        with ThreadPoolExecutor(max_workers=1) as thread:
            running: Future[_Result] | None = None
            try:
                running = thread.submit(contextvars.copy_context().run, asyncio.run, self._watched(work))
                return running.result()
            except BaseException:
                if running is None or not running.done():
                    Killable.on_kill(self)
                raise

    def pause(self, seconds: float) -> None:
        """Sleep.

        :raises TaskKilled: Airflow killed the task
        """
        self.run_until_killed(asyncio.sleep(seconds))

    def check_not_killed(self) -> None:
        """Stop before something new is begun.

        :raises TaskKilled: Airflow killed the task
        """
        if self._is_killed:
            raise TaskKilled(
                "the task was killed; what is known of requests that were sent is written down where there is a "
                "place for it, and a retry goes on from there"
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
