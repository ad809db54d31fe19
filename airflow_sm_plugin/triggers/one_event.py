"""What a trigger of ours is to Airflow: a class path and JSON arguments, and exactly one event on every path."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin._safe_text import presentable, storable
from airflow_sm_plugin.exceptions import SageMakerInferenceError

log = get_log(__name__)


class OneEventTrigger(BaseTrigger):
    """Wait, then emit one event, also when the wait breaks."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the arguments, as JSON values; with the class path they stand in Airflow's database: public API."""

    @abstractmethod
    async def wait(self) -> dict[str, Any]:
        """Return the terminal event's payload."""

    def error_event(self, error: Exception) -> dict[str, Any]:
        """Return the event of a wait that broke; the task makes an error of the same class of it."""
        name = type(error).__name__
        message = (
            str(error) if isinstance(error, SageMakerInferenceError) else f"{name}: {presentable(str(error))}"
        )
        return {"status": "error", "error": name, "message": message}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, for Airflow's database."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    def __repr__(self) -> str:
        """Return what may be shown: ``aws`` may hold a proxy's password."""
        shown = {name: value for name, value in self.arguments().items() if name != "aws"}
        return f"<{type(self).__qualname__} {shown}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and emit exactly one event."""
        try:
            payload = await self.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the task must learn of it instead of hanging
            payload = self.error_event(error)
            log.warning("%s failed: %s", type(self).__name__, payload["message"])
        yield TriggerEvent(storable(payload))
