"""The page over HTTP, behind Airflow's own login: who sees it, what it shows, and that nothing on it is active."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from time import sleep

import pytest

pytest.importorskip("airflow.api_fastapi.core_api.security", reason="the page is for Airflow 3.1 and later")

import httpx
import uvicorn
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI

from airflow_sm_plugin.core.names import CREATED_IN_TAG, OWNER_TAG
from airflow_sm_plugin.page.lazy_app import LazyPage
from airflow_sm_plugin.page.settings import URL_PREFIX
from airflow_sm_plugin.resources.made_in import MadeIn
from tests.endpoint_trials import control
from tests.support import Account, closed_port, unique

PAGE = f"{URL_PREFIX}/"
COOKIE = "_token"


@pytest.fixture(autouse=True)
def _airflow_signs_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-of-the-tests" * 4)
    create_auth_manager()


@contextmanager
def served(root_path: str = "") -> Iterator[httpx.Client]:
    """Serve the page as Airflow mounts it; its cache is its own. Yield a client that has not signed in."""
    app = FastAPI(root_path=root_path)
    app.mount(URL_PREFIX, LazyPage())
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(airflow_db: None, account: Account) -> Iterator[httpx.Client]:
    with served() as opened:
        yield opened


def sign_in(client: httpx.Client, role: str | None) -> None:
    user = SimpleAuthManagerUser(username=f"user-{uuid.uuid4().hex}", role=role)
    client.cookies.set(COOKIE, create_auth_manager().generate_jwt(user))


@pytest.fixture
def viewer(client: httpx.Client) -> httpx.Client:
    sign_in(client, "viewer")
    return client


def tagged_endpoint(
    account: Account, *, dag_id: str = "churn", run_id: str = "manual__1", site: str = ""
) -> str:
    """An endpoint with the tags of a task; it starts no process."""
    made = MadeIn(dag_id, run_id, "deploy", site=site)
    name, config = unique("endpoint"), account.create_config(account.create_model(multi_model=True))
    tags = {OWNER_TAG: made.owner, CREATED_IN_TAG: str(made.as_tag())}
    account.sagemaker.create_endpoint(
        EndpointName=name,
        EndpointConfigName=config,
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    account.wait_for_endpoint(name)
    return name


@pytest.fixture
def endpoint(account: Account) -> Iterator[str]:
    name = tagged_endpoint(account)
    yield name
    account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize("path", [PAGE, f"{URL_PREFIX}/page.css", f"{URL_PREFIX}/page.js", f"{URL_PREFIX}/x"])
def test_without_a_login_there_is_nothing(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert "SageMaker" not in answer.text


def test_an_invented_token_is_refused(client: httpx.Client) -> None:
    client.cookies.set(COOKIE, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGUiOiJhZG1pbiJ9.")
    assert client.get(PAGE).status_code in (401, 403)


def test_a_user_without_permission_is_refused(client: httpx.Client, endpoint: str) -> None:
    sign_in(client, None)
    answer = client.get(PAGE)
    assert answer.status_code == 403
    assert endpoint not in answer.text


def test_a_viewer_sees_the_endpoint_its_instance_and_its_run(viewer: httpx.Client, endpoint: str) -> None:
    answer = viewer.get(PAGE)
    assert answer.status_code == 200
    row = re.sub(r"\s+", " ", answer.text[answer.text.index(endpoint) :].partition("</tr>")[0])
    assert "InService" in row
    assert "ml.m5.large \u00d7 1" in row
    assert "not yet" in row
    assert 'href="/dags/churn/runs/manual__1"' in row


def test_links_are_below_the_path_of_airflow(airflow_db: None, account: Account, endpoint: str) -> None:
    """Airflow is served below a path of its own where a proxy says so."""
    with served("/airflow") as opened:
        sign_in(opened, "viewer")
        assert 'href="/airflow/dags/churn/runs/manual__1"' in opened.get(f"/airflow{PAGE}").text


def test_an_endpoint_of_another_airflow_is_shown_without_its_dag(
    viewer: httpx.Client, account: Account
) -> None:
    name = tagged_endpoint(account, dag_id="secret_dag", site="ffffffff")
    text = viewer.get(PAGE).text
    assert name in text
    assert "secret_dag" not in text
    account.sagemaker.delete_endpoint(EndpointName=name)


def test_nothing_on_the_page_is_active(viewer: httpx.Client, endpoint: str) -> None:
    answer = viewer.get(PAGE)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; style-src 'self'; script-src 'self'; frame-ancestors 'self'"
    )
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == (
        "nosniff",
        "no-store",
    )
    assert re.findall(r"<script[^>]*>", answer.text) == ['<script src="page.js" defer>']
    assert not re.search(r"\son\w+=|style=|<form|<style", answer.text)
    for path, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        assert viewer.get(f"{URL_PREFIX}/{path}").headers["content-type"].startswith(kind)
    assert viewer.get(f"{URL_PREFIX}/app.py").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_page_only_reads(viewer: httpx.Client, method: str) -> None:
    assert viewer.request(method, PAGE).status_code == 405


@pytest.mark.parametrize(
    "action",
    [
        "tag:GetResources",
        "sagemaker:ListEndpoints",
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "cloudwatch:GetMetricData",
    ],
)
def test_a_missing_permission_is_named(
    viewer: httpx.Client, account: Account, endpoint: str, action: str
) -> None:
    """The endpoint is shown with what is known, once it has been found."""
    service, _, operation = action.partition(":")
    signed_for = {"tag": "tagging:", "cloudwatch": "monitoring:"}.get(service, "")
    rule = {"fault": "error", "operation": signed_for + operation, "code": "AccessDeniedException"}
    control(account, "POST", "faults", [rule])
    try:
        text = viewer.get(PAGE).text
    finally:
        control(account, "DELETE", "faults")
    assert f"{action} is not permitted: allow it to the role of connection aws_default" in text
    assert (endpoint in text) == (operation not in ("GetResources", "ListEndpoints"))


def test_aws_that_does_not_answer_does_not_break_the_page(
    viewer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    answer = viewer.get(PAGE)
    assert answer.status_code == 200
    assert "AWS has not answered yet" in answer.text or "tag:GetResources failed" in answer.text


def test_connections_and_regions_come_from_the_configuration(
    viewer: httpx.Client, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AIRFLOW__SAGEMAKER_INFERENCE__REGIONS", "eu-west-1, us-east-1")
    monkeypatch.setenv("AIRFLOW__SAGEMAKER_INFERENCE__CONNECTIONS", "aws_default,no_such_connection")
    text = viewer.get(PAGE).text
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:2] == ["eu-west-1 · aws_default", "us-east-1 · aws_default"]
    assert len(headings) == 5
    assert endpoint in text


def test_an_airflow_without_the_parts_of_the_page_goes_on(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow_sm_plugin.page.app", None)
    answer = client.get(PAGE)
    assert (answer.status_code, answer.text) == (501, "This page needs Airflow 3.1 or later.")
