"""How an update shifts traffic to the new configuration: SageMaker's DeploymentConfig, checked before the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.core.template_values import mapping
from airflow_sm_plugin.exceptions import InvalidRequest

_BLUE_GREEN = "BlueGreenUpdatePolicy"
_ROLLING = "RollingUpdatePolicy"
_TYPES = ("ALL_AT_ONCE", "CANARY", "LINEAR")
_SIZE_OF = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
_MAX_ALARMS = 10


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a DeploymentConfig whose parts fit together; a part that is None is left out.

    :raises InvalidRequest: both or neither update policy, an unknown or incomplete traffic routing, or too many alarms
    """
    parts = {part: mapping(value, part) for part, value in given.items()}
    config = {part: value for part, value in parts.items() if value is not None}
    if (_BLUE_GREEN in config) == (_ROLLING in config):
        raise InvalidRequest(
            f"deployment_config needs either {_BLUE_GREEN} or {_ROLLING}; not {', '.join(sorted(config)) or 'none'}"
        )
    if _BLUE_GREEN in config:
        routing = config[_BLUE_GREEN].get("TrafficRoutingConfiguration")
        _check_routing(mapping(routing, "TrafficRoutingConfiguration") or {})
    elif not config[_ROLLING].get("MaximumBatchSize"):
        raise InvalidRequest(
            f"{_ROLLING} needs a MaximumBatchSize, e.g. {{'Type': 'CAPACITY_PERCENT', 'Value': 25}}"
        )
    alarms = (config.get("AutoRollbackConfiguration") or {}).get("Alarms") or []
    if len(alarms) > _MAX_ALARMS:
        raise InvalidRequest(
            f"AutoRollbackConfiguration has {len(alarms)} alarms, SageMaker takes up to {_MAX_ALARMS}"
        )
    return config


def _check_routing(routing: Mapping[str, Any]) -> None:
    kind = routing.get("Type")
    if kind not in _TYPES:
        raise InvalidRequest(
            f"TrafficRoutingConfiguration's Type is {kind!r}; SageMaker takes {', '.join(_TYPES)}"
        )
    size = _SIZE_OF.get(str(kind))
    if size and not routing.get(size):
        raise InvalidRequest(
            f"traffic routing {kind} needs {size}, e.g. {{'Type': 'CAPACITY_PERCENT', 'Value': 10}}"
        )
