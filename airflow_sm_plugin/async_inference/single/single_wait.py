"""What a wait for one asynchronous invocation remembers from deferral to deferral."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.async_inference.outcome import AsyncInvocation
from airflow_sm_plugin.batches.task_try import TaskTry


@dataclass(frozen=True, kw_only=True)
class SingleWait:
    """One invocation that is waited for.

    :param deadline: epoch seconds after which no result is expected any more
    :param state: ``s3://bucket/prefix/`` below which lies what was sent; None where nothing is remembered
    :param task_try: the try that waits
    """

    invocation: AsyncInvocation
    deadline: float
    state: str | None
    task_try: TaskTry

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        return {
            "invocation": self.invocation.as_mapping(),
            "deadline": self.deadline,
            "state": self.state,
            "try": self.task_try.as_list(),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> SingleWait:
        """Read what :meth:`as_mapping` wrote, also of an earlier version, which knew the try's number alone."""
        written_by = value.get("try", [None, value.get("try_number")])
        return cls(
            invocation=AsyncInvocation.from_mapping(value["invocation"]),
            deadline=float(value["deadline"]),
            state=value["state"],
            task_try=TaskTry.from_list(written_by),
        )
