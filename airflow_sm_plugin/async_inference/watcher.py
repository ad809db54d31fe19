"""Look at many asynchronous results in S3: a page of a listing for a thousand of them, where that is cheaper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.poll import HeadRequest, ListRequest, Looking, Request, Which
from airflow_sm_plugin.async_inference.watch import Watch
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.s3 import Presence, S3Uri
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InferenceError,
    RequestRefused,
    ServiceError,
)

log = get_log(__name__)

_T = TypeVar("_T")

LISTINGS_AT_ONCE = 2
"""Of one look: reading a page takes some milliseconds, and what arrives together is read in one turn of the loop."""

HEADS_AT_ONCE = 8


class ResultWatcher:
    """Carry out looks at a watch over S3's open connections. It keeps nothing: the state is the caller's."""

    def __init__(self, s3: S3Objects) -> None:
        self._s3 = s3
        self._said: set[str] = set()

    async def look(
        self, watch: Watch, state: WatchState, *, now: float, thorough: bool = False
    ) -> WatchState:
        """Look once.

        A failed look is no error: ``state.failed`` counts it.

        :param now: epoch seconds
        :param thorough: look at everything that is missing, whatever it costs: what comes after a wait
        :raises RequestRefused: outputs can never be there: their bucket does not exist
        :raises SageMakerInferenceError: no look can succeed: no credentials, no region
        """
        looking = Looking(watch, state, now=now, thorough=thorough)
        while requests := looking.next_requests():
            listings = [request for request in requests if isinstance(request, ListRequest)]
            heads = [request for request in requests if isinstance(request, HeadRequest)]
            await self._carry_out(listings, looking, at_once=LISTINGS_AT_ONCE)
            await self._carry_out(heads, looking, at_once=HEADS_AT_ONCE)
        return looking.finish()

    async def _carry_out(self, requests: Sequence[Request], looking: Looking, *, at_once: int) -> None:
        left = iter(requests)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(at_once, len(requests))):
                    workers.create_task(self._work(left, looking))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, left: Iterator[Request], looking: Looking) -> None:
        for request in left:
            if isinstance(request, HeadRequest):
                looking.headed(request, await self._s3.sight(request.location))
            else:
                await self._list(request, looking)

    async def _list(self, request: ListRequest, looking: Looking) -> None:
        start, pages, answer, complete = request.start_after, 0, Presence.PRESENT, False
        while not complete and pages < request.max_pages:
            try:
                page = await self._s3.list_names(request.bucket, request.prefix, start_after=start)
            except ServiceError as error:
                answer = self._why_not(request, error)
                break
            await asyncio.sleep(0)  # reading it was enough for one turn of the triggerer's loop
            looking.saw(request, page.names)
            pages += 1
            complete = page.next_start_after is None or page.next_start_after >= request.last
            start = page.next_start_after or start
        looking.listed(request, answer, pages=pages, complete=complete)

    def _why_not(self, request: ListRequest, error: ServiceError) -> Presence:
        """Say what a listing that failed tells; raise when no look can succeed."""
        if error.retryable:
            log.info("a failed look: %s", error)
            return Presence.UNKNOWN
        if isinstance(error, RequestRefused) and request.which is Which.OUTPUTS:
            raise error
        if isinstance(error, AccessDenied) or request.which is Which.FAILURES:
            self._warn_once(
                "s3://%s/%s cannot be listed, so every result is asked for by itself, which is slow and dear: allow "
                "s3:ListBucket to the task's and the triggerer's role (%s)",
                request,
                error,
            )
            return Presence.FORBIDDEN
        raise error

    def _warn_once(self, text: str, request: ListRequest, error: ServiceError) -> None:
        if request.bucket not in self._said:
            self._said.add(request.bucket)
            log.warning(text, request.bucket, request.prefix, error)

    async def failure_text(self, location: str | None, *, limit: int) -> str:
        """Return the beginning of a failure object for an error's text; it never raises for S3's sake.

        :param limit: bytes; 0 reads nothing
        """
        if not limit or location is None:
            return "see its failure object"
        try:
            body = await self._s3.read(location, first_bytes=limit + 4)
        except (ServiceError, InferenceError) as error:
            return f"its failure object could not be read: {error}"
        shown = body[:limit].decode(errors="replace" if len(body) <= limit else "ignore")
        return shown if len(body) <= limit else f"{shown}…"

    async def trouble_at(self, location: str) -> str:
        """Ask once with a listing, and say what keeps S3 from telling of a place; empty when nothing does."""
        uri = S3Uri.parse(location)
        try:
            await self._s3.list_names(uri.bucket, uri.key)
        except ServiceError as error:
            return str(error)
        return ""


class BlockingWatcher:
    """The same for a task without an event loop: what is opened stays open, inside of :meth:`opened`."""

    def __init__(self, connection: AwsConnection) -> None:
        self._connection = connection
        self._loop: asyncio.Runner | None = None
        self._s3: S3Objects | None = None
        self._stack = AsyncExitStack()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep connections open for the block, from the first look on; inside of another one it does nothing."""
        if self._loop is not None:
            yield
            return
        with asyncio.Runner() as loop:
            self._stack = AsyncExitStack()
            try:
                self._loop = loop
                yield
            finally:
                self._loop = self._s3 = None
                loop.run(self._stack.aclose())

    def look(self, watch: Watch, state: WatchState, *, now: float, thorough: bool = False) -> WatchState:
        """Look once, as :meth:`ResultWatcher.look`; that connections cannot be opened now is a failed look as well."""
        try:
            return self._run(lambda s3: ResultWatcher(s3).look(watch, state, now=now, thorough=thorough))
        except ServiceError as error:
            if not error.retryable:
                raise
            log.info("a failed look: %s", error)
            return replace(state, looks=state.looks + 1, failed=state.failed.one_more())

    def failure_texts(self, locations: Sequence[str | None], *, limit: int) -> list[str]:
        """Return the beginnings of failure objects, as :meth:`ResultWatcher.failure_text`."""

        async def read(s3: S3Objects) -> list[str]:
            watcher, slots = ResultWatcher(s3), asyncio.Semaphore(HEADS_AT_ONCE)

            async def one(location: str | None) -> str:
                async with slots:
                    return await watcher.failure_text(location, limit=limit)

            return await asyncio.gather(*map(one, locations))

        return self._run(read)

    def trouble_at(self, location: str) -> str:
        """Say what keeps S3 from telling of a place, as :meth:`ResultWatcher.trouble_at`."""
        try:
            return self._run(lambda s3: ResultWatcher(s3).trouble_at(location))
        except ServiceError as error:
            return str(error)

    def write(self, location: str, body: bytes) -> None:
        """Write an object, as :meth:`S3Objects.write`."""
        self._run(lambda s3: s3.write(location, body))

    def _run(self, work: Callable[[S3Objects], Coroutine[object, object, _T]]) -> _T:
        with self.opened():
            if self._loop is None:
                raise RuntimeError("S3 is not open")
            if self._s3 is None:
                opening = S3Objects.open(self._connection)
                self._s3 = self._loop.run(self._stack.enter_async_context(opening))
            return self._loop.run(work(self._s3))
