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
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_sm_plugin._compat import base_url
from airflow_sm_plugin.page.batches import batches_of
from airflow_sm_plugin.page.cache import BackgroundCache
from airflow_sm_plugin.page.collection import collect
from airflow_sm_plugin.page.overview import RegionOverview, dags_in, permitted
from airflow_sm_plugin.page.rendering import asset, page_of
from airflow_sm_plugin.page.settings import URL_PREFIX, PageSettings
from airflow_sm_plugin.resources.made_in import airflow_site

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
    """Make the application that Airflow mounts below :data:`~airflow_sm_plugin.page.settings.URL_PREFIX`."""
    app = FastAPI(title="SageMaker endpoints", docs_url=None, redoc_url=None, openapi_url=None)
    cache: BackgroundCache[list[RegionOverview]] = BackgroundCache(
        lambda: collect(PageSettings.read()), fresh_seconds=_FRESH_SECONDS, patience=_PATIENCE
    )

    @app.get("/", dependencies=_USER)
    def page(request: Request, user: GetUserDep) -> HTMLResponse:
        overview, dag_ids = cache.get(), get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
        with create_session() as session:
            batches = batches_of(session, _with_readable_xcoms(user, dag_ids))
            regions = overview.value if overview else []
            dag_ids |= _readable_though_deleted(session, user, dags_in(regions))
        site = airflow_site(base_url())
        shown = [permitted(region, dag_ids, site=site) for region in regions]
        text = page_of(
            [region for region, _ in shown] if overview else None,
            batches,
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


def _with_readable_xcoms(user: BaseUser, dag_ids: Collection[str]) -> list[str]:
    manager, entity = get_auth_manager(), DagAccessEntity.XCOM
    return [
        dag_id
        for dag_id in dag_ids
        if manager.is_authorized_dag(
            method="GET", access_entity=entity, details=DagDetails(id=dag_id), user=user
        )
    ]


def _readable_though_deleted(session: Session, user: BaseUser, dag_ids: Collection[str]) -> set[str]:
    """Choose the DAGs that Airflow has no more and that the user may read: what they made is easily forgotten."""
    existing = set(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(list(dag_ids)))))
    manager = get_auth_manager()
    return {
        dag_id
        for dag_id in set(dag_ids) - existing
        if manager.is_authorized_dag(method="GET", details=DagDetails(id=dag_id), user=user)
    }
