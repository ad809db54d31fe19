"""Deploy a job's best candidate to an endpoint when ModelDeployConfig asks for it."""

from __future__ import annotations

import threading
import uuid

from airflow_sm_plugin.local.account.operations import Params, handler_of
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.automl.jobs.request import JobRequest
from airflow_sm_plugin.local.protocol.errors import ServiceError

_INSTANCE = "ml.m5.2xlarge"
_LOOK_SECONDS = 0.1


class DeploymentFailed(Exception):
    """The endpoint could not be created or did not come into service."""


def deploy(region: Region, request: JobRequest, candidate: Record, *, interrupted: threading.Event) -> str:
    """Create model, configuration and endpoint; return the endpoint's name once it is in service.

    Returns early when ``interrupted``. Raises DeploymentFailed.
    """
    name = f"{request.name[:40]}-{uuid.uuid4().hex[:8]}"
    endpoint = str((request.deploy or {}).get("EndpointName") or name)
    variant = {
        "VariantName": "main",
        "ModelName": name,
        "InstanceType": _INSTANCE,
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }
    model = {"ExecutionRoleArn": request.role, "Containers": candidate["InferenceContainers"]}
    try:
        _call(region, "CreateModel", {"ModelName": name, **model})
        _call(region, "CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]})
        _call(region, "CreateEndpoint", {"EndpointName": endpoint, "EndpointConfigName": name})
        return _in_service(region, endpoint, interrupted)
    except ServiceError as error:
        raise DeploymentFailed(f"The best candidate could not be deployed: {error.message}") from error


def _in_service(region: Region, endpoint: str, interrupted: threading.Event) -> str:
    while not interrupted.is_set():
        found = _call(region, "DescribeEndpoint", {"EndpointName": endpoint})
        if found["EndpointStatus"] == "Failed":
            raise DeploymentFailed(f"Endpoint {endpoint} failed: {found.get('FailureReason', '')}")
        if found["EndpointStatus"] == "InService":
            break
        interrupted.wait(_LOOK_SECONDS)
    return endpoint


def _call(region: Region, operation: str, params: Params) -> Record:
    handler = handler_of(operation)
    if handler is None:
        raise DeploymentFailed(f"{operation} is not available.")
    return handler(region, params)
