"""Where containers' logs are in CloudWatch Logs."""

from __future__ import annotations


def endpoint_log_group(endpoint_name: str) -> str:
    """Return the log group of an endpoint's containers."""
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"


FRESH_LINES_SECONDS = 4.0
"""Seconds that a line may take to show in CloudWatch Logs; those of the embedded service take up to one."""

TRANSFORM_JOBS_LOG_GROUP = "/aws/sagemaker/TransformJobs"
"""The log group of all transform jobs' containers (SageMaker Developer Guide, "CloudWatch Logs")."""


def transform_job_streams(job_name: str) -> str:
    """Return how the names of a transform job's log streams begin: ``<job>/<instance>-<epoch>``, and ``…/data-log``."""
    return f"{job_name}/"
