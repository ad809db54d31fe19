"""Entry point ``airflow.plugins``: registers the operators' extra links. Operators need no registration."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_sm_plugin.links import BatchReportLink, DataCaptureLink, EndpointConsoleLink, EndpointLogsLink


class SageMakerInferencePlugin(AirflowPlugin):
    """Airflow's registration of the extra links."""

    name = "airflow_sm_plugin"
    operator_extra_links = [  # noqa: RUF012 - as Airflow's base spells it
        EndpointConsoleLink(),
        EndpointLogsLink(),
        DataCaptureLink(),
        BatchReportLink(),
    ]
