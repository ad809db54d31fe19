"""The page's routes, behind Airflow's login and permissions. Every route only reads."""

from __future__ import annotations

import time
from collections.abc import Collection

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from airflow_sm_plugin._compat import base_url
from airflow_sm_plugin.core.made_in import airflow_site
from airflow_sm_plugin.page.batches import batches_of
from airflow_sm_plugin.page.cache import BackgroundCache
from airflow_sm_plugin.page.collection import collect
from airflow_sm_plugin.page.lazy_app import URL_PREFIX
from airflow_sm_plugin.page.overview import RegionOverview, ShownBatch, permitted
from airflow_sm_plugin.page.rendering import asset, page_of
from airflow_sm_plugin.page.settings import PageSettings

_FRESH_SECONDS = 30.0
_PATIENCE = 3.0
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; frame-ancestors 'self'; base-uri 'none'; "
        "form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}
_USER = [Depends(requires_access_view(AccessView.WEBSITE))]


def make_app() -> FastAPI:
    """Make the application that Airflow mounts below :data:`~airflow_sm_plugin.page.lazy_app.URL_PREFIX`."""
    app = FastAPI(title="SageMaker endpoints", docs_url=None, redoc_url=None, openapi_url=None)
    cache: BackgroundCache[list[RegionOverview]] = BackgroundCache(
        lambda: collect(PageSettings.read()), fresh_seconds=_FRESH_SECONDS, patience=_PATIENCE
    )

    @app.get("/", dependencies=_USER)
    def page(request: Request, user: GetUserDep) -> HTMLResponse:
        manager, site = get_auth_manager(), airflow_site(base_url())
        dag_ids = manager.get_authorized_dag_ids(user=user, method="GET")
        overview = cache.get()
        shown = [permitted(region, dag_ids, site=site) for region in overview.value] if overview else []
        text = page_of(
            [region for region, _ in shown] if overview else None,
            _batches(user, dag_ids),
            now=time.time(),
            root=str(request.scope.get("root_path", "")).removesuffix(URL_PREFIX),
            age=overview.seconds if overview else None,
            refreshing=overview is None or overview.refreshing,
            hidden=sum(hidden for _, hidden in shown),
        )
        return HTMLResponse(text, headers=_HEADERS)

    @app.get("/{name}", dependencies=_USER)
    def file(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        return Response(asset(name), media_type=_ASSETS[name], headers=_HEADERS)

    return app


def _batches(user: BaseUser, dag_ids: Collection[str]) -> list[ShownBatch]:
    """Read the last batches of the DAGs whose XComs the user is permitted to read."""
    manager = get_auth_manager()
    readable = [
        dag_id
        for dag_id in dag_ids
        if manager.is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.XCOM, details=DagDetails(id=dag_id), user=user
        )
    ]
    with create_session() as session:
        return batches_of(session, readable)
