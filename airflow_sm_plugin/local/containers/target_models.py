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
    """A model that is loaded, or on its way.

    :param name: its path below the endpoint's prefix; ``key`` is its name inside the container, a new one for each load
    :param users: calls that wait for it or run on it; it is not evicted then
    :param size: bytes, unpacked
    :param last_used: when the last of them ended, in ticks of the table
    :param failure: makes the error that loading ended with; ``settled`` is set then, or once it is loaded
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
    """How much an instance holds: models, and MiB of them; 0 sets no limit."""

    capacity: float
    memory_mb: float

    def holds(self, *models: TargetModel) -> bool:
        size = sum(model.size for model in models)
        return (not self.capacity or len(models) <= self.capacity) and (
            not self.memory_mb or size <= self.memory_mb * _MIB
        )


class ModelTable:
    """The models by name, and those that take up memory. Not thread-safe: its owner holds a lock.

    A model is in memory from :meth:`admit` to :meth:`gone`, also while it is forgotten already and being unloaded.
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
        """Return a model with one user more, and whether it is new.

        A failure that no caller has got yet is kept for the next one; the one after it begins a new load.
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
        """Record that a model could not be loaded, and forget it if a caller waits for it."""
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
        """Forget and return the idle model that was not used for longest; None when all are in use."""
        idle = [model for model in self._models.values() if model.is_loaded and not model.users]
        victim = min(idle, key=lambda model: model.last_used, default=None)
        if victim is not None:
            self.forget(victim)
            self._evictions += 1
        return victim

    def forget(self, model: TargetModel) -> None:
        """Let the next caller begin a new load; its memory is still taken."""
        if self._models.get(model.name) is model:
            del self._models[model.name]

    def forget_loaded(self) -> list[TargetModel]:
        found = [model for model in self._models.values() if model.is_loaded]
        for model in found:
            self.forget(model)
        return found

    def gone(self, model: TargetModel) -> None:
        self._in_memory.discard(model)

    def as_json(self) -> Record:
        """Return the models loaded (first what is to be evicted first), those loading, and counts, for JSON."""
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
