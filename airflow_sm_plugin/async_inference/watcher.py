"""Poll S3 for many asynchronous results over open connections, from an event loop or from a blocking task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.poll import HeadRequest, ListRequest, Poll, Request
from airflow_sm_plugin.async_inference.watch import AwaitedResults, ObjectKind
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.s3 import Presence, S3Uri
from airflow_sm_plugin.exceptions import AccessDenied, InferenceError, RequestRefused, ServiceError

log = get_log(__name__)

_T = TypeVar("_T")

LISTINGS_AT_ONCE = 2
"""Reading a full page takes 2.4 ms of CPU (``bench_async_wait.py``), and pages that arrive together are read without a
pause: more than two would keep the triggerer's other triggers waiting for longer than 5 ms."""

HEADS_AT_ONCE = 8
"""Fewer than botocore's default of 10 connections, so that none of them waits for one."""


class ResultWatcher:
    """A poller of awaited results over open connections to S3. The caller keeps the state."""

    def __init__(self, s3: S3Objects) -> None:
        self._s3 = s3
        self._warned: set[str] = set()
        self._cause = ""

    async def poll(
        self, watch: AwaitedResults, state: WatchState, *, now: float, thorough: bool = False
    ) -> WatchState:
        """Poll once. A failed poll is no error: ``state.failed`` counts it.

        :param now: epoch seconds
        :param thorough: ask for everything that is missing, whatever it costs: at the end of a wait
        :raises RequestRefused: outputs can never exist: their bucket does not
        :raises SageMakerInferenceError: no poll can succeed: no credentials, no region
        """
        self._cause = self._s3.last_problem = ""
        poll = Poll(watch, state, now=now, thorough=thorough)
        while requests := poll.next_requests():
            listings = [request for request in requests if isinstance(request, ListRequest)]
            heads = [request for request in requests if isinstance(request, HeadRequest)]
            await self._carry_out(listings, poll, at_once=LISTINGS_AT_ONCE)
            await self._carry_out(heads, poll, at_once=HEADS_AT_ONCE)
        polled = poll.finish()
        if not polled.failed.in_a_row:
            return polled
        return replace(polled, failed=replace(polled.failed, cause=self._cause or self._s3.last_problem))

    async def _carry_out(self, requests: Sequence[Request], poll: Poll, *, at_once: int) -> None:
        queued = iter(requests)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(at_once, len(requests))):
                    workers.create_task(self._work(queued, poll))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, queued: Iterator[Request], poll: Poll) -> None:
        for request in queued:
            if isinstance(request, HeadRequest):
                poll.report_head(request, await self._s3.presence(request.location))
            else:
                await self._list(request, poll)

    async def _list(self, request: ListRequest, poll: Poll) -> None:
        start, answer = request.next_start(), Presence.PRESENT
        for _ in range(request.max_pages):
            try:
                page = await self._s3.list_names(request.bucket, request.prefix, start_after=start or "")
            except ServiceError as error:
                answer = self._answer_of(error, request)
                break
            await asyncio.sleep(0)  # after each page the triggerer's other triggers can run
            poll.report_page(request, page.names)
            start = page.next_start_after and request.next_start(page.next_start_after)
            if start is None:
                break
        poll.report_listing(request, answer, next_start=start)

    def _answer_of(self, error: ServiceError, request: ListRequest) -> Presence:
        """Judge a failed listing; raise its error when no poll can succeed."""
        if error.retryable:
            self._cause = error.reason or error.as_sentence
            return Presence.UNKNOWN
        if isinstance(error, RequestRefused) and request.kind is ObjectKind.OUTPUTS:
            raise error
        if isinstance(error, AccessDenied) or request.kind is ObjectKind.FAILURES:
            if request.bucket not in self._warned:
                self._warned.add(request.bucket)
                log.warning(
                    "s3://%s/%s cannot be listed, so every result is asked for by itself, which is slow and dear: "
                    "allow s3:ListBucket to the task's and the triggerer's role (%s)",
                    request.bucket,
                    request.prefix,
                    error,
                )
            return Presence.FORBIDDEN
        raise error

    async def failure_text(self, location: str | None, *, limit: int) -> str:
        """Read the beginning of a failure object for an error's text; an error of S3 becomes part of the text.

        :param limit: bytes; 0 reads nothing
        """
        if not limit or location is None:
            return "see its failure object"
        try:
            body = await self._s3.read(location, first_bytes=limit + 4)
        except (ServiceError, InferenceError) as error:
            return f"its failure object could not be read: {error.as_sentence}"
        shown = body[:limit].decode(errors="replace" if len(body) <= limit else "ignore")
        return shown if len(body) <= limit else f"{shown}…"

    async def trouble_at(self, location: str) -> str:
        """List a location once; return S3's error, empty when there is none."""
        uri = S3Uri.parse(location)
        try:
            await self._s3.list_names(uri.bucket, uri.key)
        except ServiceError as error:
            return error.as_sentence
        return ""


class BlockingWatcher:
    """A :class:`ResultWatcher` for tasks without an event loop; connections stay open inside of :meth:`opened`."""

    def __init__(self, connection: AwsConnection) -> None:
        self._connection = connection
        self._loop: asyncio.Runner | None = None
        self._s3: S3Objects | None = None
        self._stack = AsyncExitStack()

    @contextmanager
    def opened(self) -> Iterator[asyncio.Runner]:
        """Keep connections open for the block, from the first poll on; an inner block shares the outer one's."""
        if self._loop is not None:
            yield self._loop
            return
        with asyncio.Runner() as loop:
            self._stack = AsyncExitStack()
            try:
                self._loop = loop
                yield loop
            finally:
                self._loop = self._s3 = None
                loop.run(self._stack.aclose())

    def poll(
        self, watch: AwaitedResults, state: WatchState, *, now: float, thorough: bool = False
    ) -> WatchState:
        """Poll once, as :meth:`ResultWatcher.poll`; a connection that cannot be opened is a failed poll as well."""
        try:
            return self._run(lambda s3: ResultWatcher(s3).poll(watch, state, now=now, thorough=thorough))
        except ServiceError as error:
            if not error.retryable:
                raise
            failed = state.failed.one_more(error.reason or error.as_sentence)
            return replace(state, polls=state.polls + 1, failed=failed)

    def failure_texts(self, locations: Sequence[str | None], *, limit: int) -> list[str]:

        async def read_all(s3: S3Objects) -> list[str]:
            watcher = ResultWatcher(s3)
            return await side_by_side(
                lambda location: watcher.failure_text(location, limit=limit), locations, at_once=HEADS_AT_ONCE
            )

        return self._run(read_all)

    def trouble_at(self, location: str) -> str:
        try:
            return self._run(lambda s3: ResultWatcher(s3).trouble_at(location))
        except ServiceError as error:
            return error.as_sentence

    def write(self, location: str, body: bytes) -> None:
        self._run(lambda s3: s3.write(location, body))

    def _run(self, work: Callable[[S3Objects], Coroutine[object, object, _T]]) -> _T:
        with self.opened() as loop:
            if self._s3 is None:
                opening = S3Objects.open(self._connection)
                self._s3 = loop.run(self._stack.enter_async_context(opening))
            return loop.run(work(self._s3))
