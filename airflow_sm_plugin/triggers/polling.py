"""The loop every trigger of ours shares: one client, one look after the other, one terminal event on every path."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.failed_looks import FailedLooks
from airflow_sm_plugin.core.safe_text import presentable, storable
from airflow_sm_plugin.exceptions import CredentialsExpired, SageMakerInferenceError, ServiceError
from airflow_sm_plugin.hooks.aws_hook import AwsHook
from airflow_sm_plugin.hooks.connection import AwsConnection
from airflow_sm_plugin.hooks.errors import cause_of, translate

log = get_log(__name__)

_SHORTEST_PAUSE = 0.05
GRACE_SECONDS = 120
"""How much later than the trigger's own deadline Airflow's deferral time-out comes: it is only the safety net."""


class PollingTrigger(BaseTrigger):
    """Look every ``poll_interval`` seconds until a look gives an event or the deadline (epoch seconds) passes.

    The pause comes first: the task has looked just before it deferred. Besides, a busy Airflow 3 fails a task whose
    trigger fires before the scheduler has noticed that the deferring process ended ("finished with state success, but
    the task instance's state attribute is queued", seen with 3.3.2).

    The class path and the arguments are stored in Airflow's database: they are public API. Arguments are JSON values.

    :param deadline: epoch seconds
    :param poll_interval: seconds between looks
    :param aws: :meth:`AwsConnection.as_mapping`
    """

    client_type: ClassVar[str]

    def __init__(self, *, deadline: float, poll_interval: float, aws: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow annotates only in part
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.aws = dict(aws)
        self._failed = FailedLooks()
        self._has_ended = False

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the subclass's own arguments."""

    @abstractmethod
    async def look(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Look once; return the terminal event's payload, or None to go on. ``now`` is in epoch seconds."""

    def error_event(self, error: Exception) -> dict[str, Any]:
        """Return the event of a wait that broke; the task makes an error of the same class of it."""
        name = type(error).__name__
        message = (
            str(error) if isinstance(error, SageMakerInferenceError) else f"{name}: {presentable(str(error))}"
        )
        return {"status": "error", "error": name, "message": message}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, for Airflow's database."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        shared = {"deadline": self.deadline, "poll_interval": self.poll_interval, "aws": self.aws}
        return path, self.arguments() | shared

    def __repr__(self) -> str:
        """Return what may be shown: ``aws`` may hold a proxy's password."""
        shown = {name: value for name, value in self.arguments().items() if name != "aws"}
        return f"<{type(self).__qualname__} {shown}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and emit exactly one event."""
        try:
            payload = await self._wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the task must learn of it instead of hanging
            payload = self.error_event(error)
            log.warning("%s failed: %s", type(self).__name__, payload["message"])
        self._has_ended = True
        yield TriggerEvent(storable(payload))

    async def _wait(self) -> dict[str, Any]:
        connection = AwsConnection(**self.aws)
        while True:  # once for each set of credentials
            hook = AwsHook(client_type=self.client_type, **connection.hook_arguments())
            async with await hook.get_async_conn() as client:  # type: ignore[no-untyped-call]  # the provider's
                payload = await self._poll(client)
            if payload is not None:
                return payload

    async def _poll(self, client: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Look until there is an event; return None when the client's credentials have expired."""
        while True:
            await asyncio.sleep(min(self.poll_interval, max(_SHORTEST_PAUSE, self.deadline - time.time())))
            try:
                payload = await self.look(client, now=time.time())
                self._failed = FailedLooks()
            except (ClientError, BotoCoreError, ServiceError) as error:
                self._failed = self._failed.one_more()
                if isinstance(self._tolerated(error), CredentialsExpired):
                    return None
                payload = None
            if payload is not None:
                return payload

    def _tolerated(self, error: ClientError | BotoCoreError | ServiceError) -> SageMakerInferenceError:
        """Return our error, or raise it as :mod:`airflow_sm_plugin.core.failed_looks` says."""
        doing = f"{type(self).__name__}, {self._failed.in_a_row} failed looks in a row"
        ours = (
            type(error)(f"{doing}: {error}") if isinstance(error, ServiceError) else translate(error, doing)
        )
        if self._failed.end_the_wait(ours) or time.time() >= self.deadline:
            raise ours from cause_of(error)
        log.info("tolerated: %s", ours)
        return ours
