"""Entry point ``airflow.plugins``: the user-interface side of the package. Operators need no registration."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_sm_plugin.links import BatchReportLink, DataCaptureLink, EndpointConsoleLink, EndpointLogsLink


class SageMakerInferencePlugin(AirflowPlugin):
    """Make Airflow know the extra links of our operators."""

    name = "airflow_sm_plugin"
    operator_extra_links = [  # noqa: RUF012 - as Airflow's base spells it
        EndpointConsoleLink(),
        EndpointLogsLink(),
        DataCaptureLink(),
        BatchReportLink(),
    ]
