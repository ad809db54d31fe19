"""The call log: what clients asked, what was answered, and whether it had an effect. No bodies, no secrets."""

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
"""Calls remembered; older ones are forgotten and counted."""


@dataclass(frozen=True)
class Call:
    """One call, as ``GET /_embedded/calls`` shows it.

    :param sequence: counts from 1 in the order in which calls ended, until a reset
    :param status: HTTP status, None when nothing was carried out or answered; of a lost answer what it was
    :param error: error code, None when there was none (or, from moto, it is not known)
    :param effect: whether something was changed: carried out with success, and not a call that only reads
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
        """Forget the calls; the sequence goes on."""
        with self._lock:
            self._calls.clear()
            self._forgotten = 0

    def calls(
        self, *, since: int = 0, service: str | None = None, operation: str = "*", resource: str = "*"
    ) -> list[Call]:
        """Return the calls in order.

        :param since: leave out this sequence number and those before it
        :param service: glob; None: SageMaker and its runtime
        :param resource: glob; ``*`` also finds calls about nothing that has a name
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
        """Return the calls, the newest sequence number, and how many calls were forgotten, for JSON."""
        found = self.calls(**filters)
        with self._lock:
            return {
                "calls": [{**vars(call), "time": call.time.isoformat()} for call in found],
                "sequence": self._sequence,
                "forgotten": self._forgotten,
            }
