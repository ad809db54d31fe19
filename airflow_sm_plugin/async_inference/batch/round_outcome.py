"""How the inputs of one round of an asynchronous batch ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.number_sets import from_ranges, to_ranges

_ENDS = ("succeeded", "failed", "expired")


@dataclass(frozen=True)
class RoundOutcome:
    """How the numbers of a round ended, as sets; what is in none of them was refused.

    :param reason: why the expired ones are not waited for any longer, where it is not the clock
    """

    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    reason: str | None = None

    @property
    def again(self) -> int:
        """What another round may bring to a good end."""
        return self.failed | self.expired

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        return {name: to_ranges(getattr(self, name)) for name in _ENDS} | {"reason": self.reason}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> RoundOutcome:
        """Read what :meth:`as_mapping` wrote."""
        succeeded, failed, expired = (from_ranges(value[name]) for name in _ENDS)
        return cls(succeeded, failed, expired, value["reason"])
