"""The invocations that a sensor awaits: one or many, as invoke tasks leave them on XCom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.template_values import parsed
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation


@dataclass(frozen=True)
class AwaitedInvocations:
    """Invocations in the order they were given.

    :param endpoints: the endpoint's name of each, None where it is unknown
    :param is_one: whether a single invocation was given, not a list
    """

    invocations: tuple[AsyncInvocation, ...]
    endpoints: tuple[str | None, ...]
    is_one: bool

    @classmethod
    def read(cls, value: object) -> AwaitedInvocations:
        """Read one invocation or many, as they are or as text that a template made of them.

        :raises InvalidRequest: something else, or nothing at all
        """
        given = _of_text(value)
        items = [given] if isinstance(given, Mapping) else [_of_text(item) for item in _listed(given)]
        if not items:
            raise InvalidRequest("there is no invocation to wait for: the list is empty")
        for item in items:
            if not isinstance(item, Mapping):
                raise InvalidRequest(
                    f"an invocation is a mapping with output_location, not {type(item).__name__}"
                )
        mappings = [item for item in items if isinstance(item, Mapping)]
        return cls(
            tuple(AsyncInvocation.from_mapping(item) for item in mappings),
            tuple(item.get("endpoint_name") or None for item in mappings),
            is_one=isinstance(given, Mapping),
        )

    def deadlines(self, *, first_poll: float, seconds: float) -> tuple[float, ...]:
        """Return each invocation's deadline in epoch seconds: counted from its submission where that is known."""
        submitted = (invocation.submitted_at for invocation in self.invocations)
        return tuple((first_poll if start is None else start) + seconds for start in submitted)

    def endpoints_of(self, indices: Collection[int]) -> list[str]:
        """Return the known endpoints of some invocations, each once."""
        return list(dict.fromkeys(name for index in indices if (name := self.endpoints[index])))

    def collected(
        self, *, failed: Sequence[int], timed_out: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Any]:
        """Return the outcome of all, with JSON values.

        :param texts: of the failures, at least one for each
        """
        unsuccessful = {*failed, *timed_out}
        return {
            "succeeded": [
                invocation.output_location
                for index, invocation in enumerate(self.invocations)
                if index not in unsuccessful
            ],
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
    """Return the mapping or list that a text spells; anything else stays as it is."""
    spelled = parsed(value)
    return spelled if isinstance(spelled, Mapping | Sequence) else value


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise InvalidRequest(
            f"invocations must be what an invoke task returned, a list of it, or JSON or Python text of either, not "
            f"{value!r:.80}: pass that task's output"
        )
    return list(value)
