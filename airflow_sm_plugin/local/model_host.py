"""The models of one multi-model container: loaded when first asked for, evicted when memory is short.

What SageMaker does around a multi-model container: it fetches an archive, has the container load it, has it unload
the models that were not used for longest when there is no room, and forgets a load that failed.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airflow_sm_plugin.local.container_client import TooSlow, Unreachable
from airflow_sm_plugin.local.container_process import ContainerProcess
from airflow_sm_plugin.local.containers import ContainerFailed
from airflow_sm_plugin.local.errors import (
    ModelNotReadyFailure,
    ServiceError,
    ServiceUnavailableFailure,
    ValidationFailure,
)
from airflow_sm_plugin.local.model_data import BadArchive, unpack_target_model
from airflow_sm_plugin.local.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.state import Record, Region

_LOAD_SECONDS = 360.0
"""How long SageMaker lets a container load a model."""
_UNLOAD_SECONDS = 10.0
_STOP_SECONDS = 10.0
_MIB = 1024 * 1024

Fail = Callable[[int, str], ServiceError]
"""Makes the error of an invocation of which the container answers this status and text."""


@dataclass(eq=False)
class TargetModel:
    """A model that is loaded, or on its way. Every access to what changes holds the host's lock.

    :param name: its path below the endpoint's prefix
    :param key: its name inside the container: a new one for every load
    :param users: calls that wait for it or run on it; it is not evicted then
    :param is_admitted: whether it counts in the memory
    :param failure: makes the error that the load ended with
    """

    name: str
    began: float
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    users: int = 0
    size: int = 0
    last_used: float = 0.0
    is_admitted: bool = False
    is_loaded: bool = False
    was_invoked: bool = False
    failure: Callable[[], ServiceError] | None = None
    settled: threading.Event = field(default_factory=threading.Event)


class _Failed(Exception):
    """A load has failed; ``failure`` makes the error for each who waits for it."""

    def __init__(self, failure: Callable[[], ServiceError]) -> None:
        super().__init__()
        self.failure = failure


class ModelHost:
    """One multi-model container and its models. Thread-safe.

    The container's process is started by the first load: an endpoint that nobody invokes costs none.
    """

    def __init__(self, region: Region, container: ContainerProcess, fail: Fail) -> None:
        self.container = container
        self._region = region
        self._fail = fail
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._models: dict[str, TargetModel] = {}
        self._admitted: set[TargetModel] = set()
        self._working = 0
        self._loads: Counter[str] = Counter()
        self._evictions = 0

    def holds(self, name: str) -> bool:
        """Say whether a model is loaded here, or on its way."""
        with self._lock:
            return name in self._models

    def __len__(self) -> int:
        """Return how many models are loaded here, or on their way."""
        with self._lock:
            return len(self._models)

    def lease(self, name: str) -> TargetModel:
        """Keep a model here until it is given back; loading begins when it is not there."""
        with self._lock:
            model = self._models.get(name)
            is_new = model is None
            if model is None:
                model = self._models[name] = TargetModel(name, began=time.monotonic())
                self._working += 1
            model.users += 1
            if model.failure:  # nobody was there to hear of it; who comes next begins anew
                self._forget(model)
        if is_new:
            self._region.in_background(f"load {name}", lambda: self._load(model))
        return model

    def wait(self, model: TargetModel, *, seconds: float) -> None:
        """Return once a leased model is loaded.

        Raises ModelNotReadyFailure when it is not after ``seconds`` (loading goes on), or what loading ended with.
        """
        if not model.settled.wait(seconds):
            raise ModelNotReadyFailure(
                "The model is not ready for inference yet. Please try your request later."
            )
        if model.failure:
            raise model.failure()
        model.was_invoked = True

    def give_back(self, model: TargetModel) -> None:
        """End a lease. A model whose cache is off is unloaded after its call."""
        with self._lock:
            model.users -= 1
            model.last_used = time.monotonic()
            is_done = not model.users and model.is_loaded and model.was_invoked
            unloads = is_done and not self.container.spec.keeps_models
            if unloads:
                self._forget(model)
            else:
                self._changed.notify_all()
        if unloads:
            self._unload(model)

    def lost(self) -> None:
        """Forget what the container held: its process is gone."""
        with self._lock:
            gone = [model for model in self._models.values() if model.is_loaded]
            for model in gone:
                self._forget(model)
        for model in gone:
            self._unload(model)

    def close(self) -> None:
        """Begin nothing more; whoever waits is told that the instance is gone."""
        self._closed.set()
        with self._lock:
            self._changed.notify_all()

    def finish(self) -> None:
        """After :meth:`close` and the container's end: wait for the loads to end, and leave nothing on the disk."""
        deadline = time.monotonic() + _STOP_SECONDS
        with self._lock:
            while self._working and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
        self.container.remove_folder()

    def as_json(self) -> Record:
        """Tell which models are loaded (the one to be evicted first is first) and loading, and what has been done."""
        with self._lock:
            loaded = sorted((one for one in self._models.values() if one.is_loaded), key=_age)
            return {
                "loaded": [model.name for model in loaded],
                "loading": [
                    name for name, one in self._models.items() if not one.is_loaded and not one.failure
                ],
                "bytes": sum(model.size for model in self._admitted),
                "loads": dict(self._loads),
                "evictions": self._evictions,
            }

    def _forget(self, model: TargetModel) -> None:
        if self._models.get(model.name) is model:
            del self._models[model.name]

    def _load(self, model: TargetModel) -> None:
        try:
            self._fetch(model)
            self._admit(model)
            while not self._place(model):
                self._unload(self._evicted(model))
        except _Failed as failed:
            self._failed(model, failed.failure)
        except BaseException:
            self._failed(model, lambda: ServiceError("The model could not be loaded."))
            raise
        finally:
            with self._lock:
                self._working -= 1
                self._changed.notify_all()

    def _failed(self, model: TargetModel, failure: Callable[[], ServiceError]) -> None:
        shutil.rmtree(self._folder(model), ignore_errors=True)
        with self._lock:
            self._admitted.discard(model)
            model.failure = failure
            if model.users:
                self._forget(model)
            model.settled.set()

    def _location(self, model: TargetModel) -> Location:
        url = self.container.spec.model_data_url or ""
        try:
            return Location.parse(url).below(model.name.lstrip("/"))
        except ValueError as error:
            text = f'The ModelDataUrl "{url}" is no S3 prefix.'
            raise _Failed(lambda: ValidationFailure(text)) from error

    def _fetch(self, model: TargetModel) -> None:
        location = self._location(model)
        folder = self._folder(model)
        try:
            with self._at_least(self._region.settings.multi_model_download_seconds):
                unpack_target_model(self._region, location, folder)
        except ObjectFailure as error:
            text = (
                f"Failed to download model data (bucket: {location.bucket}, key: {location.key}). Please ensure that "
                "there is an object located at the URL and that the role passed to CreateModel has permissions to "
                "download the model."
            )
            raise _Failed(lambda: ValidationFailure(text)) from error
        except BadArchive as error:
            text = (
                f"Failed to extract model data archive from URL {location.uri}. Please ensure that the object "
                "located at the URL is a valid tar.gz archive."
            )
            raise _Failed(lambda: self._fail(500, text)) from error
        model.size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def _admit(self, model: TargetModel) -> None:
        """Make room: evict the idle models that were not used for longest, or wait for one to become idle."""
        deadline = model.began + self._region.settings.multi_model_ready_wait_seconds
        while True:
            victim = self._next_victim(model, deadline)
            if victim is None:
                return
            self._unload(victim)

    def _next_victim(self, model: TargetModel, deadline: float) -> TargetModel | None:
        """Return the model to unload next, None once ``model`` is admitted. Raises _Failed."""
        with self._lock:
            while True:
                self._check_open()
                if self._fits(model):
                    self._admitted.add(model)
                    return None
                victim = self._least_recently_used() if self._could_fit(model) else None
                if victim:
                    return victim
                left = deadline - time.monotonic()
                if left <= 0 or not self._could_fit(model):
                    raise self._no_memory(model)
                self._changed.wait(left)

    def _evicted(self, model: TargetModel) -> TargetModel:
        """Return a model to unload because the container itself has no memory for ``model``. Raises _Failed."""
        with self._lock:
            victim = self._least_recently_used()
        if victim is None:
            raise self._no_memory(model)
        return victim

    def _least_recently_used(self) -> TargetModel | None:
        """Take the idle model that was not used for longest out of the models."""
        idle = [one for one in self._models.values() if one.is_loaded and not one.users]
        if not idle:
            return None
        victim = min(idle, key=_age)
        self._forget(victim)
        self._evictions += 1
        return victim

    def _no_memory(self, model: TargetModel) -> _Failed:
        text = f"Insufficient memory to load model {model.name}."
        return _Failed(lambda: self._fail(507, text))

    def _could_fit(self, model: TargetModel) -> bool:
        memory = self._region.settings.multi_model_memory_mb * _MIB
        return not memory or model.size <= memory

    def _fits(self, model: TargetModel) -> bool:
        settings = self._region.settings
        held = self._admitted | {model}
        capacity, memory = settings.multi_model_capacity, settings.multi_model_memory_mb * _MIB
        return (not capacity or len(held) <= capacity) and (
            not memory or sum(one.size for one in held) <= memory
        )

    def _place(self, model: TargetModel) -> bool:
        """Have the container load an unpacked model; False when it has no memory for it. Raises _Failed."""
        try:
            with self._at_least(self._region.settings.multi_model_load_seconds):
                self._start_container()
                answer = self.container.client.load_model(
                    model.key, str(self._folder(model)), timeout=_LOAD_SECONDS
                )
        except (ContainerFailed, Unreachable) as error:
            self._check_open()
            name = self.container.spec.name
            raise _Failed(lambda: self._fail(503, f"The container {name} closed the connection.")) from error
        except TooSlow as error:
            text = f"Loading model {model.name} took longer than {_LOAD_SECONDS:.0f} seconds."
            raise _Failed(lambda: self._fail(0, text)) from error
        if answer.status == 507:
            return False
        if answer.status != 200:
            text = f"Failed to load model {model.name}: {answer.body.decode(errors='replace')}"
            raise _Failed(lambda: self._fail(answer.status, text))
        with self._lock:
            model.is_loaded = True
            model.last_used = time.monotonic()
            self._loads[model.name] += 1
            model.settled.set()
        return True

    def _start_container(self) -> None:
        with self._starting:
            self._check_open()
            if not self.container.is_alive:
                self.container.start()

    def _unload(self, model: TargetModel) -> None:
        """Take a model, which is forgotten already, out of the container and off the disk."""
        with contextlib.suppress(Unreachable, TooSlow):
            if self.container.is_alive and not self._closed.is_set():
                self.container.client.unload_model(model.key, timeout=_UNLOAD_SECONDS)
        shutil.rmtree(self._folder(model), ignore_errors=True)
        with self._lock:
            self._admitted.discard(model)
            self._changed.notify_all()

    def _folder(self, model: TargetModel) -> Path:
        return self.container.models_folder / model.key

    @contextlib.contextmanager
    def _at_least(self, seconds: float) -> Iterator[None]:
        """Let a step take so long. Raises _Failed when the instance is taken away meanwhile."""
        ends = time.monotonic() + seconds
        yield
        self._closed.wait(max(ends - time.monotonic(), 0))
        self._check_open()

    def _check_open(self) -> None:
        if self._closed.is_set() or self._region.closed.is_set():
            raise _Failed(lambda: ServiceUnavailableFailure("The instance was taken out of service."))


def _age(model: TargetModel) -> float:
    return model.last_used
