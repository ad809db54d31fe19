"""Where containers' logs are in CloudWatch Logs."""

from __future__ import annotations


def endpoint_log_group(endpoint_name: str) -> str:
    """Return the log group of an endpoint's containers."""
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"
