"""The registry of what is answered here; every other SageMaker operation falls through to moto.

A module registers its handlers with ``@operation("CreateModel")``; ``load()`` imports them all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from airflow_sm_plugin.local.state import Record, Region

Params = Mapping[str, Any]
Handler = Callable[[Region, Params], Record]


class NotOurs(Exception):
    """The resource is none of ours; moto answers the call instead."""


_MODULES = (
    "model_package_groups",
    "model_packages",
    "models",
    "endpoint_configs",
    "endpoint_operations",
    "tags",
    "runtime",
    "async_inference",
    "transform",
    "automl.jobs",
)
_HANDLERS: dict[str, Handler] = {}


def operation(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler: it gets the region and the validated parameters and returns the output members."""

    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def load() -> None:
    """Import the modules that register handlers."""
    for module in _MODULES:
        importlib.import_module(f"airflow_sm_plugin.local.{module}")


def handler_of(name: str) -> Handler | None:
    """Return the handler of an operation, None when moto answers it."""
    return _HANDLERS.get(name)
