"""The invocations that a sensor was given: one or many, as invoke tasks leave them on XCom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.async_inference.outcome import deadline_of
from airflow_sm_plugin.core.template_values import parsed
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation


@dataclass(frozen=True)
class AwaitedInvocations:
    """What is waited for, in the order it was given.

    :param endpoints: the endpoint's name of each, None where nobody wrote it down
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
        found = [given] if isinstance(given, Mapping) else [_of_text(item) for item in _iterable(given)]
        if not found:
            raise InvalidRequest("there is no invocation to wait for: the list is empty")
        for item in found:
            if not isinstance(item, Mapping):
                raise InvalidRequest(
                    f"an invocation is a mapping with output_location, not {type(item).__name__}"
                )
        mappings = [item for item in found if isinstance(item, Mapping)]
        return cls(
            tuple(AsyncInvocation.from_mapping(item) for item in mappings),
            tuple(item.get("endpoint_name") or None for item in mappings),
            is_one=isinstance(given, Mapping),
        )

    def deadlines(self, *, first_look: float, seconds: float) -> tuple[float, ...]:
        """Return each invocation's deadline, in epoch seconds."""
        return tuple(deadline_of(one, first_look=first_look, seconds=seconds) for one in self.invocations)

    def endpoints_of(self, numbers: Sequence[int]) -> list[str]:
        """Return the endpoints that are known of some invocations, each once."""
        return list(dict.fromkeys(name for number in numbers if (name := self.endpoints[number])))

    def collected(
        self, *, failed: Sequence[int], timed_out: Sequence[int], texts: Sequence[str]
    ) -> dict[str, Any]:
        """Return what became of all, with JSON values.

        :param texts: of the failures, at least one for each
        """
        some, late = ([self.invocations[number] for number in numbers] for numbers in (failed, timed_out))
        bad = {*failed, *timed_out}
        return {
            "succeeded": [
                one.output_location for number, one in enumerate(self.invocations) if number not in bad
            ],
            "failed": [
                {
                    "input": one.input_location,
                    "inference_id": one.inference_id,
                    "failure_location": one.failure_location,
                    "error": text,
                }
                for one, text in zip(some, texts, strict=False)
            ],
            "timed_out": [
                {
                    "input": one.input_location,
                    "inference_id": one.inference_id,
                    "output_location": one.output_location,
                }
                for one in late
            ],
        }


def _of_text(value: object) -> object:
    """Return the mapping or list that a text spells; anything else stays as it is."""
    found = parsed(value)
    return found if isinstance(found, Mapping | Sequence) else value


def _iterable(value: object) -> Sequence[object]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise InvalidRequest(
            f"invocations must be what an invoke task returned, a list of it, or JSON or Python text of either, not "
            f"{value!r:.80}: pass that task's output"
        )
    return list(value)
