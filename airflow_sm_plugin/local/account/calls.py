"""The call log: each client's call, its status, and whether it had an effect. No bodies, no secrets."""

from __future__ import annotations

import datetime
import threading
from collections import deque
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from airflow_sm_plugin.local.protocol.call_names import CallName
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, RUNTIME

KEPT = 20_000
"""The log's length; older calls are dropped, and their number is reported."""


@dataclass(frozen=True)
class Call:
    """One call, as ``GET /_embedded/calls`` shows it.

    :param sequence: counts from 1 in the order in which calls ended, until a reset
    :param status: HTTP status, also of an answer that was dropped after the work; None when no work was done
    :param error: error code; None for a success, and for an error of moto without a code
    :param effect: whether the call succeeded, and is not one that only reads
    """

    sequence: int
    time: datetime.datetime
    service: str
    operation: str
    resource: str | None
    target_model: str | None
    region: str
    status: int | None
    error: str | None
    request_id: str
    fault: str | None
    effect: bool


class CallLog:
    """The last :data:`KEPT` calls. Thread-safe."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=kept)
        self._sequence = 0
        self._forgotten = 0

    def add(
        self,
        name: CallName,
        *,
        request_id: str,
        began: datetime.datetime,
        status: int | None,
        error: str | None,
        fault: str | None,
        carried_out: bool,
    ) -> None:
        if name.is_own:
            return
        effect = carried_out and status is not None and status < 400 and name.changes_something
        with self._lock:
            self._sequence += 1
            self._forgotten += len(self._calls) == self._calls.maxlen
            self._calls.append(
                Call(
                    sequence=self._sequence,
                    time=began,
                    service=name.service,
                    operation=name.operation,
                    resource=name.resource,
                    target_model=name.target_model,
                    region=name.region,
                    status=status,
                    error=error,
                    request_id=request_id,
                    fault=fault,
                    effect=effect,
                )
            )

    def clear(self) -> None:
        """Drop the calls; the sequence goes on."""
        with self._lock:
            self._calls.clear()
            self._forgotten = 0

    def calls(
        self, *, since: int = 0, service: str | None = None, operation: str = "*", resource: str = "*"
    ) -> list[Call]:
        """Select calls, in order.

        :param since: leave out this sequence number and those before it
        :param service: glob; None selects SageMaker and its runtime
        :param resource: glob; ``*`` also selects calls without a resource
        """
        with self._lock:
            newest = self._sequence
            calls = list(islice(reversed(self._calls), max(newest - since, 0)))
        services = {CONTROL_PLANE, RUNTIME}
        return [
            call
            for call in reversed(calls)
            if fnmatchcase(call.operation, operation)
            and (call.service in services if service is None else fnmatchcase(call.service, service))
            and (resource == "*" or fnmatchcase(call.resource or "", resource))
        ]

    def as_json(self, **filters: Any) -> dict[str, object]:  # noqa: ANN401 - those of calls()
        """Build the answer of ``/_embedded/calls``; ``forgotten`` counts the dropped calls."""
        calls = self.calls(**filters)
        with self._lock:
            return {
                "calls": [{**vars(call), "time": call.time.isoformat()} for call in calls],
                "sequence": self._sequence,
                "forgotten": self._forgotten,
            }
