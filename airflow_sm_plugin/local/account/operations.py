"""The registry of what is answered here, or passed on to moto; every other operation is refused.

A module registers its handlers with ``@operation("CreateModel")``; ``load()`` imports them all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from airflow_sm_plugin.local.account.moto_operations import PASSED_ON, refusal
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.protocol.errors import UnknownOperationFailure
from airflow_sm_plugin.local.protocol.protocol import RUNTIME, service_model

Params = Mapping[str, Any]
Handler = Callable[[Region, Params], Record]


class NotOurs(Exception):
    """The call is moto's to answer."""


_MODULES = (
    "models.model_package_groups",
    "models.model_packages",
    "models.models",
    "endpoints.endpoint_configs",
    "endpoints.endpoint_operations",
    "catalogue.tags",
    "endpoints.runtime",
    "async_inference.requests",
    "transform.operations",
    "automl.jobs.jobs",
    "automl.jobs.step_operations",
    "catalogue.search",
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
    """Return the handler of an operation, one that raises NotOurs where moto answers; None of the runtime's others.

    Raises UnknownOperationFailure for an operation of the control plane that is not answered.
    """
    if name in _HANDLERS:
        return _HANDLERS[name]
    if name in PASSED_ON:
        return pass_on
    if name in service_model(RUNTIME).operation_names:
        return None
    raise UnknownOperationFailure(refusal(name))


def pass_on(region: Region, params: Params) -> Record:  # noqa: ARG001 - a handler like the others
    """Leave a call to moto. Raises NotOurs."""
    raise NotOurs
