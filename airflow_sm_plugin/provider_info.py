"""Entry point ``apache_airflow_provider``: description of this package for Airflow's providers manager."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Amazon SageMaker inference"


def _modules(folder: str, *names: str) -> list[dict[str, Any]]:
    modules = [f"airflow_sm_plugin.{folder}.{name}" for name in names]
    return [{"integration-name": _INTEGRATION, "python-modules": modules}]


def get_provider_info() -> dict[str, Any]:
    """Describe the package in the format of Airflow's provider_info schema."""
    return {
        "package-name": "airflow-sm-plugin",
        "name": "SageMaker inference",
        "description": "Amazon SageMaker inference: Autopilot export, models, endpoints, scaling, invocations.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.aws.amazon.com/sagemaker/",
                "tags": ["aws"],
            },
        ],
        "operators": _modules(
            "operators",
            *("async_batch", "autopilot", "autoscaling", "endpoint", "endpoint_deletion", "idle_endpoints"),
            *("invoke", "invoke_async", "model", "multi_model", "multi_model_batch"),
        ),
        "sensors": _modules("sensors", "async_inference"),
        "hooks": _modules("hooks", "runtime"),
        "triggers": _modules("triggers", "async_inference", "autopilot", "endpoint"),
        "extra-links": [
            "airflow_sm_plugin.links.EndpointConsoleLink",
            "airflow_sm_plugin.links.EndpointLogsLink",
            "airflow_sm_plugin.links.DataCaptureLink",
            "airflow_sm_plugin.links.BatchReportLink",
            "airflow_sm_plugin.links.ResultLink",
            "airflow_sm_plugin.links.OutputsLink",
            "airflow_sm_plugin.links.FailuresLink",
        ],
        "config": {
            "sagemaker_inference": {
                "description": "The page of SageMaker endpoints in Airflow's web interface.",
                "options": {
                    "connections": {
                        "description": "Ids of the Airflow connections, separated by commas, whose endpoints it shows.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "aws_default, aws_production",
                        "default": "aws_default",
                    },
                    "regions": {
                        "description": "AWS regions, separated by commas; empty is the connection's own region.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "eu-west-1, us-east-1",
                        "default": "",
                    },
                },
            },
        },
    }
