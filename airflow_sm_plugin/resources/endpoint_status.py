"""Judge DescribeEndpoint's answers while a task waits for an endpoint to serve a certain configuration.

All nine statuses have a verdict. InService alone proves nothing: an update that failed ends InService with the *old*
``EndpointConfigName``, sometimes without a FailureReason, and stays Updating until then: RollingBack is shown for
UpdateEndpointWeightsAndCapacities only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_sm_plugin.core.text import duration
from airflow_sm_plugin.exceptions import (
    EndpointDeadlineExceeded,
    EndpointFailed,
    EndpointRolledBack,
    EndpointTakenOver,
    EndpointUnchangeable,
    SageMakerInferenceError,
    ServiceUnavailable,
)
from airflow_sm_plugin.resources.endpoint_config import Variant
from airflow_sm_plugin.resources.endpoint_cost import counts_of


class EndpointState(enum.Enum):
    """The meaning of a description to a task that waits for a configuration."""

    SERVING = "serving"
    WAIT = "wait"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


@dataclass(frozen=True)
class EndpointVerdict:
    """A judged description.

    :param counts: the instances that each production variant has, where the description shows them
    """

    state: EndpointState
    status: str
    config_name: str
    reason: str
    arn: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def as_mapping(self) -> dict[str, Any]:
        return {**vars(self), "state": self.state.value}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> EndpointVerdict:
        import msgspec  # not while DAG files are parsed

        return msgspec.convert(value, cls)


SERVING_STATUSES = ("InService", "Updating", "SystemUpdating", "RollingBack")
"""While SageMaker changes an endpoint, it goes on serving what it served."""

_NO_REASON = "SageMaker gave no reason"
_IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


def in_progress(status: str) -> bool:
    """Check for a status in which SageMaker refuses to change or delete an endpoint, and which ends by itself."""
    return status in _IN_PROGRESS


def judge(description: Mapping[str, Any], *, wanted_config: str) -> EndpointVerdict:
    """Judge a description. Deleting is a failure, and so are the statuses that never end by themselves."""
    status, config = str(description["EndpointStatus"]), str(description.get("EndpointConfigName") or "")
    reason = str(description.get("FailureReason") or _NO_REASON)
    if status == "InService":
        state = EndpointState.SERVING if config == wanted_config else EndpointState.ROLLED_BACK
    elif in_progress(status) and status != "Deleting":
        state = EndpointState.WAIT
    else:
        state = EndpointState.FAILED
    arn, counts = str(description.get("EndpointArn", "")), counts_of(description)
    return EndpointVerdict(state, status, config, reason, arn, counts)


def uses_config(description: Mapping[str, Any] | None, config_name: str) -> bool:
    """Check that an endpoint needs a configuration. An endpoint whose configuration is not described counts, too."""
    if description is None or description.get("EndpointStatus") == "Deleting":
        return False
    return not description.get("EndpointConfigName") or config_name in configs_of(description)


def configs_of(description: Mapping[str, Any] | None) -> set[str]:
    """List the configurations that an endpoint has now or is being moved to; none when it is gone or Deleting."""
    if description is None or description.get("EndpointStatus") == "Deleting":
        return set()
    pending = description.get("PendingDeploymentSummary") or {}
    names = {description.get("EndpointConfigName"), pending.get("EndpointConfigName")}
    return {str(name) for name in names if name}


def failure(
    verdict: EndpointVerdict, *, endpoint_name: str, wanted_config: str, replaced_config: str | None = None
) -> SageMakerInferenceError | None:
    """Build the error that a verdict amounts to, None while the endpoint serves or a change is in progress.

    :param replaced_config: the configuration before the update, empty where there was none; None where that is not
        known. SageMaker rolls back to this one only: any other was deployed by another task
    """
    if verdict.state is EndpointState.ROLLED_BACK and not verdict.config_name:
        return ServiceUnavailable(
            f"endpoint {endpoint_name} is {verdict.status}, but DescribeEndpoint does not name the configuration that "
            f"it serves, so that it may or may not be {wanted_config}",
            do="retry, which checks again",
        )
    if verdict.state is EndpointState.ROLLED_BACK and replaced_config not in (None, verdict.config_name):
        return EndpointTakenOver(
            f"another deployment has moved endpoint {endpoint_name} to configuration {verdict.config_name}, while this "
            f"task waited for {wanted_config}",
            do=f"run this task again only if {wanted_config} is to replace it; have one task at a time deploy an "
            f"endpoint (max_active_runs=1, or a pool of one slot)",
        )
    if verdict.state is EndpointState.ROLLED_BACK:
        return EndpointRolledBack(
            f"endpoint {endpoint_name} did not take configuration {wanted_config}: SageMaker rolled back and it "
            f"serves {verdict.config_name}",
            reason=verdict.reason,
            do=f"correct what the reason, the containers' logs or the alarms of the deployment_config report, then run "
            f"the task again: unchanged, {wanted_config} would be rolled back again",
        )
    if verdict.status == "Deleting":
        return EndpointFailed(
            f"endpoint {endpoint_name} is Deleting: a person, or another task, is deleting it while this task waits "
            f"for it to serve {wanted_config}",
            reason="" if verdict.reason == _NO_REASON else verdict.reason,
            do="find out first who deletes it; a retry waits until it is gone, and creates it again",
        )
    if verdict.state is EndpointState.FAILED:
        mixed = verdict.status == "UpdateRollbackFailed"
        return EndpointFailed(
            f"endpoint {endpoint_name} is {verdict.status}{_with(verdict)}",
            reason=verdict.reason,
            left_behind=_mix_of(verdict, wanted_config) if mixed else "",
            do=_END_OF_MIX
            if mixed
            else "correct what the reason or the containers' logs report; a retry starts again",
        )
    return None


def _with(verdict: EndpointVerdict) -> str:
    return f" with configuration {verdict.config_name}" if verdict.config_name else ""


def cannot_be_changed(
    verdict: EndpointVerdict, *, endpoint_name: str, wanted_config: str
) -> EndpointUnchangeable:
    """Build the error of an endpoint in a status which does not end by itself.

    SageMaker permits only the deletion of a Failed endpoint; in the other statuses this package refuses a change.
    """
    delete = "(SageMakerDeleteEndpointOperator does)"
    effect, remedy, left = {
        "Failed": (
            " and cannot be changed",
            f"delete it first {delete}, give on_failed='recreate', or take another name",
            "",
        ),
        "OutOfService": (
            ": it takes no requests",
            f"find out why; then update it by hand, or delete it {delete} and run the task again",
            "",
        ),
    }.get(verdict.status, (" and is left as it is", _END_OF_MIX, _mix_of(verdict, wanted_config)))
    return EndpointUnchangeable(
        f"endpoint {endpoint_name} is {verdict.status}{_with(verdict)}{effect}",
        reason=verdict.reason,
        left_behind=left,
        do=remedy,
    )


def _mix_of(verdict: EndpointVerdict, wanted_config: str) -> str:
    """Describe what serves after an update failed and its rollback did too."""
    is_wanted = verdict.config_name == wanted_config
    other = "the configuration that it was to take" if is_wanted else wanted_config
    return f"instances of {verdict.config_name}, and perhaps of {other}, go on serving and cost money"


_END_OF_MIX = (
    "correct the reason (capacity, permissions, the container); then update it by hand to the configuration that is to "
    "stay, or, if it may be down meanwhile, delete it (SageMakerDeleteEndpointOperator does) and run the task again"
)
"""What to do when an update failed and its rollback did too."""


def deadline_exceeded(
    verdict: EndpointVerdict, *, endpoint_name: str, seconds: float
) -> EndpointDeadlineExceeded:
    """Build the error of a wait that ran out of time."""
    logs = "" if verdict.status == "Deleting" else ", or read the endpoint's CloudWatch logs"
    return EndpointDeadlineExceeded(
        f"endpoint {endpoint_name} was still {verdict.status} after {duration(seconds)}",
        reason=_MEANWHILE.get(verdict.status, ""),
        do=f"raise max_wait_seconds{logs}",
    )


_MEANWHILE = {
    "Creating": "SageMaker goes on creating it; one that will never serve stays Creating for up to an hour, about half "
    "of that where there is no capacity",
    "Updating": "SageMaker goes on with the update, or with taking it back, and a retry waits for it again",
    "SystemUpdating": "SageMaker goes on with an update of its own, and a retry waits for it again",
    "RollingBack": "SageMaker goes on rolling back, and a retry waits for it again",
    "Deleting": "SageMaker goes on deleting it, and a retry waits for it again",
}


class Step(enum.Enum):
    """The next step towards an endpoint that serves a configuration."""

    CREATE = "create"
    UPDATE = "update"
    AWAIT = "await the wanted configuration"
    WAIT_OUT = "wait until it may be changed"
    NOTHING = "nothing"
    GIVE_UP = "give up"


def next_step(description: Mapping[str, Any] | None, *, wanted_config: str) -> Step:
    """Decide the next step from DescribeEndpoint's answer; None is no endpoint.

    GIVE_UP: a Failed endpoint can only be deleted, and the caller decides that; OutOfService and UpdateRollbackFailed
    (which serves a mix of both configurations) do not end by themselves and need a person who finds the reason.
    """
    if description is None:
        return Step.CREATE
    verdict = judge(description, wanted_config=wanted_config)
    if verdict.state is EndpointState.SERVING:
        return Step.NOTHING
    if verdict.state is EndpointState.ROLLED_BACK:
        return Step.UPDATE
    if verdict.state is EndpointState.WAIT:
        heading_there = verdict.config_name == wanted_config and verdict.status != "Updating"
        return Step.AWAIT if heading_there else Step.WAIT_OUT
    return Step.WAIT_OUT if verdict.status == "Deleting" else Step.GIVE_UP


def locations_written_by(endpoint: Mapping[str, Any] | None) -> dict[str, str]:
    """List an endpoint's S3 output locations by name, for :func:`check_inputs_apart`; none where it is not known."""
    described = endpoint or {}
    outputs = (described.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}
    locations = {
        "the endpoint's S3OutputPath": outputs.get("S3OutputPath"),
        "the endpoint's S3FailurePath": outputs.get("S3FailurePath"),
        "the endpoint's data capture": (described.get("DataCaptureConfig") or {}).get("DestinationS3Uri"),
    }
    return {name: str(uri) for name, uri in locations.items() if str(uri).startswith("s3://")}


def _by_variant(described: Mapping[str, Any], key: str) -> dict[Any, Any]:
    variants = described.get("ProductionVariants") or ()
    return {variant.get("VariantName"): variant.get(key) for variant in variants}


class ScaledCount(NamedTuple):
    """A variant that runs ``current`` instances, and that an update would set to ``initial``."""

    variant_name: str
    current: int
    initial: int


def scaled_counts(
    description: Mapping[str, Any], served: Mapping[str, Any] | None, variants: Sequence[Variant]
) -> list[ScaledCount]:
    """List the variants that were scaled to another count than the wanted configuration begins with.

    New and serverless variants have no ``CurrentInstanceCount``, and do not count.

    :param served: DescribeEndpointConfig's answer for the endpoint's present configuration; without it nothing
        distinguishes a scaled count from a configured one, and no variant counts
    """
    current = _by_variant(description, "CurrentInstanceCount")
    configured = _by_variant(served or {}, "InitialInstanceCount")
    return [
        ScaledCount(name, count, variant.initial_instance_count)
        for variant in variants
        if variant.serverless is None and variant.initial_instance_count is not None
        if (name := variant.variant_name) in configured
        if (count := current.get(name)) not in (None, variant.initial_instance_count, configured[name])
    ]
