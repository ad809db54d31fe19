"""An AutoML job's results besides its candidates: their steps' jobs, an experiment, as many as were asked for."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Generator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.automl.training.plan import BINARY, REGRESSION, TrainingEvent, TrainingPlan
from airflow_sm_plugin.local.automl.training.process import TrainingProcess
from airflow_sm_plugin.local.automl.training.recipes import MOST_CANDIDATES, recipes
from tests.local.automl.test_jobs import _described, job_v1, put, run
from tests.local.conftest import ROLE, Clients, unique

ROWS = "x,z,y\n" + "".join(f"{n},{n * 7 % 10},{'high' if n > 14 else 'low'}\n" for n in range(30))
Record = dict[str, Any]


def job(clients: Clients, mode: str, **config: object) -> Record:
    """Run a job on thirty rows; return its description."""
    config = {"Mode": mode, **config}
    request = job_v1(unique("j"), put(clients, ROWS), f"s3://{clients.bucket}/models", AutoMLJobConfig=config)
    return run(clients, request)


def candidates(clients: Clients, described: Record) -> list[Any]:
    pages = clients.sagemaker.get_paginator("list_candidates_for_auto_ml_job").paginate(
        AutoMLJobName=described["AutoMLJobName"]
    )
    return [candidate for page in pages for candidate in page["Candidates"]]


def exists(clients: Clients, uri: str) -> bool:
    """Check whether there is an object at, or below, an address."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return clients.s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] > 0


@pytest.fixture(scope="module")
def tuned(session_clients: Clients) -> Record:
    return job(session_clients, "HYPERPARAMETER_TUNING", CompletionCriteria={"MaxCandidates": 2})


@pytest.mark.parametrize("mode", ["ENSEMBLING", "HYPERPARAMETER_TUNING"])
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow), 3, 8])
def test_as_many_candidates_are_trained_as_were_asked_for(clients: Clients, mode: str, count: int) -> None:
    described = job(clients, mode, CompletionCriteria={"MaxCandidates": count})
    trained = candidates(clients, described)
    assert len({candidate["CandidateName"] for candidate in trained}) == count
    assert {candidate["CandidateStatus"] for candidate in trained} == {"Completed"}
    ensembles = [
        candidate for candidate in trained if candidate["CandidateName"].startswith("WeightedEnsemble")
    ]
    assert len(ensembles) == (mode == "ENSEMBLING" and count >= 3)


@pytest.mark.parametrize("problem_type", [BINARY, REGRESSION])
@pytest.mark.parametrize("algorithms", [[], ["linear-learner"], ["mlp"], ["xgboost", "extra-trees"]])
def test_variants_stand_in_where_there_are_fewer_recipes(problem_type: str, algorithms: list[str]) -> None:
    asked = recipes(problem_type, algorithms, MOST_CANDIDATES)
    assert len({recipe.name for recipe in asked}) == len(asked) == MOST_CANDIDATES
    settings = [str(sorted(vars(recipe.make()).items(), key=str)) for recipe in asked]
    assert len(set(settings)) == MOST_CANDIDATES, "no two candidates are the same model"
    assert asked[:1] == recipes(problem_type, algorithms)[:1]


def test_the_training_steps_of_a_candidate_are_described(clients: Clients, tuned: Record) -> None:
    for candidate in candidates(clients, tuned):
        _, processor, _, training = (step["CandidateStepName"] for step in candidate["CandidateSteps"])
        for name, container in ((processor, 0), (training, 1)):
            described = clients.sagemaker.describe_training_job(TrainingJobName=name)
            artefact = described["ModelArtifacts"]["S3ModelArtifacts"]
            assert artefact == candidate["InferenceContainers"][container]["ModelDataUrl"]
            assert exists(clients, artefact)
            assert artefact.startswith(described["OutputDataConfig"]["S3OutputPath"])
            assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Completed"
            assert described["AutoMLJobArn"] == tuned["AutoMLJobArn"]
            assert described["RoleArn"] == ROLE
            assert described["TrainingEndTime"] >= described["TrainingStartTime"] >= described["CreationTime"]
            (channel,) = described["InputDataConfig"]
            given = tuned["AutoMLJobInputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
            assert channel["DataSource"]["S3DataSource"]["S3Uri"] == given
        metrics = {metric["MetricName"]: metric["Value"] for metric in described["FinalMetricDataList"]}
        objective = candidate["FinalAutoMLJobObjectiveMetric"]
        assert metrics[f"validation:{objective['MetricName']}"] == pytest.approx(objective["Value"])


def test_the_other_steps_are_described(clients: Clients, tuned: Record) -> None:
    processing, _, transform, _ = (step for step in tuned["BestCandidate"]["CandidateSteps"])
    done = clients.sagemaker.describe_processing_job(ProcessingJobName=processing["CandidateStepName"])
    assert done["ProcessingJobArn"] == processing["CandidateStepArn"]
    assert done["ProcessingJobStatus"] == "Completed"
    assert exists(clients, done["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"])
    transformed = clients.sagemaker.describe_transform_job(TransformJobName=transform["CandidateStepName"])
    assert transformed["TransformJobArn"] == transform["CandidateStepArn"]
    assert transformed["TransformJobStatus"] == "Completed"
    assert exists(clients, transformed["TransformOutput"]["S3OutputPath"])
    model = clients.sagemaker.describe_model(ModelName=transformed["ModelName"])
    assert exists(clients, model["PrimaryContainer"]["ModelDataUrl"])


def test_steps_are_listed_searched_and_tagged(clients: Clients, tuned: Record) -> None:
    step = tuned["BestCandidate"]["CandidateSteps"][-1]
    listed = clients.sagemaker.list_training_jobs(NameContains=step["CandidateStepName"])[
        "TrainingJobSummaries"
    ]
    assert [summary["TrainingJobArn"] for summary in listed] == [step["CandidateStepArn"]]
    assert clients.sagemaker.list_processing_jobs(StatusEquals="Completed")["ProcessingJobSummaries"]
    arn = step["CandidateStepArn"]
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": arn}])
    tagged: Any = {"Filters": [{"Name": "Tags.a", "Operator": "Equals", "Value": arn}]}
    (one,) = clients.sagemaker.search(Resource="TrainingJob", SearchExpression=tagged)["Results"]
    assert one["TrainingJob"]["TrainingJobName"] == step["CandidateStepName"]


def test_an_ensembling_candidate_has_one_step(clients: Clients) -> None:
    job_record = job(clients, "ENSEMBLING", CompletionCriteria={"MaxCandidates": 1})
    (candidate,) = candidates(clients, job_record)
    (step,) = candidate["CandidateSteps"]
    described = clients.sagemaker.describe_training_job(TrainingJobName=step["CandidateStepName"])
    artefact = described["ModelArtifacts"]["S3ModelArtifacts"]
    assert artefact == candidate["InferenceContainers"][0]["ModelDataUrl"]


def test_a_step_that_has_ended_cannot_be_stopped(clients: Clients, tuned: Record) -> None:
    processing, _, transform, training = (
        step["CandidateStepName"] for step in tuned["BestCandidate"]["CandidateSteps"]
    )
    with pytest.raises(ClientError, match="training job is in status Completed"):
        clients.sagemaker.stop_training_job(TrainingJobName=training)
    with pytest.raises(ClientError, match="processing job is in status Completed"):
        clients.sagemaker.stop_processing_job(ProcessingJobName=processing)
    with pytest.raises(ClientError, match="transform job is in status Completed"):
        clients.sagemaker.stop_transform_job(TransformJobName=transform)


def test_the_steps_of_a_stopped_job_are_stopped(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is held when its second candidate has begun; no earlier job has trained on its rows."""
    stopped, train = threading.Event(), TrainingProcess.events

    def held(process: TrainingProcess, plan: TrainingPlan) -> Generator[TrainingEvent]:
        with contextlib.closing(train(process, plan)) as events:
            for event in events:
                yield event
                if event["event"] == "started" and event["number"] == 2:
                    stopped.wait(600)

    monkeypatch.setattr(TrainingProcess, "events", held)
    rows = f"x,{uuid.uuid4().hex},y\n" + "".join(f"{n},{n},{n * n % 97}.5\n" for n in range(30))
    name = unique("j")
    request = job_v1(
        name, put(clients, rows), f"s3://{clients.bucket}/models",
        AutoMLJobConfig={"Mode": "HYPERPARAMETER_TUNING"},
    )  # fmt: skip
    clients.sagemaker.create_auto_ml_job(**request)
    try:
        while len(begun := candidates(clients, {"AutoMLJobName": name})) < 2:
            assert _described(clients, name)["AutoMLJobStatus"] == "InProgress"
        (running,) = (candidate for candidate in begun if candidate["CandidateStatus"] == "InProgress")
        steps = [step["CandidateStepName"] for step in running["CandidateSteps"]]
        with pytest.raises(ClientError, match="Use StopAutoMLJob"):
            clients.sagemaker.stop_training_job(TrainingJobName=steps[-1])
        clients.sagemaker.stop_auto_ml_job(AutoMLJobName=name)
    finally:
        stopped.set()
    while _described(clients, name)["AutoMLJobStatus"] in ("InProgress", "Stopping"):
        pass
    ended = candidates(clients, {"AutoMLJobName": name})
    assert {candidate["CandidateStatus"] for candidate in ended} == {"Completed", "Stopped"}
    for candidate in ended:
        last = candidate["CandidateSteps"][-1]["CandidateStepName"]
        described = clients.sagemaker.describe_training_job(TrainingJobName=last)
        assert described["TrainingJobStatus"] == candidate["CandidateStatus"]
        assert ("ModelArtifacts" in described) == (candidate["CandidateStatus"] == "Completed")


def test_a_job_has_an_experiment_that_can_be_deleted(clients: Clients, tuned: Record) -> None:
    experiment = f"{tuned['AutoMLJobName']}-aws-auto-ml-job"
    described = clients.sagemaker.describe_experiment(ExperimentName=experiment)
    assert described["ExperimentArn"].endswith(f":experiment/{experiment}")
    assert clients.sagemaker.list_trials(ExperimentName=experiment)["TrialSummaries"] == []
    clients.sagemaker.delete_experiment(ExperimentName=experiment)
    with pytest.raises(clients.sagemaker.exceptions.ResourceNotFound):
        clients.sagemaker.describe_experiment(ExperimentName=experiment)
