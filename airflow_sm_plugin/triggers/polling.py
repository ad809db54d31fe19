"""The bases of our triggers: one terminal event on every path, and a loop that polls with one client."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin._safe_text import presentable, storable
from airflow_sm_plugin.aws.connection import AwsConnection, SharedSession
from airflow_sm_plugin.aws.errors import is_about_credentials, stumbles_as_botocore, translate
from airflow_sm_plugin.aws.hook import AwsHook, connecting
from airflow_sm_plugin.core.failed_polls import FailedPolls
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import SageMakerInferenceError, ServiceError

log = get_log(__name__)

SHORTEST_PAUSE = 0.05
"""Least seconds between two polls, near the deadline as well. Without it a trigger whose deadline has passed would poll
in a tight loop, and keep the triggerer's other triggers waiting."""


class OneEventTrigger(BaseTrigger):
    """A trigger that waits, then emits one event, also when the wait breaks.

    The class path and the arguments are stored in Airflow's database: they are public API.
    """

    aws: Mapping[str, Any]
    _has_ended = False
    _is_connection_logged = False

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the arguments, as JSON values."""

    @abstractmethod
    async def wait(self) -> dict[str, Any]:
        """Return the terminal event's payload."""

    def error_event(self, error: Exception) -> dict[str, Any]:
        """Make the event of a broken wait; the task raises an error of the same class."""
        name = type(error).__name__
        is_ours = isinstance(error, SageMakerInferenceError)
        message = str(error) if is_ours else f"{name}: {presentable(str(error))}"
        return {"status": "error", "error": name, "message": message}

    def new_connection(self) -> AwsConnection:
        """Make a connection with another session each time, since Airflow's may have changed; it is logged once."""
        connection = AwsConnection(**self.aws, shared=SharedSession(is_logged=self._is_connection_logged))
        self._is_connection_logged = True
        return connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    def __repr__(self) -> str:
        """Leave ``aws`` out, which may hold a proxy's password."""
        shown = {name: value for name, value in self.arguments().items() if name != "aws"}
        return f"<{type(self).__qualname__} {shown}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and emit exactly one event.

        The wait is a task of its own, since Airflow marks a kill by the message of the cancellation, which would get
        lost while a thread creates a client.
        """
        waiting = asyncio.ensure_future(self.wait())
        try:
            payload = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            raise
        except Exception as error:  # noqa: BLE001 - without an event the task would hang
            payload = self.error_event(error)
            log.warning("%s failed: %s", type(self).__name__, str(payload["message"]).replace("\n", ". "))
        self._has_ended = True
        yield TriggerEvent(storable(payload))

    async def event_here(self) -> dict[str, Any]:
        """Wait in the task's own process, as in the triggerer, and return the event."""
        self._is_connection_logged = True  # by the task
        payloads: list[dict[str, Any]] = [event.payload async for event in self.run()]
        return payloads[-1]


class PollingTrigger(OneEventTrigger):
    """A trigger that polls until a poll gives an event or the deadline passes.

    The pause comes first: the task has polled just before it deferred. Besides, a busy Airflow 3 fails a task whose
    trigger fires before the scheduler has noticed that the deferring process ended ("finished with state success, but
    the task instance's state attribute is queued", seen with 3.3.2).

    :param deadline: epoch seconds
    :param poll_interval: seconds between polls
    :param aws: :meth:`AwsConnection.as_mapping`
    """

    client_type: ClassVar[str]
    awaited: str
    """The awaited resource, for the log."""

    def __init__(self, *, deadline: float, poll_interval: float, aws: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow annotates only in part
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.aws = dict(aws)
        self._failed = FailedPolls()

    def arguments(self) -> dict[str, Any]:
        return {"deadline": self.deadline, "poll_interval": self.poll_interval, "aws": self.aws}

    @abstractmethod
    async def poll(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Poll once; return the terminal event's payload, or None to go on. ``now`` is in epoch seconds."""

    async def wait(self) -> dict[str, Any]:
        while True:  # once for each set of credentials
            async with AsyncExitStack() as stack:
                client = await self._client(stack)
                payload = None if client is None else await self._poll_until_over(client)
            if payload is not None:
                return payload

    async def _client(self, stack: AsyncExitStack) -> Any:  # noqa: ANN401 - an aiobotocore client
        """Open a client; None, after a pause, if that failed, as without credentials: it counts as a failed poll."""
        opening = asyncio.ensure_future(self._open_client(stack))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread that creates the client goes on, and only a client that was opened can be closed.
            await asyncio.gather(opening, return_exceptions=True)
            raise
        except (ClientError, BotoCoreError) as error:
            self._tolerate(error)
        await self._pause()
        return None

    async def _open_client(self, stack: AsyncExitStack) -> Any:  # noqa: ANN401 - an aiobotocore client
        hook = AwsHook(client_type=self.client_type, **self.new_connection().hook_arguments())
        with stumbles_as_botocore(), connecting():
            client: Any = await hook.get_async_conn()  # type: ignore[no-untyped-call]  # the provider's
            return await stack.enter_async_context(client)

    async def _poll_until_over(self, client: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Poll until there is an event; return None when a client with fresh credentials can help."""
        while True:
            await self._pause()
            try:
                with stumbles_as_botocore():
                    payload = await self.poll(client, now=time.time())
                self._failed = FailedPolls()
            except (ClientError, BotoCoreError, ServiceError) as error:
                self._tolerate(error)
                if is_about_credentials(error):
                    return None
                payload = None
            if payload is not None:
                return payload

    async def _pause(self) -> None:
        await asyncio.sleep(min(self.poll_interval, max(SHORTEST_PAUSE, self.deadline - time.time())))

    def _tolerate(self, error: ClientError | BotoCoreError | ServiceError) -> None:
        """Count a failed poll; raise its error, translated, if there were too many or no later poll can succeed."""
        doing = f"{plural(self._failed.in_a_row + 1, 'failed poll')} in a row"
        if isinstance(error, ServiceError):
            translated_error: SageMakerInferenceError = error.during(doing)
        else:
            translated_error = translate(error, doing)
        self._failed = self._failed.one_more(translated_error.reason or translated_error.as_sentence)
        if self._failed.end_the_wait(translated_error) or time.time() >= self.deadline:
            raise translated_error from None
        log.warning("the wait for %s goes on: %s", self.awaited, self._failed.in_words("SageMaker"))
