"""The models of a multi-model container: loaded by the first call that needs them, evicted when memory is short.

As SageMaker does, the host fetches an archive, has the container load it, has it unload the least recently used models
when there is no room, and forgets a failed load.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.containers.archives import BadArchive
from airflow_sm_plugin.local.containers.container_client import TooSlow, Unreachable
from airflow_sm_plugin.local.containers.container_process import ContainerProcess
from airflow_sm_plugin.local.containers.containers import ContainerFailed
from airflow_sm_plugin.local.containers.model_data import reason, unpack
from airflow_sm_plugin.local.containers.target_models import ModelTable, Room, TargetModel
from airflow_sm_plugin.local.faults.recorded import container_answer, recorded
from airflow_sm_plugin.local.protocol.errors import ServiceFailure

_LOAD_SECONDS = 360.0
"""SageMaker's limit for loading a model."""
_UNLOAD_SECONDS = 10.0
"""A container that does not unload a model by then is not waited for: the model's folder is removed all the same."""
_STOP_SECONDS = 10.0
"""A load that has not ended by then is left behind, and the instance's folder removed."""

Fail = Callable[[int, str], ServiceFailure]
"""Makes the error of an invocation from a container's status and text."""


class _Failed(Exception):
    """A load has failed; ``failure`` makes the error for each caller that waits."""

    def __init__(self, failure: Callable[[], ServiceFailure]) -> None:
        super().__init__()
        self.failure = failure


class ModelHost:
    """A multi-model container and its models. Thread-safe.

    The first load starts the container's process: an endpoint that is not invoked has none.
    """

    def __init__(self, region: Region, container: ContainerProcess, fail: Fail) -> None:
        self.container = container
        self._region = region
        self._fail = fail
        self._table = ModelTable()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._working = 0

    def holds(self, name: str) -> bool:
        with self._lock:
            return name in self._table

    def __len__(self) -> int:
        with self._lock:
            return len(self._table)

    def lease(self, name: str) -> TargetModel:
        """Protect a model from eviction until it is given back; begin to load a missing one."""
        with self._lock:
            model, is_new = self._table.take(name)
            self._working += is_new
        if is_new:
            self._region.in_background(f"load {name}", lambda: self._load(model))
        return model

    def wait(self, model: TargetModel, *, seconds: float) -> None:
        """Wait until a leased model is loaded.

        Raises ModelNotReadyException after ``seconds`` (loading goes on), or the error of a failed load.
        """
        if not model.settled.wait(seconds):
            raise recorded("the target model is being loaded")
        if model.failure:
            raise model.failure()
        model.was_invoked = True

    def give_back(self, model: TargetModel) -> None:
        """End a lease. Without a model cache, unload the model after its call."""
        with self._lock:
            self._table.give_back(model)
            is_unused = not model.users and model.is_loaded and model.was_invoked
            unloads = is_unused and not self.container.spec.keeps_models
            if unloads:
                self._table.forget(model)
            self._changed.notify_all()
        if unloads:
            self._unload(model)

    def lost(self) -> None:
        """Forget the loaded models if the container's process has ended; the next load restarts it."""
        if self.container.is_alive:
            return
        with self._lock:
            gone = self._table.forget_loaded()
        for model in gone:
            self._unload(model)

    def close(self) -> None:
        """Begin no further load; waiting callers get the error that the instance was taken away."""
        self._closed.set()
        with self._lock:
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait for the loads to end, and remove the folder. Call it after :meth:`close` and the container's end."""
        with self._lock:
            self._changed.wait_for(lambda: not self._working, _STOP_SECONDS)
        self.container.remove_folder()

    def as_json(self) -> Record:
        with self._lock:
            return self._table.as_json()

    def _load(self, model: TargetModel) -> None:
        try:
            self._fetch(model)
            self._admit(model)
            while not self._load_in_container(model):
                self._unload(self._evicted(model))
        except _Failed as failed:
            self._failed(model, failed.failure)
        except BaseException:
            self._failed(model, lambda: ServiceFailure("The model could not be loaded."))
            raise
        finally:
            with self._lock:
                self._working -= 1
                self._changed.notify_all()

    def _failed(self, model: TargetModel, failure: Callable[[], ServiceFailure]) -> None:
        shutil.rmtree(self._folder(model), ignore_errors=True)
        with self._lock:
            self._table.failed(model, failure)

    def _fetch(self, model: TargetModel) -> None:
        location, folder = self._location(model), self._folder(model)
        try:
            with self._at_least(lambda: self._region.settings.multi_model_download_seconds):
                unpack(self._region, location, folder, self._check_open)
        except ObjectFailure as error:
            raise _not_found(location) from error
        except BadArchive as error:
            reply = container_answer(
                "a target model is no tar.gz archive", uri=location.uri, reason=reason(error)
            )
            raise _Failed(lambda: self._fail(*reply)) from error
        model.size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def _location(self, model: TargetModel) -> Location:
        url = self.container.spec.model_data_url or ""
        try:
            return Location.parse(f"{url}{model.name}")  # no slash is added: the two have it
        except ValueError as error:
            raise _not_found(Location("", model.name)) from error

    def _admit(self, model: TargetModel) -> None:
        """Make room: evict idle models, or wait until a model becomes idle. Raises _Failed.

        The limit is half as long as a call waits for its model, so that the call gets this error.
        """
        settings = self._region.settings
        room = Room(settings.multi_model_capacity, settings.multi_model_memory_mb)
        deadline = time.monotonic() + settings.multi_model_ready_wait_seconds / 2
        while (victim := self._next_victim(model, room, deadline)) is not None:
            self._unload(victim)

    def _next_victim(self, model: TargetModel, room: Room, deadline: float) -> TargetModel | None:
        """Choose the model to unload next; None once ``model`` is admitted. Raises _Failed."""
        with self._lock:
            while not self._table.admit(model, room):
                victim = self._table.evict() if room.holds(model) else None
                left = deadline - time.monotonic() if room.holds(model) else 0
                if victim is not None:
                    return victim
                if left <= 0:
                    raise self._no_memory(model)
                self._changed.wait(left)
                self._check_open()
        return None

    def _evicted(self, model: TargetModel) -> TargetModel:
        """Choose a model to unload because the container has no memory for ``model``. Raises _Failed."""
        with self._lock:
            victim = self._table.evict()
        if victim is None:
            raise self._no_memory(model)
        return victim

    def _no_memory(self, model: TargetModel) -> _Failed:
        reply = container_answer("no memory for the model", model=model.name)
        return _Failed(lambda: self._fail(*reply))

    def _load_in_container(self, model: TargetModel) -> bool:
        """Have the container load an unpacked model; False when the container has no memory for it. Raises _Failed."""
        folder = str(self._folder(model))
        try:
            with self._at_least(lambda: self._region.settings.multi_model_load_seconds):
                self._start_container()
                answer = self.container.client.load_model(model.key, folder, timeout=_LOAD_SECONDS)
        except (ContainerFailed, Unreachable) as error:
            self._check_open()
            reply = container_answer("the model process exited")
            raise _Failed(lambda: self._fail(*reply)) from error
        except TooSlow as error:
            text = f"Loading model {model.name} took longer than {_LOAD_SECONDS:.0f} seconds."
            raise _Failed(lambda: self._fail(0, text)) from error
        if answer.status == 507:
            return False
        if answer.status != 200:
            reason_given = answer.body.decode(errors="replace")
            _, text = container_answer("the model failed to load", model=model.name, reason=reason_given)
            raise _Failed(lambda: self._fail(answer.status, text))
        with self._lock:
            self._table.loaded(model)
            self._changed.notify_all()
        return True

    def _start_container(self) -> None:
        with self._starting:
            self._check_open()
            if not self.container.is_alive:
                self.lost()
                self.container.start()

    def _unload(self, model: TargetModel) -> None:
        with contextlib.suppress(Unreachable, TooSlow):
            if self.container.is_alive and not self._closed.is_set():
                self.container.client.unload_model(model.key, timeout=_UNLOAD_SECONDS)
        shutil.rmtree(self._folder(model), ignore_errors=True)
        with self._lock:
            self._table.gone(model)
            self._changed.notify_all()

    def _folder(self, model: TargetModel) -> Path:
        return self.container.models_folder / model.key

    @contextlib.contextmanager
    def _at_least(self, seconds: Callable[[], float]) -> Iterator[None]:
        """Let a step take at least so long. Raises _Failed when the instance is taken away meanwhile."""
        began = time.monotonic()
        yield
        self._region.wait(lambda: 0.0 if self._closed.is_set() else seconds(), since=began)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed.is_set() or self._region.closed.is_set():
            raise _Failed(lambda: recorded("the instance was taken away"))


def _not_found(location: Location) -> _Failed:
    missing = {"bucket": location.bucket, "key": location.key}
    return _Failed(lambda: recorded("a target model's artefact is missing", **missing))
