"""Each SageMaker operation of moto is ours, passed on, or refused; none that only pretends is answered."""

from __future__ import annotations

import pytest
import requests
from botocore.exceptions import ClientError
from moto.core.utils import camelcase_to_underscores
from moto.sagemaker.responses import SageMakerResponse

from airflow_sm_plugin.local.account import operations
from airflow_sm_plugin.local.account.operations import NOT_AVAILABLE, PASSED_ON
from airflow_sm_plugin.local.protocol.errors import UnknownOperationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, service_model
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import Clients, unique

MOTOS = sorted(
    name
    for name in service_model(CONTROL_PLANE).operation_names
    if hasattr(SageMakerResponse, camelcase_to_underscores(name))
)


def is_answered_here(name: str) -> bool:
    operations.load()
    try:
        return operations.handler_of(name) is not None
    except UnknownOperationFailure:
        return False


@pytest.mark.parametrize("name", MOTOS)
def test_each_operation_of_moto_is_decided(name: str) -> None:
    decisions = [is_answered_here(name), name in PASSED_ON, name in NOT_AVAILABLE]
    assert sum(decisions) == 1, "decide in operations.py whether moto does what the operation says"


def test_what_is_passed_on_and_refused_is_motos() -> None:
    assert set(MOTOS) >= PASSED_ON | NOT_AVAILABLE.keys()


@pytest.mark.parametrize(
    "name", ["CreateWhatMotoGetsNextYear", "createTrainingJob", "Create_Training_Job", ""]
)
def test_an_undecided_operation_is_refused(name: str) -> None:
    with pytest.raises(UnknownOperationFailure, match=f"does not answer this: {name}"):
        operations.handler_of(name)


@pytest.mark.parametrize("name", sorted(NOT_AVAILABLE))
def test_what_moto_only_pretends_is_refused(sagemaker_server: EmbeddedSageMaker, name: str) -> None:
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sagemaker/aws4_request, "
        "SignedHeaders=host, Signature=0",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"SageMaker.{name}",
    }
    answer = requests.post(sagemaker_server.url, data="{}", headers=headers, timeout=600)
    assert answer.status_code == 400
    assert answer.json() == {
        "__type": "UnknownOperationException",
        "message": f"The embedded SageMaker does not {NOT_AVAILABLE[name]}: {name} is not available",
    }


def test_a_training_job_is_neither_run_nor_there(clients: Clients) -> None:
    name = unique("training")
    with pytest.raises(ClientError, match="does not run training jobs"):
        clients.sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingImage": "i:1", "TrainingInputMode": "File"},
            RoleArn="arn:aws:iam::123456789012:role/sagemaker",
            OutputDataConfig={"S3OutputPath": f"s3://{clients.bucket}/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
    with pytest.raises(ClientError, match=r"\(ValidationException\).*Requested resource not found"):
        clients.sagemaker.describe_training_job(TrainingJobName=name)
    with pytest.raises(ClientError, match=f"Could not find requested job with name: {name}"):
        clients.sagemaker.describe_processing_job(ProcessingJobName=name)
    assert clients.sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []


def test_records_that_moto_keeps_are_kept(clients: Clients) -> None:
    experiment, trial = unique("experiment"), unique("trial")
    clients.sagemaker.create_experiment(ExperimentName=experiment)
    clients.sagemaker.create_trial(TrialName=trial, ExperimentName=experiment)
    listed = clients.sagemaker.list_trials(ExperimentName=experiment)["TrialSummaries"]
    assert [summary["TrialName"] for summary in listed] == [trial]


def test_a_record_that_moto_misses_is_said_to_be_missing(clients: Clients) -> None:
    with pytest.raises(clients.sagemaker.exceptions.ResourceNotFound, match="could not find nothing-there"):
        clients.sagemaker.describe_experiment(ExperimentName="nothing-there")
