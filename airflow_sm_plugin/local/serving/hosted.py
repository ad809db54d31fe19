"""Many models in one container: the contract of SageMaker's multi-model containers.

::

    POST   /models                 {"model_name": …, "url": <folder of the unpacked archive>}
    GET    /models                 the loaded models
    GET    /models/{name}
    DELETE /models/{name}
    POST   /models/{name}/invoke

200 is success, 404 an unknown model, 409 a model that is loaded already, 507 too little memory for a load.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

from airflow_sm_plugin.local.serving.handlers import (
    TEXT,
    ContainerAnswer,
    LoadedModel,
    Program,
    error_answer,
    status_of,
)
from airflow_sm_plugin.local.serving.isolation import IsolatedCode

_JSON = {"Content-Type": "application/json"}
_IMPORTING = threading.Lock()
"""Models load in parallel, but packages that import each other fail when several threads import them at once."""


class HostedModel:
    """One of several loaded models; its code is isolated from the others' code."""

    def __init__(self, url: str, environment: Mapping[str, str], *, code_dir: Path | None = None) -> None:
        self.url = url
        self.users = 0
        self.is_unloaded = False
        self._code: IsolatedCode | None = None
        self._loaded: LoadedModel | None = None
        with ExitStack() as loading:

            def load_code(program: Program) -> ModuleType:
                self._code = IsolatedCode(program.folders)
                loading.enter_context(self._code.running())
                with _IMPORTING:
                    return self._code.module(program.module)

            try:
                self._loaded = LoadedModel(Path(url), environment, code_dir=code_dir, load_code=load_code)
            except BaseException:
                self.release()
                raise

    def answer(self, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        if self._code is None or self._loaded is None:
            raise LookupError("the model is unloaded")
        with self._code.running():
            return self._loaded.answer(body, headers)

    def release(self) -> None:
        self._loaded = None
        if self._code is not None:
            self._code.forget()


class HostedModels:
    """The models of a multi-model container. Thread-safe; models load in parallel."""

    def __init__(self, environment: Mapping[str, str], *, code_dir: Path | None = None) -> None:
        self._environment = environment
        self._code_dir = code_dir
        self._lock = threading.Lock()
        self._models: dict[str, HostedModel | None] = {}

    def respond(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        parts = path.strip("/").split("/")
        name = parts[1] if len(parts) > 1 else ""
        match method, len(parts), parts[-1]:
            case _ if parts[0] != "models":
                pass
            case "POST", 3, "invoke":
                return self._invoke(name, body, headers)
            case "POST", 1, _:
                return self._load(body)
            case "GET", 1, _:
                return self._list()
            case "GET", 2, _:
                return self._describe(name)
            case "DELETE", 2, _:
                return self._unload(name)
        return ContainerAnswer(404, f"nothing at {path}".encode(), TEXT)

    def _invoke(self, name: str, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        with self._lock:
            model = self._models.get(name)
            if model is None:
                return _unknown(name)
            model.users += 1
        try:
            return model.answer(body, headers)
        finally:
            with self._lock:
                model.users -= 1
                is_last = model.is_unloaded and not model.users
            if is_last:
                model.release()

    def _load(self, body: bytes) -> ContainerAnswer:
        try:
            request = json.loads(body)
            name, url = str(request["model_name"]), str(request["url"])
        except (ValueError, KeyError, TypeError):
            return ContainerAnswer(400, b"model_name and url are wanted", TEXT)
        with self._lock:
            if name in self._models:
                return ContainerAnswer(409, f"model {name} is loaded already".encode(), TEXT)
            self._models[name] = None
        model = None
        try:
            model = HostedModel(url, self._environment, code_dir=self._code_dir)
        except MemoryError as error:
            traceback.print_exc(file=sys.stderr)
            return error_answer(error, 507)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the archive's own code failed; that is answered
            traceback.print_exc(file=sys.stderr)
            return error_answer(error, status_of(error))
        finally:
            with self._lock:
                if model is None:
                    del self._models[name]
                else:
                    self._models[name] = model
        return ContainerAnswer(200, b"", TEXT)

    def _unload(self, name: str) -> ContainerAnswer:
        with self._lock:
            model = self._models.get(name)
            if model is None:
                return _unknown(name)
            del self._models[name]
            model.is_unloaded = True
            is_idle = not model.users
        if is_idle:
            model.release()
        return ContainerAnswer(200, b"", TEXT)

    def _list(self) -> ContainerAnswer:
        with self._lock:
            models = [_described(name, model) for name, model in self._models.items() if model]
        return ContainerAnswer(200, json.dumps({"models": models}).encode(), _JSON)

    def _describe(self, name: str) -> ContainerAnswer:
        with self._lock:
            model = self._models.get(name)
        if model is None:
            return _unknown(name)
        return ContainerAnswer(200, json.dumps(_described(name, model)).encode(), _JSON)


def _described(name: str, model: HostedModel) -> dict[str, str]:
    return {"modelName": name, "modelUrl": model.url}


def _unknown(name: str) -> ContainerAnswer:
    return ContainerAnswer(404, f"model {name} is not loaded".encode(), TEXT)
