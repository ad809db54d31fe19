"""Entry point ``airflow.plugins``: registers the operators' extra links. Operators need no registration."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_sm_plugin.links import ALL_LINKS


class SageMakerInferencePlugin(AirflowPlugin):
    """Airflow's registration of the extra links."""

    name = "airflow_sm_plugin"
    operator_extra_links = [link() for link in ALL_LINKS]  # noqa: RUF012 - as Airflow's base spells it
