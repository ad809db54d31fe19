"""Wait for the results of asynchronous invocations."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin.core.async_wait import AsyncWait, deadlines_of, read_invocations
from airflow_sm_plugin.hooks.result_store import look
from airflow_sm_plugin.triggers.polling import PollingTrigger

_LOOKS_AT_ONCE = 8


class AsyncInferenceTrigger(PollingTrigger):
    """Look for output and failure objects of what is still pending; end when nothing is.

    :param invocations: :meth:`AsyncInvocation.as_mapping` of each
    :param first_look: epoch seconds from which deadlines count where submission is not known
    :param seconds: each invocation's deadline, counted from its submission
    """

    client_type = "s3"

    def __init__(
        self,
        *,
        invocations: Sequence[Mapping[str, Any]],
        first_look: float,
        seconds: float,
        deadline: float,
        poll_interval: float,
        aws: Mapping[str, Any],
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, aws=aws)
        self.invocations = [dict(invocation) for invocation in invocations]
        self.first_look = first_look
        self.seconds = seconds
        self._parsed = read_invocations(self.invocations)
        self._deadlines = deadlines_of(self._parsed, first_look=first_look, seconds=seconds)
        self._wait_state = AsyncWait.begin(len(self._parsed))

    def arguments(self) -> dict[str, Any]:
        """Return the arguments beside those of every trigger."""
        return {"invocations": self.invocations, "first_look": self.first_look, "seconds": self.seconds}

    async def look(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Look at everything pending, a few objects at a time."""
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look_at(number: int) -> tuple[int, Any]:
            async with slots:
                return number, await look(client, self._parsed[number])

        looks = dict(await asyncio.gather(*(look_at(number) for number in self._wait_state.pending)))
        self._wait_state = self._wait_state.after(looks, now=now, deadlines=self._deadlines)
        return {"status": "over", **self._wait_state.event()} if self._wait_state.over else None
