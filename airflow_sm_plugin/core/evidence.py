"""When a model, or the endpoint, counts as one that does not serve: many payloads failed, and none succeeded between.

Bad records may lie side by side, so before a conclusion payloads from elsewhere in the queue are tried.
"""

from __future__ import annotations

_EXHAUSTED = 20
"""Payloads in a row that failed at every attempt."""

_DENIED = 8
"""Payloads in a row to which AWS said that there is no such endpoint, permission or artefact, each counted once."""

_TRIALS = 3
"""Places of the queue from which payloads are tried: where they lie, halfway behind that, and halfway again."""


class Evidence:
    """What has failed since the last success.

    Mutable and single-threaded, since it is asked after each failed invocation; it reads no clock.
    """

    __slots__ = ("_denied", "_exhausted", "_since", "_trials", "unready")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: a payload has succeeded."""
        self._exhausted = self._denied = self._trials = 0
        self._since = 0.0
        self.unready = 0
        """Payloads that were told that the model is not loaded."""

    def exhausted(self, *, began: float) -> bool:
        """Count a payload that failed at every attempt; return whether there are enough of these.

        :param began: when it was sent first; one from before the trial that is under way proves nothing
        """
        self._exhausted += began >= self._since
        return self._exhausted >= _EXHAUSTED

    def denied(self, *, began: float, first: bool) -> bool:
        """Count a payload that was denied; return whether there are enough of these.

        :param began: as above
        :param first: whether it was its first attempt
        """
        self._denied += first and began >= self._since
        return self._denied >= _DENIED

    def is_late(self) -> bool:
        """Say whether enough payloads have found the model not loaded; they take turns in asking for it."""
        return self.unready >= _DENIED

    def concludes(self, now: float, *, can_try_others: bool) -> bool:
        """Say whether enough failed for a conclusion, or others from elsewhere in the queue have to be tried first.

        :param can_try_others: whether any was never tried; else each that is left comes to its own end
        """
        self._trials += can_try_others
        if self._trials >= _TRIALS or not can_try_others:
            return can_try_others
        self._exhausted = self._denied = 0
        self._since = now
        return False
