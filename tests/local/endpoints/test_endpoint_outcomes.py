"""Outcomes of a deployment that are set over HTTP: rollbacks, failures, statuses that stay."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.faults.outcomes import CAPACITY_REASON, DeploymentOutcome, Outcomes
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import Clients, changed_settings, clients_of, unique
from tests.local.faults.test_faults import control

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
HELD = {"endpoint_updating_seconds": 3600.0, "endpoint_rolling_back_seconds": 3600.0}
LASTS = {"Updating": "endpoint_updating_seconds", "RollingBack": "endpoint_rolling_back_seconds"}


@pytest.fixture
def clients(sagemaker_server: EmbeddedSageMaker, session_clients: Clients) -> Iterator[Clients]:
    """Clients of the service; nothing stays set."""
    yield session_clients
    sagemaker_server.outcomes.clear()


def following(clients: Clients, name: str, held: Settings | None = None) -> tuple[list[str], dict[str, Any]]:
    """Return the statuses an endpoint passes until it rests, and its last description.

    :param held: of a service in which statuses are HELD: each may end once it was seen
    """
    statuses: list[str] = []
    described: dict[str, Any] = {}
    setback = "The deployment is being rolled back."
    while not statuses or statuses[-1] in ("Creating", "Updating", "RollingBack", "SystemUpdating"):
        described = dict(clients.sagemaker.describe_endpoint(EndpointName=name))
        if described["EndpointStatus"] not in statuses[-1:]:
            statuses.append(described["EndpointStatus"])
            if held and statuses[-1] in LASTS:
                held.change({LASTS[statuses[-1]]: 0})
        if held and setback in json.dumps(described, default=str):
            held.change({"endpoint_rolling_back_seconds": 0})
    return statuses, described


@pytest.mark.parametrize("reason", ["out of luck", None])
def test_an_update_that_fails_stays_updating_until_it_is_back_with_or_without_a_reason(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, reason: str | None
) -> None:
    name = clients.deploy()
    before = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    control(sagemaker_server, "PUT", f"endpoints/{name}/next", {"end": "RolledBack", "reason": reason})
    new = clients.create_config(clients.create_model())
    with changed_settings(sagemaker_server, **HELD) as held:
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)
        statuses, described = following(clients, name, held)
    assert statuses == ["Updating", "InService"]
    assert described["EndpointConfigName"] == before
    assert described.get("FailureReason") == reason
    clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)
    clients.wait_for_endpoint(name)
    assert clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == new


def test_a_real_rollback_stays_updating_too() -> None:
    with EmbeddedSageMaker(settings=Settings(**HELD)) as embedded:
        clients = clients_of(embedded.url)
        name = clients.deploy()
        bad = clients.create_config(clients.create_model("raise RuntimeError"))
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bad)
        assert following(clients, name, embedded.settings)[0] == ["Updating", "InService"]


def test_an_outcome_says_how_long_it_takes_whatever_the_settings_say(
    sagemaker_server: EmbeddedSageMaker, clients: Clients
) -> None:
    name = clients.deploy()
    outcome = {"end": "RolledBack", "seconds": 0.2, "rolling_back_seconds": 0.2}
    control(sagemaker_server, "PUT", f"endpoints/{name}/next", outcome)
    new = clients.create_config(clients.create_model())
    with changed_settings(sagemaker_server, **HELD):
        began = time.monotonic()
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)
        assert following(clients, name)[0][-1] == "InService"
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("then", ["update", "delete"])
def test_a_rollback_that_failed_serves_and_can_be_updated_or_deleted(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, then: str
) -> None:
    name = clients.deploy()
    control(sagemaker_server, "PUT", f"endpoints/{name}/next", {"end": "UpdateRollbackFailed"})
    new = clients.create_config(clients.create_model())
    clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)
    statuses, described = following(clients, name)
    assert statuses[-1] == "UpdateRollbackFailed"
    assert described["FailureReason"] == CAPACITY_REASON
    assert clients.runtime.invoke_endpoint(EndpointName=name, Body=b"echo")["Body"].read() == b"echo"
    if then == "update":
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)
        clients.wait_for_endpoint(name)
    else:
        clients.sagemaker.delete_endpoint(EndpointName=name)
        clients.wait_until_deleted(name)


def test_a_creation_fails_for_want_of_capacity_and_a_glob_says_for_whom(
    sagemaker_server: EmbeddedSageMaker, clients: Clients
) -> None:
    part = unique("scarce")
    control(sagemaker_server, "PUT", f"endpoints/{part}-*/next", [{"end": "Failed"}, {"end": "OutOfService"}])
    config = clients.create_config(clients.create_model())
    ends = []
    for number in range(3):
        clients.sagemaker.create_endpoint(EndpointName=f"{part}-{number}", EndpointConfigName=config)
        ends.append(following(clients, f"{part}-{number}")[1])
    assert [description["EndpointStatus"] for description in ends] == ["Failed", "OutOfService", "InService"]
    assert ends[0]["FailureReason"] == CAPACITY_REASON
    assert "FailureReason" not in ends[1]
    with pytest.raises(ClientError, match="not found"):
        clients.runtime.invoke_endpoint(EndpointName=f"{part}-1", Body=b"?")
    with pytest.raises(ClientError, match="Cannot update failed endpoint"):
        clients.sagemaker.update_endpoint(EndpointName=f"{part}-0", EndpointConfigName=config)
    clients.sagemaker.update_endpoint(EndpointName=f"{part}-1", EndpointConfigName=config)
    clients.wait_for_endpoint(f"{part}-1")


def test_a_scaling_that_fails_shows_rolling_back(
    sagemaker_server: EmbeddedSageMaker, clients: Clients
) -> None:
    name = clients.deploy()
    control(sagemaker_server, "PUT", f"endpoints/{name}/next", {"end": "RolledBack", "on": "scale"})
    with changed_settings(sagemaker_server, **HELD) as held:
        clients.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}],
        )
        statuses, described = following(clients, name, held)
    assert statuses == ["Updating", "RollingBack", "InService"]
    (variant,) = described["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
    assert described["FailureReason"] == CAPACITY_REASON


def test_a_status_comes_by_itself_and_stays_as_long_as_set(
    sagemaker_server: EmbeddedSageMaker, clients: Clients
) -> None:
    name = clients.deploy()
    config = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    status = f"endpoints/{name}/status"
    control(sagemaker_server, "PUT", status, {"status": "SystemUpdating"})
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        clients.sagemaker.delete_endpoint(EndpointName=name)
    assert clients.runtime.invoke_endpoint(EndpointName=name, Body=b"echo")["Body"].read() == b"echo"
    assert clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "SystemUpdating"
    control(sagemaker_server, "PUT", status, {"status": "InService"})
    assert following(clients, name)[0] == ["InService"]
    began = time.monotonic()
    control(sagemaker_server, "PUT", status, {"status": "SystemUpdating", "seconds": 0.2})
    assert following(clients, name)[0][-1] == "InService"
    assert time.monotonic() - began >= 0.2
    control(sagemaker_server, "PUT", status, {"status": "Failed", "reason": "a fire"})
    assert following(clients, name)[1]["FailureReason"] == "a fire"
    with pytest.raises(ClientError, match="not found"):
        clients.runtime.invoke_endpoint(EndpointName=name, Body=b"?")
    clients.sagemaker.delete_endpoint(EndpointName=name)
    clients.wait_until_deleted(name)


@pytest.mark.parametrize(
    ("route", "value", "says"),
    [
        ("any/next", {"end": "Exploded"}, "end must be one of InService, RolledBack, UpdateRollbackFailed"),
        ("any/next", {"end": "RolledBack", "on": "create"}, "a creation cannot end RolledBack"),
        ("any/next", {"end": "UpdateRollbackFailed", "on": "scale"}, "a scaling cannot end"),
        ("any/next", {"stop": 1}, "unknown stop; known are end, on, reason"),
        ("any/next", {"seconds": -1}, "seconds must be a number of seconds >= 0, or null, not -1"),
        ("any/next", {"times": 0}, "times must be a whole number from 1, or null for ever, not 0"),
        ("any/next", [1], "an outcome is an object, not 1"),
        ("missing/status", {"status": "Failed"}, "there is no endpoint missing"),
        ("missing/status", {"status": "Deleting"}, "status must be one of OutOfService, Creating"),
        ("missing/status", {"state": "Failed"}, "a status is"),
    ],
)
def test_what_cannot_be_set_is_refused_with_the_reason(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, route: str, value: object, says: str
) -> None:
    clients.sagemaker.list_endpoints()  # makes the region exist
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(sagemaker_server, "PUT", f"endpoints/{route}", value)
    assert (refused.value.code, says in json.load(refused.value)["message"]) == (400, True)
    refused.value.close()
    assert control(sagemaker_server, "GET", "endpoints") == {"next": []}


def test_outcomes_are_used_up_in_order_each_by_what_it_is_for() -> None:
    outcomes = Outcomes()
    failed, back, always = (
        DeploymentOutcome(end="Failed", on="create"),
        DeploymentOutcome(end="RolledBack"),
        DeploymentOutcome(times=None),
    )
    twice = DeploymentOutcome(end="OutOfService", times=2)
    outcomes.replace("mine-*", [failed, back, twice, always])
    assert outcomes.take("other", "create").end == "InService"
    assert [outcomes.take("mine-1", "update").end for _ in range(4)] == [
        "RolledBack",
        "OutOfService",
        "OutOfService",
        "InService",
    ]
    assert outcomes.take("mine-2", "create") == failed
    assert [outcome["endpoints"] for outcome in outcomes.as_json()] == ["mine-*"]
    outcomes.replace("mine-*", [])
    assert outcomes.as_json() == []


def test_a_new_configuration_is_seen_only_after_a_while() -> None:
    with EmbeddedSageMaker(settings=Settings(endpoint_config_delay_seconds=3600)) as embedded:
        clients = clients_of(embedded.url)
        config, name = clients.create_config(clients.create_model()), unique("endpoint")
        clients.sagemaker.describe_endpoint_config(EndpointConfigName=config)
        message = f'Could not find endpoint configuration "{ARN}:endpoint-config/{config}".'
        assert _refusal(clients, name, config) == {"Code": "ValidationException", "Message": message}
        embedded.settings.endpoint_config_delay_seconds = 0.1
        while _refusal(clients, name, config):
            continue
        clients.wait_for_endpoint(name)
        embedded.settings.endpoint_config_delay_seconds = 3600
        new = clients.create_config(clients.create_model())
        with pytest.raises(ClientError, match=f"Could not find endpoint configuration .*{new}"):
            clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)


def test_an_endpoint_whose_configuration_was_deleted_cannot_be_updated(clients: Clients) -> None:
    name = clients.deploy()
    old = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    clients.sagemaker.delete_endpoint_config(EndpointConfigName=old)
    new = clients.create_config(clients.create_model())
    with pytest.raises(ClientError, match=f"Could not find endpoint configuration .*{old}"):
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=new)


def _refusal(clients: Clients, name: str, config: str) -> object:
    """Create an endpoint; return the error, None when it was created."""
    try:
        clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    except ClientError as error:
        return error.response["Error"]
    return None
