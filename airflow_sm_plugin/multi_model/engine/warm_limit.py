"""The limit of warm models, found from the endpoint's answers.

SageMaker does not say how many models an endpoint holds; it evicts the least recently used one for the next. Two
observations show it: models that answer within less time than a load takes were held at the same time, and a model that
answers as slowly as if it had been loaded again was evicted. The limit grows ahead of the number of models that were
held, until models are evicted, and then falls to it.

Mutable and single-threaded, as the schedule. It reads no clock; times are seconds.
"""

from __future__ import annotations

from math import inf

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.model_queue import LoadedLatency

_FIRST = 8
"""The adaptive limit at first. Higher, an endpoint that holds one or two models spends its first minutes on loads that
evict each other; lower, one that holds many is filled late."""

_GROWTH = 1.5
"""The limit is so many times the models that were held at the same time. More exceeds the endpoint's memory by more,
which costs two loads of each model too many; less fills a large endpoint late."""

_LEAST_KEPT = 0.25
"""Share of the models in use that one fall keeps where no model is proven to be held, since none has answered for a
load. Less would leave the memory unused for long; more needs several falls, each of which costs loads."""

_PATIENCE = 8
"""After a fall the limit grows by one when so many times as many models as it permits have done all their work, after
the second fall twice as many, and so on. A limit above the endpoint's memory costs about two loads of every model: so a
vain attempt costs at most a quarter of the time since the last one."""

_LEAST_LOAD = 0.25
"""Seconds: a shorter load costs little, and cannot be distinguished from a slow answer. Smaller, pauses of a busy
container count as evictions; larger, quick loads that evict each other stay unnoticed."""

_WITHIN = 0.8
"""Share of the quickest load within which answers of different models prove that all of them were held. Nearer to 1, a
model counts that was loaded into the memory of another one; less, models that answer seldom do not count."""

_OF_LOAD, _TIMES_LEAST = 0.5, 8.0
"""An answer is a sign when it takes this share of the quickest load, and so many times the quickest answer. The first
alone would suspect models that are slow by nature, the second alone models with a short queue in their container."""

_OF_FIRST_ANSWER = 0.7
"""The same share while no answer was quick yet. A load includes a first answer, so that a model that is slow by nature
takes less, unless it takes more than twice as long as its load. Larger, loads that vary hide evictions."""

_DOUBTS = 4
"""A model that gives so many signs one after the other, with no quick answer between them, is slow. Fewer would accept
a model that is evicted again and again as slow; more would cut the limit for the sake of a model that has merely become
slower."""

_MODELS = 2
"""Models with signs that prove evictions: a single one can be slow by itself, and each further one that is demanded
costs another load before the limit falls."""


_SETTLES = 2.0
"""Quickest loads after a fall of the limit before further signs count: calls that were held then load models that are
not in use any more, which evict those in use. In virtual time 1 lowers the limit a second time without need and costs
6 % more; from 2 on there is no difference."""


class EvictionSigns:
    """Signs of evictions since the limit of warm models last fell, from the latency of loaded models.

    SageMaker holds a call for up to a minute while it loads a model, and answers ModelNotReady only then. So an evicted
    model that is loaded again for a call shows as one answer that takes about as long as a load, from a model that is
    quick otherwise. One such answer proves nothing. Several models with such answers, to calls that were sent when the
    last fall of the limit had taken effect, mean that still too many models are warm.
    """

    __slots__ = ("_least", "_models", "_settled_at", "least_load")

    def __init__(self) -> None:
        self.least_load = inf
        """The quickest load; infinite while no load took long enough to count."""
        self._least = inf
        self._models: set[int] = set()
        self._settled_at = -inf

    def loaded(self, seconds: float) -> None:
        """Note how long a model was loading, its first answer included."""
        if _LEAST_LOAD <= seconds < self.least_load:
            self.least_load = seconds

    def answered(self, model_number: int, latency: LoadedLatency, *, seconds: float, now: float) -> None:
        """Note a loaded model's answer."""
        least = self._least if latency.usual is None else latency.least
        usual = _TIMES_LEAST * least if least < inf else _OF_FIRST_ANSWER * self.least_load
        if seconds < _OF_LOAD * self.least_load or seconds < usual:
            latency.answered(seconds)
            self._least = min(self._least, seconds)
            return
        sent_at = now - seconds
        if self.is_settled(sent_at):
            self._models.add(model_number)
        if sent_at < latency.doubted_at:
            return  # held by the same load as the sign before
        latency.doubts, latency.doubted_at = latency.doubts + 1, now
        if latency.doubts >= _DOUBTS:
            latency.least = inf
            latency.answered(seconds)

    def are_many(self, active: int) -> bool:
        """Decide whether too many models are in use.

        :param active: models that are loading or warm
        """
        return len(self._models) >= min(_MODELS, active)

    def is_settled(self, now: float) -> bool:
        """Decide whether the last fall of the limit has taken effect."""
        return now >= self._settled_at

    def cut(self, now: float) -> None:
        """Begin again: the limit of warm models falls now."""
        self._models.clear()
        self._settled_at = now + _SETTLES * (self.least_load if self.least_load < inf else _LEAST_LOAD)


class ProvenModels:
    """The most models that answered within less than one load, so that the endpoint held them at the same time."""

    __slots__ = ("_answered_at", "count")

    def __init__(self) -> None:
        self._answered_at: dict[int, float] = {}
        """When each of them answered last, the earliest first."""
        self.count = 0

    def answered(self, model_number: int, *, now: float, load: float) -> None:
        """Note an answer of a loaded model.

        :param load: the quickest load; infinite while none is known
        """
        answered_at = self._answered_at
        answered_at.pop(model_number, None)
        answered_at[model_number] = now
        begins = now - (_WITHIN * load if load < inf else _LEAST_LOAD)
        while answered_at[earliest := next(iter(answered_at))] < begins:
            del answered_at[earliest]
        self.count = max(self.count, len(answered_at))

    def forget(self) -> None:
        """Begin again: other models can be larger."""
        self._answered_at.clear()
        self.count = 0


class WarmLimit:
    """The limit of models that are loading or warm. Without a fixed one it begins with eight and adapts.

    :raises InvalidRequest: *max_warm_models* is below 1
    """

    def __init__(self, max_warm_models: int | None) -> None:
        if max_warm_models is not None and max_warm_models < 1:
            raise InvalidRequest(f"max_warm_models must be 1 or more, not {max_warm_models}")
        self.value = max_warm_models or _FIRST
        self._is_fixed = max_warm_models is not None
        self._signs = EvictionSigns()
        self._proven = ProvenModels()
        self._falls = 0
        self._undisturbed = 0
        """Models that have done all their work since the limit last changed."""

    def loaded(self, model_number: int, *, seconds: float, now: float) -> None:
        """Note a model's first answer.

        :param seconds: how long it was loading
        """
        self._signs.loaded(seconds)
        self._held(model_number, now)

    def answered(
        self, model_number: int, latency: LoadedLatency, *, seconds: float, now: float, active: int
    ) -> bool:
        """Note a warm model's answer; report whether the limit fell.

        :param active: models that are loading or warm
        """
        self._signs.answered(model_number, latency, seconds=seconds, now=now)
        self._held(model_number, now)
        if not self._signs.are_many(active):
            return False
        self._fall(active, now)
        return True

    def evicted(self, active: int, *, now: float) -> None:
        """Note that a warm model is not loaded any more, or that there is no memory for a further one."""
        if self._signs.is_settled(now):
            self._fall(active, now)

    def finished(self) -> None:
        """Note that a model has done all its work. After a fall the limit grows by one when many have."""
        if self._is_fixed or not self._falls:
            return
        self._undisturbed += 1
        if self._undisturbed >= _PATIENCE * self._falls * self.value:
            self.value += 1
            self._undisturbed = 0

    def _held(self, model_number: int, now: float) -> None:
        """Note that the endpoint holds a model now."""
        if self._is_fixed:
            return
        self._proven.answered(model_number, now=now, load=self._signs.least_load)
        if not self._falls:
            self.value = max(self.value, int(_GROWTH * self._proven.count))

    def _fall(self, active: int, now: float) -> None:
        """Fall to the proven number of models, and below *active*: these were too many."""
        if not self._is_fixed:
            kept = self._proven.count or int(_LEAST_KEPT * active)
            self.value = max(1, min(self.value, kept, active - 1))
            self._falls += 1
            self._undisturbed = 0
            self._proven.forget()
        self._signs.cut(now)
