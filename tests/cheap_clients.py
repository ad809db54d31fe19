"""Sessions and clients of botocore's that are made quickly: each of our hooks makes one of each."""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.hooks
import botocore.session
import pytest
from botocore.client import ClientCreator
from botocore.hooks import EventAliaser


@contextmanager
def cheap_clients() -> Iterator[None]:
    """Have botocore work out once what is the same for all of them, and the provider not search for its caller.

    Each time they would read SageMaker's model and make 400 methods of it (0.2 s), register 130 handlers, and search
    through the stack, sources included, for the operator whose name the user agent carries.
    """
    with pytest.MonkeyPatch.context() as patch:
        _models(patch)
        _handlers(patch)
        if importlib.util.find_spec("airflow") is not None:
            from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

            patch.setattr(AwsGenericHook, "_find_operator_class_name", staticmethod(lambda *_: "Tested"))
        yield


def _models(patch: pytest.MonkeyPatch) -> None:
    creator: Any = ClientCreator
    load, make = creator._load_service_model, creator._create_client_class
    models = dict[object, Any]()
    classes = dict[object, Any]()

    def loaded(self: ClientCreator, service_name: str, api_version: str | None = None) -> Any:  # noqa: ANN401 - botocore's
        key = (type(self), service_name, api_version, os.environ.get("AWS_DATA_PATH"))
        if key not in models:
            models[key] = load(self, service_name, api_version)
        return models[key]

    def made(self: ClientCreator, service_name: str, service_model: Any) -> Any:  # noqa: ANN401 - as above
        key = (type(self), service_name, os.environ.get("AWS_DATA_PATH"))
        if key not in classes:
            classes[key] = make(self, service_name, service_model)
        return classes[key]

    patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
    patch.setattr(creator, "_load_service_model", loaded)
    patch.setattr(creator, "_create_client_class", made)


def _handlers(patch: pytest.MonkeyPatch) -> None:
    spell: Any = EventAliaser._alias_event_name  # type: ignore[attr-defined] # private
    session: Any = botocore.session.Session
    register = session._register_builtin_handlers
    takes_keywords = botocore.hooks.accepts_kwargs
    spelt = dict[str, str]()
    signatures = dict[object, Any]()
    registered = dict[type, Any]()

    def remembered(self: EventAliaser, event_name: str) -> str:
        if event_name not in spelt:
            spelt[event_name] = spell(self, event_name)
        return spelt[event_name]

    def accepts_kwargs(func: Any) -> Any:  # noqa: ANN401 - botocore's
        code = getattr(func, "__code__", None)
        if code is None:
            return takes_keywords(func)
        if code not in signatures:
            signatures[code] = takes_keywords(func)
        return signatures[code]

    def as_registered(self: Any, events: Any) -> None:  # noqa: ANN401 - as above
        emitter = type(self._original_handler)
        if emitter not in registered:
            register(self, events)
            registered[emitter] = copy.copy(self._original_handler)
        else:
            self._original_handler = copy.copy(registered[emitter])
            self._events = EventAliaser(self._original_handler)

    patch.setattr(EventAliaser, "_alias_event_name", remembered)
    patch.setattr(botocore.hooks, "accepts_kwargs", accepts_kwargs)
    patch.setattr(session, "_register_builtin_handlers", as_registered)
