"""When a model, or the endpoint, counts as one that does not serve: many payloads failed, and none succeeded between.

Bad records may lie side by side, so before a conclusion payloads from elsewhere in the queue are tried.
"""

from __future__ import annotations

_EXHAUSTED = 20
"""Payloads that failed at every attempt, or that were all there was to try."""

_DENIED = 8
"""Payloads to which AWS said that there is no such endpoint, permission or artefact."""

_TRIALS = 3
"""Places of the queue from which payloads are tried: where they lie, halfway behind that, and halfway again."""

_OF_A_TRIAL = 4
"""Payloads of the second and third place that have to fail."""


class Evidence:
    """What has failed since the last success; payloads that were sent before it, and come again, prove nothing.

    Mutable and single-threaded, since it is asked after each failed invocation; it reads no clock.
    """

    __slots__ = ("_denied", "_exhausted", "_since", "_success", "_total", "trials", "unready")

    def __init__(self) -> None:
        self.clear(0.0)

    def clear(self, now: float) -> None:
        """Forget everything: a payload has succeeded."""
        self._exhausted = self._denied = self._total = 0
        self.trials = 0
        """How often payloads from elsewhere in the queue were to be tried first."""
        self._since = self._success = now
        self.unready = 0
        """Payloads that were told that the model is not loaded."""

    def exhausted(self, *, began: float) -> bool:
        """Count a payload that failed at every attempt; return whether there are enough of these.

        :param began: when it was sent first
        """
        self._exhausted += began >= self._since
        self._total += began >= self._success
        return max(self._exhausted, self._total) >= _EXHAUSTED

    def denied(self, *, began: float, first: bool) -> bool:
        """Count a payload that was denied; return whether there are enough of these.

        :param began: when it was sent first
        :param first: whether it was its first attempt
        """
        self._denied += first and began >= self._since
        self._total += first and began >= self._success
        return self._denied >= _DENIED or self._total >= _EXHAUSTED

    def is_late(self) -> bool:
        """Say whether enough payloads have found the model not loaded; they take turns in asking for it."""
        return self.unready >= _DENIED

    def concludes(self, now: float, *, can_try_others: bool) -> bool:
        """Say whether enough failed for a conclusion, or others from elsewhere in the queue have to be tried first.

        :param can_try_others: whether any was never tried
        """
        if not can_try_others:
            return self._total >= _EXHAUSTED
        if self._exhausted < _EXHAUSTED and self._denied < _DENIED:
            return False  # those of the trial have not ended yet
        self.trials += 1
        if self.trials >= _TRIALS:
            return True
        self._exhausted, self._denied = _EXHAUSTED - _OF_A_TRIAL, _DENIED - _OF_A_TRIAL
        self._since = now
        return False
