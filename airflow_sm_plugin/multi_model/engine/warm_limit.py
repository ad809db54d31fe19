"""How many models may be warm at once: as told, or found by what the endpoint answers.

A model that had answered and says ModelNotReady again was evicted: the endpoint holds fewer models than are in use.
Until the first eviction the limit grows with each model that was loaded, as fast as they load; from then on it shrinks
by a quarter with each wave of evictions and grows by one after as many undisturbed models as it allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_sm_plugin.exceptions import InvalidRequest

_FIRST = 4
_CUT = 0.75


@dataclass(frozen=True, slots=True)
class WarmLimit:
    """A limit on models that are loading or warm. Made by :meth:`starting`; each method returns a new one.

    :param limit: how many there may be now
    :param fixed: whether the user said so
    """

    limit: int
    fixed: bool
    _settled: bool = False
    _undisturbed: int = 0

    @classmethod
    def starting(cls, max_warm_models: int | None) -> WarmLimit:
        """Return the limit to begin with.

        :param max_warm_models: None lets the limit be found
        :raises InvalidRequest: it is below 1
        """
        if max_warm_models is not None and max_warm_models < 1:
            raise InvalidRequest(f"max_warm_models must be 1 or more, not {max_warm_models}")
        return cls(max_warm_models or _FIRST, max_warm_models is not None)

    def loaded(self) -> WarmLimit:
        """Return the limit after a model was loaded for the first time."""
        if self.fixed or self._settled:
            return self
        return replace(self, limit=self.limit + 1)

    def finished(self) -> WarmLimit:
        """Return the limit after a model has done all its work."""
        if self.fixed or not self._settled:
            return self
        if self._undisturbed + 1 < self.limit:
            return replace(self, _undisturbed=self._undisturbed + 1)
        return replace(self, limit=self.limit + 1, _undisturbed=0)

    def evicted(self, active: int) -> WarmLimit:
        """Return the limit after a warm model was found evicted, or the endpoint had no memory left for one.

        :param active: how many models were loading or warm
        """
        if self.fixed:
            return self
        return replace(self, limit=max(1, min(self.limit, int(active * _CUT))), _settled=True, _undisturbed=0)
