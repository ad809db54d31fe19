"""A deployment's options, and its state while its task is deferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from airflow_sm_plugin.core.template_values import mapping
from airflow_sm_plugin.exceptions import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """Options of a deployment.

    :param max_wait: seconds for a change in progress to end, and again for the endpoint to serve
    :param poll_interval: seconds between polls
    :param cleanup_wait: seconds that cleaning up may take: SageMaker deletes no endpoint that is still being created
    :param recreate_failed: delete a Failed endpoint and create it again
    :param deployment_config: SageMaker's DeploymentConfig for updates
    :param retain_variant_properties: an update keeps the variants' instance counts and weights
    :param rescale: take down the scaling that forbids an update, and put it back after it
    :param keep_configs: how many earlier configurations stay when a new one serves; None keeps all
    :param delete_old_models: delete removed configurations' models as well, where we made them
    :param container_log_lines: how many of the containers' last log lines a failure shows
    """

    max_wait: float
    poll_interval: float
    wait_for_completion: bool = True
    cleanup_wait: float = 3_600
    cleanup_on_failure: bool = True
    recreate_failed: bool = False
    deployment_config: Mapping[str, Any] | None = None
    retain_variant_properties: bool = False
    rescale: bool = False
    keep_configs: int | None = 1
    delete_old_models: bool = False
    container_log_lines: int = 20


@dataclass(frozen=True, kw_only=True)
class DeploymentNote:
    """The state of a deferred task, for its next process.

    :param action: created, updated or unchanged; None before the decision
    :param created: what this try created, for the log only: SageMaker's tags prove an owner
    :param created_at: the CreationTime, in epoch seconds, of the endpoint that this task created
    :param replaced_config: the endpoint's configuration before this try's update; empty for a creation, None where
        that is not known
    :param models_created_at: the models' CreationTimes in epoch seconds, part of the configuration's name
    :param taken_down: the variants whose scaling this try has taken down, and not put back yet
    :param touched: the task has acted on the endpoint, so that a failure is cleaned up
    :param failed_updates: failed UpdateEndpoint requests
    :param may_be_updating: one of them may have been accepted all the same
    :param requested_at: when this try asked SageMaker for the creation or update, in epoch seconds
    :param deadline: epoch seconds by which a change in progress must have ended; None begins now
    """

    action: str | None = None
    created: tuple[str, ...] = ()
    touched: bool = False
    failed_updates: int = 0
    may_be_updating: bool = False
    deadline: float | None = None
    created_at: float | None = None
    replaced_config: str | None = None
    models_created_at: Mapping[str, float] = field(default_factory=dict)
    taken_down: tuple[str, ...] = ()
    requested_at: float | None = None

    def as_mapping(self) -> dict[str, Any]:
        import msgspec  # not while DAG files are parsed

        return cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(self)))

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> DeploymentNote:
        import msgspec

        return msgspec.convert(value, cls)


_BLUE_GREEN = "BlueGreenUpdatePolicy"
_ROLLING = "RollingUpdatePolicy"
_SIZE_OF = {"ALL_AT_ONCE": None, "CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
"""Types of TrafficRoutingConfiguration, and the member that each needs."""
_MAX_ALARMS = 10


def checked_guardrails(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check that the parts of a DeploymentConfig fit together; return a copy without parts that are None.

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
    if str(kind) not in _SIZE_OF:
        raise InvalidRequest(
            f"TrafficRoutingConfiguration's Type is {kind!r}; SageMaker takes {', '.join(_SIZE_OF)}"
        )
    size = _SIZE_OF[str(kind)]
    if size and not routing.get(size):
        raise InvalidRequest(
            f"traffic routing {kind} needs {size}, e.g. {{'Type': 'CAPACITY_PERCENT', 'Value': 10}}"
        )
