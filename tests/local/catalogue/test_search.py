"""Search: which resources an expression finds, in which order and pages, and what is refused."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from botocore.model import StructureShape

from airflow_sm_plugin.local.catalogue.search import matches, sort_key
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, service_model
from tests.local.conftest import IMAGE, Clients, unique

MODEL = service_model(CONTROL_PLANE)
JOB = cast("StructureShape", MODEL.shape_for("TrainingJob"))
JUNE = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
DESCRIPTION: dict[str, Any] = {
    "TrainingJobName": "job-1",
    "TrainingJobStatus": "Completed",
    "CreationTime": JUNE,
    "EnableNetworkIsolation": False,
    "TrainingTimeInSeconds": 70,
    "HyperParameters": {"depth": "3", "learning.rate": "0.1"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
    "InputDataConfig": [
        {"ChannelName": "train", "ContentType": "text/csv"},
        {"ChannelName": "validation", "ContentType": "application/json"},
    ],
    "Tags": [{"Key": "team", "Value": "red"}, {"Key": "cost.centre", "Value": "7"}],
}


def where(name: str, operator: str | None = None, value: str | None = None) -> dict[str, Any]:
    condition = {"Name": name, "Operator": operator, "Value": value}
    return {key: text for key, text in condition.items() if text is not None}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (where("TrainingJobName", value="job-1"), True),
        (where("TrainingJobName", "Equals", "job"), False),
        (where("TrainingJobName", "NotEquals", "job"), True),
        (where("TrainingJobName", "Contains", "ob-"), True),
        (where("TrainingJobName", "In", "job-0, job-1"), True),
        (where("TrainingJobName", "In", "job-0,job-2"), False),
        (where("FailureReason", "Exists"), False),
        (where("FailureReason", "NotExists"), True),
        (where("FailureReason", "NotEquals", "x"), True),
        (where("FailureReason", "Equals", "x"), False),
        (where("TrainingTimeInSeconds", "GreaterThan", "69.5"), True),
        (where("TrainingTimeInSeconds", "GreaterThanOrEqualTo", "70"), True),
        (where("TrainingTimeInSeconds", "LessThan", "70"), False),
        (where("TrainingTimeInSeconds", "LessThanOrEqualTo", "70"), True),
        (where("TrainingTimeInSeconds", "Equals", "70.0"), True),
        (where("CreationTime", "GreaterThan", "2026-06-01T11:59:59Z"), True),
        (where("CreationTime", "LessThan", "2026-06-01T12:00:00"), False),
        (where("CreationTime", "GreaterThan", "2026-06-01T13:30:00+02:00"), True),
        (where("EnableNetworkIsolation", "Equals", "false"), True),
        (where("HyperParameters.depth", "Equals", "3"), True),
        (where("HyperParameters.learning.rate", "Equals", "0.1"), True),
        (where("HyperParameters.width", "Exists"), False),
        (where("ResourceConfig.InstanceCount", "Equals", "2"), True),
        (where("ResourceConfig.InstanceType", "Contains", "m5"), True),
        (where("InputDataConfig.ChannelName", "Equals", "validation"), True),
        (where("InputDataConfig.ChannelName", "NotEquals", "validation"), False),
        (where("InputDataConfig", "Exists"), True),
        (where("Tags.team", "Equals", "red"), True),
        (where("Tags.team", "Equals", "blue"), False),
        (where("Tags.cost.centre", "Equals", "7"), True),
        (where("Tags.none", "NotExists"), True),
    ],
)
def test_a_filter(condition: Mapping[str, Any], holds: bool) -> None:
    assert matches(DESCRIPTION, {"Filters": [condition]}, JOB) is holds


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (where("Nonsense", "Equals", "x"), "Unknown property name: Nonsense"),
        (where("TrainingJobName.x", "Equals", "x"), "Unknown property name: TrainingJobName.x"),
        (where("trainingJobName", "Equals", "x"), "Unknown property name: trainingJobName"),
        (where("TrainingJobName", "Equals"), "needs a Value"),
        (where("TrainingJobName", "Exists", "x"), "takes no Value"),
        (where("TrainingJobName", "GreaterThan", "x"), "for numbers and times"),
        (where("TrainingTimeInSeconds", "Contains", "7"), "for text"),
        (
            where("TrainingTimeInSeconds", "Equals", "many"),
            "Invalid value for property TrainingTimeInSeconds",
        ),
        (where("CreationTime", "GreaterThan", "yesterday"), "Invalid value for property CreationTime"),
        (where("ResourceConfig", "Equals", "x"), "which is a structure"),
    ],
)
def test_a_filter_that_is_none_is_refused(condition: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ValidationFailure, match=reason):
        matches(DESCRIPTION, {"Filters": [condition]}, JOB)


def test_filters_are_joined_by_and_or() -> None:
    true, false = where("TrainingJobName", value="job-1"), where("TrainingJobName", value="x")
    assert not matches(DESCRIPTION, {"Filters": [true, false]}, JOB)
    assert matches(DESCRIPTION, {"Filters": [true, false], "Operator": "Or"}, JOB)
    nested = {"SubExpressions": [{"Filters": [false]}, {"Filters": [true]}], "Operator": "Or"}
    assert matches(DESCRIPTION, nested, JOB)
    assert not matches(DESCRIPTION, {**nested, "Operator": "And"}, JOB)
    assert matches(DESCRIPTION, {}, JOB)


@pytest.mark.parametrize("prefix", ["", "InputDataConfig."])
def test_nested_filters_are_about_one_element(prefix: str) -> None:
    def expression(channel: str, content_type: str) -> dict[str, Any]:
        filters = [
            where(f"{prefix}ChannelName", value=channel),
            where(f"{prefix}ContentType", value=content_type),
        ]
        return {"NestedFilters": [{"NestedPropertyName": "InputDataConfig", "Filters": filters}]}

    assert matches(DESCRIPTION, expression("train", "text/csv"), JOB)
    assert not matches(DESCRIPTION, expression("train", "application/json"), JOB)
    with pytest.raises(ValidationFailure, match="Unknown property name: Nonsense"):
        matches({}, {"NestedFilters": [{"NestedPropertyName": "Nonsense", "Filters": []}]}, JOB)


def test_what_cannot_be_ordered_is_no_sort_key() -> None:
    assert sort_key(DESCRIPTION, "CreationTime", JOB) > sort_key({}, "CreationTime", JOB)
    with pytest.raises(ValidationFailure, match="Cannot sort by property: ResourceConfig"):
        sort_key(DESCRIPTION, "ResourceConfig", JOB)


def names(response: Mapping[str, Any], member: str) -> list[str]:
    return [result[member][f"{member}Name"] for result in response["Results"]]


def test_endpoints_and_models_are_found(clients: Clients) -> None:
    team = unique("team")
    endpoint = clients.deploy()
    described = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
    clients.sagemaker.add_tags(ResourceArn=described["EndpointArn"], Tags=[{"Key": "team", "Value": team}])

    response = clients.sagemaker.search(
        Resource="Endpoint",
        SearchExpression={
            "Filters": [
                {"Name": "Tags.team", "Operator": "Equals", "Value": team},
                {"Name": "EndpointStatus", "Operator": "Equals", "Value": "InService"},
            ]
        },
    )
    assert names(response, "Endpoint") == [endpoint]
    assert response["TotalHits"] == {"Value": 1, "Relation": "EqualTo"}
    (hit,) = response["Results"]
    assert hit["Endpoint"]["EndpointArn"] == described["EndpointArn"]
    assert hit["Endpoint"]["Tags"] == [{"Key": "team", "Value": team}]
    assert hit["Endpoint"]["CreationTime"] == described["CreationTime"]

    config = clients.sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    model = config["ProductionVariants"][0]["ModelName"]
    by_name: Any = {"Filters": [{"Name": "ModelName", "Value": model}]}
    (shown,) = clients.sagemaker.search(Resource="Model", SearchExpression=by_name)["Results"]
    assert shown["Model"]["Model"]["ModelName"] == model
    assert [served["EndpointName"] for served in shown["Model"]["Endpoints"]] == [endpoint]

    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    clients.wait_until_deleted(endpoint)
    by_arn: Any = {"Filters": [{"Name": "EndpointArn", "Value": described["EndpointArn"]}]}
    assert clients.sagemaker.search(Resource="Endpoint", SearchExpression=by_arn)["Results"] == []


def test_the_model_registry_is_found_in_order_and_pages(clients: Clients) -> None:
    group = unique("group")
    clients.sagemaker.create_model_package_group(
        ModelPackageGroupName=group, Tags=[{"Key": "of", "Value": group}]
    )
    for status in ("Approved", "Rejected", "Approved"):
        clients.sagemaker.create_model_package(
            ModelPackageGroupName=group,
            ModelApprovalStatus=status,
            InferenceSpecification={
                "Containers": [{"Image": IMAGE}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
        )
    mine: Any = {"Name": "ModelPackageGroupName", "Operator": "Equals", "Value": group}
    approved: Any = {"Name": "ModelApprovalStatus", "Operator": "Equals", "Value": "Approved"}

    response = clients.sagemaker.search(
        Resource="ModelPackage", SearchExpression={"Filters": [mine, approved]}
    )
    assert [result["ModelPackage"]["ModelPackageVersion"] for result in response["Results"]] == [3, 1]

    pages = clients.sagemaker.get_paginator("search").paginate(
        Resource="ModelPackage",
        SearchExpression={"Filters": [mine]},
        SortBy="ModelPackageVersion",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 2},
    )
    versions = [
        [result["ModelPackage"]["ModelPackageVersion"] for result in page["Results"]] for page in pages
    ]
    assert versions == [[1, 2], [3]]

    tagged: Any = {"Filters": [{"Name": "Tags.of", "Operator": "Equals", "Value": group}]}
    groups = clients.sagemaker.search(Resource="ModelPackageGroup", SearchExpression=tagged)
    assert names(groups, "ModelPackageGroup") == [group]


def test_what_moto_keeps_is_found_alike(clients: Clients) -> None:
    experiment, trial, component = unique("experiment"), unique("trial"), unique("component")
    created = clients.sagemaker.create_experiment(
        ExperimentName=experiment, Tags=[{"Key": "a", "Value": experiment}]
    )
    clients.sagemaker.create_trial(TrialName=trial, ExperimentName=experiment)
    clients.sagemaker.create_trial_component(TrialComponentName=component)
    clients.sagemaker.associate_trial_component(TrialComponentName=component, TrialName=trial)

    by_tag: Any = {"Filters": [{"Name": "Tags.a", "Operator": "In", "Value": f"x,{experiment}"}]}
    (hit,) = clients.sagemaker.search(Resource="Experiment", SearchExpression=by_tag)["Results"]
    assert hit["Experiment"]["ExperimentArn"] == created["ExperimentArn"]
    of: Any = {"Filters": [{"Name": "ExperimentName", "Operator": "Equals", "Value": experiment}]}
    response = clients.sagemaker.search(Resource="ExperimentTrial", SearchExpression=of)
    assert [result["Trial"]["TrialName"] for result in response["Results"]] == [trial]
    of = {"Filters": [{"Name": "Parents.ExperimentName", "Operator": "Equals", "Value": experiment}]}
    response = clients.sagemaker.search(Resource="ExperimentTrialComponent", SearchExpression=of)
    assert [result["TrialComponent"]["TrialComponentName"] for result in response["Results"]] == [component]


@pytest.mark.parametrize(
    "resource",
    ["FeatureGroup", "FeatureMetadata", "Image", "ImageVersion", "Project", "HyperParameterTuningJob", "ModelCard",
     "PipelineExecution"],
)  # fmt: skip
def test_kinds_that_are_not_here_are_refused(clients: Clients, resource: Any) -> None:  # noqa: ANN401 - a literal
    with pytest.raises(ClientError, match=f"does not search resources of type {resource}"):
        clients.sagemaker.search(Resource=resource)


def test_a_wrong_expression_is_refused_also_where_there_is_nothing_to_find(clients: Clients) -> None:
    wrong: Any = {"Filters": [{"Name": "Nonsense", "Operator": "Equals", "Value": "x"}]}
    with pytest.raises(ClientError, match=r"\(ValidationException\).*Unknown property name: Nonsense"):
        clients.sagemaker.search(Resource="Pipeline", SearchExpression=wrong)
    with pytest.raises(ClientError, match="Cannot sort by property: Nonsense"):
        clients.sagemaker.search(Resource="Endpoint", SortBy="Nonsense")
