"""How many models the endpoint holds, found from its answers.

SageMaker does not say how many models an endpoint holds; it evicts the least recently used one for the next. Models
that answer within less time than a load takes were held at the same time: their number is *proven*. The limit of warm
models grows beyond the proven number until answers show that models are evicted, and then falls to it.

Mutable and single-threaded, as the schedule; it reads no clock.
"""

from __future__ import annotations

from math import ceil, inf

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.model_queue import LoadedLatency

_FIRST, _GROWTH = 8, 1.5
_PATIENCE = 8
_LEAST_LOAD = 0.25
"""Seconds: a shorter load costs little, and cannot be distinguished from a slow answer. Smaller, pauses of a busy
container count as evictions; larger, quick loads that evict each other stay unnoticed."""

_WITHIN = 0.8
_OF_LOAD, _TIMES_LEAST = 0.5, 8.0
"""An answer is a sign when it takes this share of the quickest load, and so many times the quickest answer. The first
alone would suspect models that are slow by nature, the second alone models with a short queue in their container."""

_OF_OWN_LOAD = 0.7
_DOUBTS = 4
"""A model that gives so many signs, with no quick answer between them, is slow. Fewer would accept a model that is
evicted again and again as slow; more would cut the limit for the sake of a model that has merely become slower."""

_MODELS = 2
"""Models with signs that prove evictions: a single one can be slow by itself, and each further one that is demanded
costs another load before the limit falls."""


class ProvenModels:
    """The most models that answered within less than a load."""

    __slots__ = ("_answered_at", "most")

    def __init__(self) -> None:
        self._answered_at: dict[int, float] = {}
        self.most = 0

    def answered(self, model_number: int, *, now: float, span: float) -> None:
        at = self._answered_at
        at.pop(model_number, None)
        at[model_number] = now
        while True:
            oldest = next(iter(at))
            if at[oldest] > now - span:
                break
            del at[oldest]
        self.most = max(self.most, len(at))

    def forget(self) -> None:
        self._answered_at.clear()
        self.most = 0


class EvictionSigns:
    """Signs of evictions since the limit of warm models last fell, from the latency of loaded models.

    SageMaker holds a call for up to a minute while it loads a model, and answers ModelNotReady only then. So an evicted
    model that is loaded again for a call shows as one answer that takes about as long as a load, from a model that is
    quick otherwise. One such answer proves nothing. Several models with such answers to calls that were sent after the
    limit last fell mean that still too many models are warm.
    """

    __slots__ = ("_cut_at", "_least", "_models", "least_load")

    def __init__(self) -> None:
        self.least_load = self._least = inf
        self._models: set[int] = set()
        self._cut_at = -inf

    def loaded(self, latency: LoadedLatency, seconds: float) -> None:
        """Note how long a model was loading."""
        latency.load = min(latency.load, seconds)
        if _LEAST_LOAD <= seconds < self.least_load:
            self.least_load = seconds

    def answered(self, model_number: int, latency: LoadedLatency, *, seconds: float, now: float) -> None:
        """Note a loaded model's answer."""
        least = self._least if latency.usual is None else latency.least
        expected = _TIMES_LEAST * least if least < inf else _OF_OWN_LOAD * latency.load
        if seconds < _OF_LOAD * self.least_load or seconds < expected:
            latency.answered(seconds)
            self._least = min(self._least, seconds)
            return
        sent_at = now - seconds
        if sent_at >= self._cut_at:
            self._models.add(model_number)
        if sent_at < latency.doubted_at:
            return
        latency.doubts += 1
        latency.doubted_at = now
        if latency.doubts >= _DOUBTS:
            latency.least = inf
            latency.answered(seconds)

    def are_many(self, active: int) -> bool:
        """Decide whether too many models are in use.

        :param active: models that are loading or warm
        """
        return len(self._models) >= min(_MODELS, active)

    def is_news(self, sent_at: float) -> bool:
        return sent_at >= self._cut_at

    def cut(self, now: float) -> None:
        """Begin again: the limit of warm models falls now."""
        self._models.clear()
        self._cut_at = now + (self.least_load if self.least_load < inf else 0.0)


class WarmLimit:
    """The limit of models that are loading or warm. Without a fixed one it begins with four and adapts.

    :raises InvalidRequest: *max_warm_models* is below 1
    """

    def __init__(self, max_warm_models: int | None) -> None:
        if max_warm_models is not None and max_warm_models < 1:
            raise InvalidRequest(f"max_warm_models must be 1 or more, not {max_warm_models}")
        self.value = max_warm_models or _FIRST
        self._is_fixed = max_warm_models is not None
        self._undisturbed = 0
        self._cuts = 0
        self.signs = EvictionSigns()
        self.proven = ProvenModels()

    def answered(self, model_number: int, *, now: float) -> None:
        if self._is_fixed:
            return
        load = self.signs.least_load
        self.proven.answered(model_number, now=now, span=_WITHIN * load if load < inf else _LEAST_LOAD)
        if not self._cuts:
            self.value = max(self.value, int(_GROWTH * self.proven.most))

    def finished(self) -> None:
        """Grow by one, after an eviction, when as many models as the limit permits have done all their work."""
        if self._is_fixed or not self._cuts:
            return
        self._undisturbed += 1
        if self._undisturbed >= self.value * _PATIENCE << (self._cuts - 1):
            self.value += 1
            self._undisturbed = 0

    def evicted(self, active: int, now: float) -> None:
        if self._is_fixed:
            return
        self.value = max(1, min(self.value, self.proven.most, active - 1))
        self._cuts = min(self._cuts + 1, 20)
        self._undisturbed = 0
        self.proven.forget()
        self.signs.cut(now)
