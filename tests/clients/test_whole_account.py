"""Clients that see SageMaker from aside: tags, Search, the tagging API, CloudFormation, and jobs that do not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.clients.conftest import IMAGE, ROLE, Workbench, unique


def refusal(call: Callable[[], object], code: str) -> str:
    """Return the text of an error that no client repeats."""
    with pytest.raises(ClientError) as refused:
        call()
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    return refused.value.response["Error"]["Message"]


def create_model(workbench: Workbench, **tags: str) -> str:
    """Create a model with tags, return its ARN."""
    return workbench.sagemaker.create_model(
        ModelName=unique("model"),
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": workbench.model_data},
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )["ModelArn"]


@pytest.mark.parametrize(
    "resource",
    ["model/none", "endpoint/none", "endpoint-config/none", "transform-job/none", "automl-job/none",
     "model-package-group/none", "model-package/none/1", "training-job/none", "processing-job/none", "pipeline/none",
     "inference-component/none", "model/With-Capitals"],
)  # fmt: skip
def test_tags_of_a_resource_that_is_not_there(workbench: Workbench, resource: str) -> None:
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:{resource}"
    client = workbench.sagemaker
    tags: Any = [{"Key": "k", "Value": "v"}]
    for call in (
        lambda: client.list_tags(ResourceArn=arn),
        lambda: client.add_tags(ResourceArn=arn, Tags=tags),
        lambda: client.delete_tags(ResourceArn=arn, TagKeys=["k"]),
    ):
        assert arn in refusal(call, "ValidationException")


def test_search_finds_what_was_made(workbench: Workbench) -> None:
    team, group = unique("team"), unique("group")
    arn = create_model(workbench, team=team)
    workbench.sagemaker.create_model_package_group(
        ModelPackageGroupName=group, Tags=[{"Key": "team", "Value": team}]
    )
    mine: Any = {"Filters": [{"Name": "Tags.team", "Operator": "Equals", "Value": team}]}
    search = workbench.sagemaker.search
    (model,) = search(Resource="Model", SearchExpression=mine)["Results"]
    assert model["Model"]["Model"]["ModelArn"] == arn
    (found,) = search(Resource="ModelPackageGroup", SearchExpression=mine)["Results"]
    assert found["ModelPackageGroup"]["ModelPackageGroupName"] == group
    message = refusal(lambda: search(Resource="FeatureGroup"), "ValidationException")
    assert "does not search resources of type FeatureGroup" in message


def test_the_tagging_api_finds_what_was_made(workbench: Workbench) -> None:
    team = unique("team")
    arn = create_model(workbench, team=team)
    tagging: Any = boto3.client("resourcegroupstaggingapi")
    filters = [{"Key": "team", "Values": [team]}]
    (found,) = tagging.get_resources(ResourceTypeFilters=["sagemaker:model"], TagFilters=filters)[
        "ResourceTagMappingList"
    ]
    assert found == {"ResourceARN": arn, "Tags": [{"Key": "team", "Value": team}]}
    assert tagging.get_tag_values(Key="team")["TagValues"].count(team) == 1


def test_a_stack_with_a_sagemaker_model_is_refused(workbench: Workbench) -> None:
    cloudformation: Any = boto3.client("cloudformation")
    stack = unique("stack")
    model = {"Type": "AWS::SageMaker::Model", "Properties": {"ExecutionRoleArn": ROLE}}
    body = json.dumps({"Resources": {"Mine": model, "Queue": {"Type": "AWS::SQS::Queue"}}})
    create = lambda: cloudformation.create_stack(StackName=stack, TemplateBody=body)  # noqa: E731 - passed on
    assert "Mine (AWS::SageMaker::Model)" in refusal(create, "ValidationError")
    assert "does not exist" in refusal(
        lambda: cloudformation.describe_stacks(StackName=stack), "ValidationError"
    )


def test_jobs_that_would_only_be_pretended_are_refused(workbench: Workbench) -> None:
    client: Any = workbench.sagemaker
    name, output = unique("job"), f"s3://{workbench.bucket}/out"
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
    training = {
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": resources,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    limits = {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}
    unknown = "UnknownOperationException"
    assert "does not run training jobs" in refusal(
        lambda: client.create_training_job(TrainingJobName=name, **training), unknown
    )
    assert "does not run processing jobs" in refusal(
        lambda: client.create_processing_job(
            ProcessingJobName=name,
            ProcessingResources={"ClusterConfig": resources},
            AppSpecification={"ImageUri": IMAGE},
            RoleArn=ROLE,
        ),
        unknown,
    )
    assert "does not run hyperparameter tuning jobs" in refusal(
        lambda: client.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name[:32],
            HyperParameterTuningJobConfig={"Strategy": "Random", "ResourceLimits": limits},
        ),
        unknown,
    )
    refusal(lambda: client.describe_training_job(TrainingJobName=name), "ValidationException")
