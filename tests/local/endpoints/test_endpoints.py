"""Endpoints' lives: statuses, blue/green updates, rollback, scaling, deletion."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import Clients, changed_settings, clients_of, unique

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint"


def says(word: str) -> str:
    """Return code that answers ``word`` and its process id."""
    return f"""
import json, os
def model_fn(model_dir): return "{word}"
def transform_fn(model, data, content_type, accept): return json.dumps([model, os.getpid()])
"""


def _ask(clients: Clients, endpoint: str, variant: str | None = None) -> tuple[str, int, str]:
    target = {"TargetVariant": variant} if variant else {}
    answer = clients.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"?", **target)
    word, pid = json.loads(answer["Body"].read())
    return word, pid, answer["InvokedProductionVariant"]


def _two_variants(clients: Clients, **weights: float) -> str:
    config = unique("config")
    clients.sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            {
                "VariantName": name,
                "ModelName": clients.create_model(says(name)),
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": weight,
            }
            for name, weight in weights.items()
        ],
    )
    return config


def test_an_endpoint_is_described_with_what_serves_behind_it(clients: Clients) -> None:
    model = clients.create_model(says("one"))
    output = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}
    config = clients.create_config(model, AsyncInferenceConfig=output)
    name = unique("Endpoint")
    created = clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert created["EndpointArn"] == f"{ARN}/{name.lower()}"
    clients.wait_for_endpoint(name)
    described = clients.sagemaker.describe_endpoint(EndpointName=name)
    (variant,) = described["ProductionVariants"]
    image = variant["DeployedImages"][0]
    assert described["EndpointConfigName"] == config
    assert described["AsyncInferenceConfig"] == output
    assert described["CreationTime"] <= described["LastModifiedTime"]
    assert "FailureReason" not in dict(described)
    assert (variant["VariantName"], variant["CurrentWeight"], variant["DesiredWeight"]) == (
        "AllTraffic",
        1.0,
        1.0,
    )
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
    assert image["ResolvedImage"].startswith(image["SpecifiedImage"].partition(":")[0] + "@sha256:")
    listed = clients.sagemaker.list_endpoints(NameContains=name, StatusEquals="InService")["Endpoints"]
    assert [summary["EndpointName"] for summary in listed] == [name]
    assert clients.sagemaker.list_endpoints(NameContains=name, StatusEquals="Failed")["Endpoints"] == []


def test_names_are_taken_and_missing_in_the_services_words(clients: Clients) -> None:
    name = clients.deploy()
    config = clients.create_config(clients.create_model())
    with pytest.raises(ClientError) as taken:
        clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert taken.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": f'Cannot create already existing endpoint "{ARN}/{name}".',
    }
    missing = f'Could not find endpoint "{ARN}/missing".'
    with pytest.raises(ClientError, match=missing):
        clients.sagemaker.describe_endpoint(EndpointName="missing")
    with pytest.raises(ClientError, match=missing):
        clients.sagemaker.delete_endpoint(EndpointName="missing")
    with pytest.raises(ClientError, match=missing):
        clients.sagemaker.update_endpoint(EndpointName="missing", EndpointConfigName=config)
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        clients.sagemaker.create_endpoint(EndpointName=unique("e"), EndpointConfigName="missing")


def test_nothing_changes_an_endpoint_in_progress() -> None:
    with EmbeddedSageMaker(settings=Settings(endpoint_creating_seconds=3600)) as slow:
        clients = clients_of(slow.url)
        config = clients.create_config(clients.create_model())
        name = unique("endpoint")
        clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
        in_progress = f'Cannot update in-progress endpoint "{ARN}/{name}".'
        with pytest.raises(ClientError, match=in_progress):
            clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
        with pytest.raises(ClientError, match=in_progress):
            clients.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=name,
                DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 1}],
            )
        with pytest.raises(ClientError, match=in_progress):
            clients.sagemaker.delete_endpoint(EndpointName=name)
        with pytest.raises(ClientError, match=f"Endpoint {name} of account 123456789012 not found."):
            clients.runtime.invoke_endpoint(EndpointName=name, Body=b"x")


def test_an_update_serves_without_a_gap_and_then_runs_the_new_configuration(
    sagemaker_server: EmbeddedSageMaker, clients: Clients
) -> None:
    name = clients.deploy(says("one"))
    _, old_pid, _ = _ask(clients, name)
    config = clients.create_config(clients.create_model(says("two")))
    with changed_settings(sagemaker_server, endpoint_updating_seconds=3600):
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
        updating = clients.sagemaker.describe_endpoint(EndpointName=name)
        words = [_ask(clients, name)[0]]
    assert updating["EndpointStatus"] == "Updating"
    assert updating["EndpointConfigName"] != config
    assert updating["PendingDeploymentSummary"]["EndpointConfigName"] == config
    while words[-1] != "two":
        words.append(_ask(clients, name)[0])
    assert set(words[:-1]) == {"one"}
    clients.wait_for_endpoint(name)
    described = clients.sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointConfigName"] == config
    assert "PendingDeploymentSummary" not in dict(described)
    assert _ask(clients, name)[1] != old_pid


def test_an_update_lets_the_old_instances_finish_what_they_are_answering(
    clients: Clients, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waits = f"""
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    with open("{gate}") as opened:
        return opened.read()
"""
    name = clients.deploy(waits)
    with ThreadPoolExecutor(max_workers=1) as pool:
        answer = pool.submit(clients.runtime.invoke_endpoint, EndpointName=name, Body=b"?")
        with gate.open("w") as opened:  # opens once the container has begun to read
            config = clients.create_config(clients.create_model(says("two")))
            clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
            clients.wait_for_endpoint(name)
            assert _ask(clients, name)[0] == "two"
            opened.write("from the old one")
        assert answer.result()["Body"].read() == b"from the old one"


def test_a_failed_update_ends_in_service_with_the_old_configuration(clients: Clients) -> None:
    name = clients.deploy(says("one"))
    before = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    bad = clients.create_config(clients.create_model("raise RuntimeError"))
    clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bad)
    clients.wait_for_endpoint(name)
    described = clients.sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointConfigName"] == before
    assert described["FailureReason"] == (
        "The primary container for production variant AllTraffic did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    assert _ask(clients, name)[0] == "one"


def test_a_failed_endpoint_can_only_be_deleted(clients: Clients) -> None:
    config = clients.create_config(clients.create_model("raise RuntimeError"))
    name = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    status = "Creating"
    while status == "Creating":
        status = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
    assert status == "Failed"
    with pytest.raises(ClientError, match="Cannot update failed endpoint"):
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    clients.sagemaker.delete_endpoint(EndpointName=name)
    clients.wait_until_deleted(name)


def test_instances_are_processes_in_a_round_robin_and_can_be_more_or_fewer(clients: Clients) -> None:
    name = clients.deploy(says("one"), instances=2)
    assert sorted(Counter(_ask(clients, name)[1] for _ in range(4)).values()) == [2, 2]
    for count in (1, 3):
        clients.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": count}],
        )
        clients.wait_for_endpoint(name)
        (variant,) = clients.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == variant["DesiredInstanceCount"] == count
        assert len({_ask(clients, name)[1] for _ in range(count * 2)}) == count


def test_no_instance_no_answer(clients: Clients) -> None:
    name = clients.deploy(says("one"))
    clients.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}],
    )
    clients.wait_for_endpoint(name)
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        _ask(clients, name)


def test_traffic_follows_weights_unless_a_variant_is_named(clients: Clients) -> None:
    config = _two_variants(clients, left=1, right=0)
    name = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    clients.wait_for_endpoint(name)
    assert {_ask(clients, name)[2] for _ in range(20)} == {"left"}
    assert _ask(clients, name, "right")[::2] == ("right", "right")
    with pytest.raises(ClientError, match="Variant missing of endpoint"):
        _ask(clients, name, "missing")
    clients.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "left", "DesiredWeight": 0},
            {"VariantName": "right", "DesiredWeight": 2},
        ],
    )
    clients.wait_for_endpoint(name)
    assert {_ask(clients, name)[2] for _ in range(20)} == {"right"}

    again = _two_variants(clients, left=1, right=0)
    clients.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=again, RetainAllVariantProperties=True
    )
    clients.wait_for_endpoint(name)
    variants = clients.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    assert {variant["VariantName"]: variant["CurrentWeight"] for variant in variants} == {
        "left": 0.0,
        "right": 2.0,
    }
    with pytest.raises(ClientError, match="missing"):
        clients.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "missing", "DesiredWeight": 1}]
        )


def test_deleting_an_endpoint_leaves_its_configuration_and_model_and_frees_its_name(clients: Clients) -> None:
    name = clients.deploy(says("one"))
    config = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    clients.sagemaker.delete_endpoint(EndpointName=name)
    with pytest.raises(ClientError, match="not found"):
        clients.runtime.invoke_endpoint(EndpointName=name, Body=b"x")
    clients.wait_until_deleted(name)
    variants = clients.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    clients.sagemaker.describe_model(ModelName=variants[0]["ModelName"])
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    clients.wait_for_endpoint(name)
    assert _ask(clients, name)[0] == "one"


def test_what_runs_does_not_mind_that_its_configuration_and_model_are_deleted(clients: Clients) -> None:
    name = clients.deploy(says("one"))
    config = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    variants = clients.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    clients.sagemaker.delete_endpoint_config(EndpointConfigName=config)
    clients.sagemaker.delete_model(ModelName=variants[0]["ModelName"])
    assert _ask(clients, name)[0] == "one"
    assert clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == config


def test_a_serverless_variant_serves(clients: Clients) -> None:
    config, name = unique("config"), unique("endpoint")
    clients.sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            {
                "VariantName": "small",
                "ModelName": clients.create_model(says("serverless")),
                "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5},
            }
        ],
    )
    created = clients.sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=config, Tags=[{"Key": "team", "Value": "red"}]
    )
    clients.wait_for_endpoint(name)
    assert _ask(clients, name)[0] == "serverless"
    (variant,) = clients.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    assert variant["CurrentServerlessConfig"]["MemorySizeInMB"] == 1024
    tags = clients.sagemaker.list_tags(ResourceArn=created["EndpointArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "red"}]
