"""Entry point ``airflow.plugins``: registers links and a page. Operators need no registration."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_sm_plugin.links import ALL_LINKS
from airflow_sm_plugin.page.lazy_app import LazyPage
from airflow_sm_plugin.page.settings import URL_PREFIX, URL_ROUTE


class SageMakerInferencePlugin(AirflowPlugin):
    """Airflow's registration of the extra links and, from Airflow 3.1 on, of the page of endpoints."""

    name = "airflow_sm_plugin"
    operator_extra_links = [link() for link in ALL_LINKS]  # noqa: RUF012 - as Airflow's base spells it
    fastapi_apps = [  # noqa: RUF012 - as above
        {"app": LazyPage(), "url_prefix": URL_PREFIX, "name": "SageMaker endpoints"}
    ]
    external_views = [  # noqa: RUF012 - as above
        {
            "name": "SageMaker endpoints",
            # Without a slash in front, it is below the path at which Airflow itself is served.
            "href": f"{URL_PREFIX.lstrip('/')}/",
            "destination": "nav",
            "category": "browse",
            "url_route": URL_ROUTE,
        }
    ]
