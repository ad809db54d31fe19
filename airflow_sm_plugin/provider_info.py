"""Entry point ``apache_airflow_provider``: description of this package for Airflow's providers manager."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the package in the format of Airflow's provider_info schema."""
    return {
        "package-name": "airflow-sm-plugin",
        "name": "SageMaker inference",
        "description": "Amazon SageMaker inference: Autopilot export, models, endpoints, scaling, invocations.",
        "extra-links": [
            "airflow_sm_plugin.links.EndpointConsoleLink",
            "airflow_sm_plugin.links.EndpointLogsLink",
            "airflow_sm_plugin.links.DataCaptureLink",
            "airflow_sm_plugin.links.BatchReportLink",
            "airflow_sm_plugin.links.ResultLink",
            "airflow_sm_plugin.links.OutputsLink",
            "airflow_sm_plugin.links.FailuresLink",
        ],
    }
