"""The target models that a multi-model container holds, their users, and the order of eviction."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_sm_plugin.local.account.state import Record
from airflow_sm_plugin.local.protocol.errors import ServiceFailure

_MIB = 1024 * 1024


@dataclass(eq=False)
class TargetModel:
    """A model that is loaded, or being loaded.

    :param name: its path below the endpoint's prefix; ``key`` is its name inside the container, new for each load
    :param users: calls that wait for the model or run on it; it is not evicted then
    :param size: bytes, unpacked
    :param last_used: the end of its last call, in ticks of the table
    :param failure: makes the error of a failed load; ``settled`` is set after a load and after its failure
    """

    name: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    users: int = 0
    size: int = 0
    last_used: int = 0
    is_loaded: bool = False
    was_invoked: bool = False
    failure: Callable[[], ServiceFailure] | None = None
    settled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Room:
    """An instance's limits: number of models, and their MiB; 0 sets no limit."""

    capacity: float
    memory_mb: float

    def holds(self, *models: TargetModel) -> bool:
        size = sum(model.size for model in models)
        return (not self.capacity or len(models) <= self.capacity) and (
            not self.memory_mb or size <= self.memory_mb * _MIB
        )


class ModelTable:
    """The models by name, and those in memory. Not thread-safe: its owner holds a lock.

    A model is in memory from :meth:`admit` to :meth:`gone`, also while it is forgotten and being unloaded.
    """

    def __init__(self) -> None:
        self._models: dict[str, TargetModel] = {}
        self._in_memory: set[TargetModel] = set()
        self._tick = 0
        self._loads: Counter[str] = Counter()
        self._evictions = 0

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def __len__(self) -> int:
        return len(self._models)

    def take(self, name: str) -> tuple[TargetModel, bool]:
        """Add a user to a model; return it, and whether it is new.

        The failure of a load without callers is kept for the next call; the call after it begins a new load.
        """
        model = self._models.get(name)
        is_new = model is None
        if model is None:
            model = self._models[name] = TargetModel(name)
        model.users += 1
        if model.failure:
            self.forget(model)
        return model, is_new

    def give_back(self, model: TargetModel) -> None:
        model.users -= 1
        self._touch(model)

    def loaded(self, model: TargetModel) -> None:
        model.is_loaded = True
        self._touch(model)
        self._loads[model.name] += 1
        model.settled.set()

    def failed(self, model: TargetModel, failure: Callable[[], ServiceFailure]) -> None:
        """Record a failed load; forget the model if a caller waits for it."""
        model.failure = failure
        self._in_memory.discard(model)
        if model.users:
            self.forget(model)
        model.settled.set()

    def admit(self, model: TargetModel, room: Room) -> bool:
        fits = room.holds(*self._in_memory | {model})
        if fits:
            self._in_memory.add(model)
        return fits

    def evict(self) -> TargetModel | None:
        """Forget and return the least recently used idle model; None when all are in use."""
        idle = [model for model in self._models.values() if model.is_loaded and not model.users]
        victim = min(idle, key=lambda model: model.last_used, default=None)
        if victim is not None:
            self.forget(victim)
            self._evictions += 1
        return victim

    def forget(self, model: TargetModel) -> None:
        """Drop the name, so that the next call begins a new load; the model is still in memory."""
        if self._models.get(model.name) is model:
            del self._models[model.name]

    def forget_loaded(self) -> list[TargetModel]:
        loaded = [model for model in self._models.values() if model.is_loaded]
        for model in loaded:
            self.forget(model)
        return loaded

    def gone(self, model: TargetModel) -> None:
        self._in_memory.discard(model)

    def as_json(self) -> Record:
        """List the loaded models (in the order of eviction) and those being loaded, with counts, for JSON."""
        models = sorted(self._models.values(), key=lambda model: model.last_used)
        return {
            "loaded": [model.name for model in models if model.is_loaded],
            "loading": [model.name for model in models if not model.settled.is_set()],
            "bytes": sum(model.size for model in self._in_memory),
            "loads": dict(self._loads),
            "evictions": self._evictions,
        }

    def _touch(self, model: TargetModel) -> None:
        self._tick += 1
        model.last_used = self._tick
