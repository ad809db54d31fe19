"""The invocations that a sensor awaits: one or many, as the XComs of invoke tasks have them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.template_values import parsed
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation


@dataclass(frozen=True)
class AwaitedInvocations:
    """Invocations in the order they were given, with their endpoints' names where these are known."""

    invocations: tuple[AsyncInvocation, ...]
    endpoints: tuple[str | None, ...]
    is_one: bool

    @classmethod
    def read(cls, value: object) -> AwaitedInvocations:
        """Read one invocation or many, as they are or as text that a template made of them.

        :raises InvalidRequest: another value, or an empty list
        """
        given = _of_text(value)
        mappings = [_mapping(item) for item in ([given] if isinstance(given, Mapping) else _listed(given))]
        if not mappings:
            raise InvalidRequest("there is no invocation to wait for: the list is empty")
        return cls(
            tuple(AsyncInvocation.from_mapping(item) for item in mappings),
            tuple(item.get("endpoint_name") or None for item in mappings),
            is_one=isinstance(given, Mapping),
        )

    def deadlines(self, *, first_poll: float, seconds: float) -> tuple[float, ...]:
        """Compute each deadline in epoch seconds, from the submission where that is known."""
        submitted = (invocation.submitted_at for invocation in self.invocations)
        return tuple((first_poll if start is None else start) + seconds for start in submitted)

    def endpoints_of(self, indices: Collection[int]) -> list[str]:
        return list(dict.fromkeys(name for index in indices if (name := self.endpoints[index])))

    def collected(
        self, *, failed: Sequence[int], timed_out: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Any]:
        """List the outcomes of all, with JSON values.

        :param texts: of the failures, at least one for each
        """
        unsuccessful = {*failed, *timed_out}
        outputs = [invocation.output_location for invocation in self.invocations]
        return {
            "succeeded": [output for index, output in enumerate(outputs) if index not in unsuccessful],
            "failed": [
                self._described(index, "failure_location") | {"error": text}
                for index, text in zip(failed, texts, strict=False)
            ],
            "timed_out": [self._described(index, "output_location") for index in timed_out],
        }

    def _described(self, index: int, location: str) -> dict[str, str | None]:
        invocation = self.invocations[index]
        return {
            "input": invocation.input_location,
            "inference_id": invocation.inference_id,
            location: getattr(invocation, location),
        }


def _of_text(value: object) -> object:
    read = parsed(value)
    return read if isinstance(read, Mapping | Sequence) else value


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise InvalidRequest(
            f"invocations must be what an invoke task returned, a list of it, or JSON or Python text of either, not "
            f"{value!r:.80}: pass that task's output"
        )
    return list(value)


def _mapping(value: object) -> Mapping[str, Any]:
    item = _of_text(value)
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"an invocation is a mapping with output_location, not {type(item).__name__}")
    return item
