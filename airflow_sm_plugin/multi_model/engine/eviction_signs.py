"""Detect evictions from the latency of loaded models: SageMaker holds a call while it loads a model.

It holds the call for up to a minute, and answers ModelNotReady only then. So an evicted model that is loaded again for
a call shows as one answer that takes about as long as a load, from a model that is quick otherwise. One such answer
proves nothing. Several models with such answers to calls that were sent after the limit of warm models last fell mean
that still too many models are warm.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

_MEMORY = 16
"""Answers over which a mean is taken."""

_LEAST_LOAD = 0.25
"""Seconds: a shorter load costs little, and cannot be distinguished from a slow answer."""

_OF_LOAD, _TIMES_LEAST = 0.5, 8.0
"""An answer is a sign when it takes this share of the quickest load, and so many times the quickest answer."""

_DOUBTS = 4
"""A model that gives so many signs, with no quick answer between them, is slow."""

_MODELS = 2

_QUICK = 0.5
"""Seconds: a model that becomes warm waits no longer for slots that a quick model has taken."""

_UNHURRIED = 2.0
"""A model that takes more than so many times its best has more to do than it can."""


@dataclass(slots=True, eq=False)
class LoadedLatency:
    """How long one loaded model takes, and how much more than its share it can bear. Times are seconds."""

    answers: int = 0
    usual: float | None = None
    """Mean of its recent answers."""
    best: float = inf
    """The lowest mean so far: that of a model without a backlog."""
    least: float = inf
    """The quickest answer."""
    doubts: int = 0
    window: int = 0
    """Payloads permitted in flight where the model's share is less: more while it answers as quickly as it can."""

    @property
    def is_slow(self) -> bool:
        """Whether it may keep others waiting for long."""
        return self.usual is None or self.usual >= _QUICK

    def answered(self, seconds: float) -> None:
        count = self.answers = min(self.answers + 1, _MEMORY)
        before = 0.0 if self.usual is None else self.usual
        self.usual = usual = before + (seconds - before) / count
        if count == _MEMORY and usual < self.best:
            self.best = usual
        self.least = min(self.least, seconds)
        self.doubts = 0
        if seconds < _QUICK and seconds <= _UNHURRIED * self.best:
            self.window += 1
        elif self.window:
            self.window -= 1


class EvictionSigns:
    """Signs of evictions since the limit of warm models last fell."""

    __slots__ = ("_cut_at", "_least", "_least_load", "_models")

    def __init__(self) -> None:
        self._least_load = self._least = inf
        self._models: set[int] = set()
        self._cut_at = -inf

    def loaded(self, seconds: float) -> None:
        """Note how long a model was loading."""
        if _LEAST_LOAD <= seconds < self._least_load:
            self._least_load = seconds

    def answered(self, model_number: int, latency: LoadedLatency, *, seconds: float, now: float) -> None:
        """Note a loaded model's answer."""
        least = self._least if latency.usual is None else latency.least
        if seconds < _OF_LOAD * self._least_load or seconds < _TIMES_LEAST * least:
            latency.answered(seconds)
            self._least = min(self._least, seconds)
            return
        if now - seconds >= self._cut_at:
            self._models.add(model_number)
        latency.doubts += 1
        if latency.doubts >= _DOUBTS:
            latency.least = inf
            latency.answered(seconds)

    def are_many(self, active: int) -> bool:
        """Decide whether too many models are in use.

        :param active: models that are loading or warm
        """
        return len(self._models) >= min(_MODELS, active)

    def cut(self, now: float) -> None:
        """Begin again: the limit of warm models falls now."""
        self._models.clear()
        self._cut_at = now
