"""ExportAutopilotModel, on jobs that were really trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException, AirflowSkipException
from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS
from airflow_sm_plugin.exceptions import AutoMLJobStillRunning, SageMakerInferenceError, Throttled
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.resources.model import CONTENT_TAG
from tests.operators.conftest import Jobs
from tests.releases import calls_from_now, once
from tests.support import (
    POLL,
    ROLE,
    Account,
    Answer,
    Requests,
    answering,
    context_for,
    deferred,
    event_of,
    rebuilt,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

ALL_KEYS = ["predicted_label", "probability", "probabilities", "labels"]
OUTPUT, INPUT = "SAGEMAKER_INFERENCE_OUTPUT", "SAGEMAKER_INFERENCE_INPUT"
SUPPORTED = "SAGEMAKER_INFERENCE_SUPPORTED"


def export(job: str, **arguments: Any) -> SageMakerExportAutopilotModelOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {
        "execution_role": ROLE,
        "poll_interval": POLL,
        "deferrable": False,
        "aws_conn_id": None,
    }
    return SageMakerExportAutopilotModelOperator(task_id="export", auto_ml_job_name=job, **usual | arguments)


def containers(account: Account, model: str) -> list[dict[str, Any]]:
    described = account.sagemaker.describe_model(ModelName=model)
    return list(described.get("Containers") or [described["PrimaryContainer"]])  # type: ignore[arg-type] # plain dicts


def environments(account: Account, model: str) -> list[dict[str, str]]:
    return [container.get("Environment", {}) for container in containers(account, model)]


def refusal(job: str, **arguments: Any) -> str:  # noqa: ANN401 - the operator's own
    """Return the message of an export that no retry can mend."""
    with pytest.raises(AirflowFailException) as caught:
        export(job, **arguments).execute(context_for())
    assert isinstance(caught.value.__context__, SageMakerInferenceError)
    return str(caught.value)


def test_the_best_tuned_candidate_becomes_a_pipeline_that_answers_the_keys_in_their_order(
    account: Account, jobs: Jobs
) -> None:
    keys = ["probability", "predicted_label"]

    result = run_task(lambda: export(jobs.tuned_binary, inference_response_keys=keys))

    best = account.sagemaker.describe_auto_ml_job(AutoMLJobName=jobs.tuned_binary)["BestCandidate"]
    metric = best["FinalAutoMLJobObjectiveMetric"]
    assert result == {
        "model_name": result["model_name"],
        "model_arn": account.sagemaker.describe_model(ModelName=result["model_name"])["ModelArn"],
        "auto_ml_job_name": jobs.tuned_binary,
        "candidate_name": best["CandidateName"],
        "objective": {"name": metric["MetricName"], "type": metric.get("Type"), "value": metric["Value"]},
        "inference_response_keys": keys,
    }
    assert json.loads(json.dumps(result)) == result
    first, second, third = environments(account, result["model_name"])
    assert first == best["InferenceContainers"][0]["Environment"]
    assert second[OUTPUT] == "probability,predicted_label"
    assert INPUT not in second
    assert third[INPUT] == third[OUTPUT] == "probability,predicted_label"


def test_labels_are_made_by_the_last_container_only(account: Account, jobs: Jobs) -> None:
    result = run_task(lambda: export(jobs.tuned_binary, inference_response_keys=["labels", "probabilities"]))
    _, second, third = environments(account, result["model_name"])
    assert second[OUTPUT] == third[INPUT] == "probabilities"
    assert third[OUTPUT] == "labels,probabilities"


def test_an_exported_model_answers_the_keys_it_was_exported_with(account: Account, jobs: Jobs) -> None:
    result = run_task(lambda: export(jobs.ensembled_multiclass, inference_response_keys=ALL_KEYS))
    config, endpoint = account.create_config(result["model_name"]), unique("endpoint")
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    account.wait_for_endpoint(endpoint)

    answer = account.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"0.500,0.5\n", ContentType="text/csv", Accept="application/json"
    )

    (prediction,) = json.load(answer["Body"])["predictions"]
    assert list(prediction) == ALL_KEYS
    assert prediction["predicted_label"] == "class-0"
    account.sagemaker.delete_endpoint(EndpointName=endpoint)


@pytest.mark.parametrize("keys", [(), [], None])
def test_without_keys_the_containers_stay_as_the_candidate_has_them(
    account: Account, jobs: Jobs, keys: list[str] | None
) -> None:
    result = run_task(lambda: export(jobs.tuned_binary, inference_response_keys=keys))
    best = account.sagemaker.describe_auto_ml_job(AutoMLJobName=jobs.tuned_binary)["BestCandidate"]
    assert environments(account, result["model_name"]) == [
        container["Environment"] for container in best["InferenceContainers"]
    ]
    assert result["inference_response_keys"] == []


def test_a_regression_job_is_exported_without_keys(account: Account, jobs: Jobs) -> None:
    result = run_task(lambda: export(jobs.tuned_regression))
    made = containers(account, result["model_name"])
    assert len(made) == 2
    assert all(SUPPORTED not in container.get("Environment", {}) for container in made)


def test_an_ensembling_job_of_the_second_api_version_has_one_container(account: Account, jobs: Jobs) -> None:
    result = run_task(lambda: export(jobs.ensembled_multiclass, inference_response_keys=ALL_KEYS))
    (environment,) = environments(account, result["model_name"])
    assert environment[OUTPUT] == ",".join(ALL_KEYS)
    assert INPUT not in environment


def test_a_named_candidate_is_exported_instead_of_the_best(account: Account, jobs: Jobs) -> None:
    best = account.sagemaker.describe_auto_ml_job(AutoMLJobName=jobs.tuned_binary)["BestCandidate"]
    listing = account.sagemaker.list_candidates_for_auto_ml_job(AutoMLJobName=jobs.tuned_binary)["Candidates"]
    other = next(candidate for candidate in listing if candidate["CandidateName"] != best["CandidateName"])

    result = run_task(lambda: export(jobs.tuned_binary, candidate_name=other["CandidateName"]))

    assert result["candidate_name"] == other["CandidateName"]
    assert [candidate.get("ModelDataUrl") for candidate in containers(account, result["model_name"])] == [
        candidate["ModelDataUrl"] for candidate in other["InferenceContainers"]
    ]


def test_a_second_run_finds_the_model_it_made(account: Account, jobs: Jobs, requests: Requests) -> None:
    keys = ["predicted_label", "labels"]
    first = run_task(lambda: export(jobs.tuned_binary, inference_response_keys=keys))
    second = run_task(lambda: export(jobs.tuned_binary, inference_response_keys=keys))
    assert second == first
    assert requests.changes() == ["CreateModel"]


def test_another_order_of_keys_is_another_model(jobs: Jobs) -> None:
    names = [
        run_task(partial(export, jobs.ensembled_multiclass, inference_response_keys=keys))["model_name"]
        for keys in (["labels", "probability"], ["probability", "labels"])
    ]
    assert len(set(names)) == 2


def test_a_name_of_ones_own_is_used_and_reused(account: Account, jobs: Jobs) -> None:
    name = unique("mine")
    for _ in range(2):
        assert run_task(lambda: export(jobs.tuned_regression, model_name=name))["model_name"] == name


def test_a_name_taken_by_another_model_is_a_conflict_without_environment_values(
    account: Account, jobs: Jobs
) -> None:
    name = account.create_model(environment={"A_TOKEN": "a-secret-value"})
    message = refusal(jobs.ensembled_multiclass, model_name=name)
    assert message.startswith(f"ResourceConflict: model {name} exists already with other content")
    assert "A_TOKEN" in message
    assert "Do: choose another name" in message
    assert "a-secret-value" not in message


def test_a_role_may_be_given_by_name(account: Account, jobs: Jobs) -> None:
    import boto3

    role = unique("role")
    arn = boto3.client("iam", endpoint_url=account.url).create_role(
        RoleName=role, AssumeRolePolicyDocument="{}"
    )
    result = run_task(lambda: export(jobs.tuned_regression, execution_role=role, model_name=unique("model")))
    described = account.sagemaker.describe_model(ModelName=result["model_name"])
    assert described["ExecutionRoleArn"] == arn["Role"]["Arn"]


@pytest.mark.usefixtures("jobs")
class TestBadInput:
    """Each refusal names the fault and the remedy, spends no retry and creates nothing."""

    @pytest.fixture(autouse=True)
    def _nothing_is_created(self, requests: Requests) -> Iterator[None]:
        requests.forget()  # the jobs' training
        yield
        assert requests.changes() == []

    def test_keys_the_candidate_does_not_support(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_binary, inference_response_keys=["predicted_label", "Label", "score"])
        assert "ResponseKeysNotSupported" in message
        assert "'Label', 'score'" in message
        assert "it supports predicted_label, probability, labels, probabilities (case-sensitive)" in message

    def test_keys_of_a_regression_job(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_regression, inference_response_keys=["predicted_label"])
        assert "cannot select its response content" in message
        assert "leave inference_response_keys empty" in message

    def test_keys_as_one_text(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_binary, inference_response_keys="predicted_label,labels")
        assert "inference_response_keys must be a list, or text of one as JSON or Python writes it" in message

    def test_a_key_twice(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_binary, inference_response_keys=["labels", "labels"])
        assert "more than once: labels, labels" in message

    def test_a_job_without_a_best_candidate(self, jobs: Jobs) -> None:
        message = refusal(jobs.definitions_only)
        assert f"CandidateNotFound: AutoML job {jobs.definitions_only} has no best candidate" in message
        assert "run a job that trains, or name a candidate" in message

    def test_a_failed_job(self, jobs: Jobs) -> None:
        message = refusal(jobs.failed)
        assert f"AutoMLJobFailed: AutoML job {jobs.failed} ended Failed" in message
        assert "no_such_column" in message  # SageMaker's own reason
        assert "Do: run a new job" in message

    def test_a_stopped_job(self, jobs: Jobs) -> None:
        message = refusal(jobs.stopped)
        assert f"AutoMLJobFailed: AutoML job {jobs.stopped} ended Stopped" in message

    def test_a_job_that_does_not_exist(self) -> None:
        message = refusal("no-such-job")
        assert (
            "AutoMLJobNotFound: there is no AutoML job no-such-job in us-east-1\nDo: correct its name"
            in message
        )

    def test_a_candidate_that_does_not_exist(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_binary, candidate_name="no-such-candidate")
        assert f"AutoML job {jobs.tuned_binary} has no candidate 'no-such-candidate'" in message
        assert "leave it out for the best one" in message

    def test_a_candidate_name_that_is_only_the_start_of_one(self, account: Account, jobs: Jobs) -> None:
        best = account.sagemaker.describe_auto_ml_job(AutoMLJobName=jobs.tuned_binary)["BestCandidate"]
        assert "has no candidate" in refusal(jobs.tuned_binary, candidate_name=best["CandidateName"][:-1])

    def test_a_model_name_over_63_characters(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_binary, model_name="m" * 64)
        assert f"InvalidName: the model name '{'m' * 64}' has 64 characters" in message
        assert "up to 63: shorten it" in message

    def test_a_model_name_with_bad_characters(self, jobs: Jobs) -> None:
        message = refusal(jobs.tuned_binary, model_name="my_model.v1")
        assert "the model name 'my_model.v1' holds '.' '_'" in message
        assert "letters, digits, and hyphens between them" in message

    def test_no_job_name_and_no_role(self, jobs: Jobs) -> None:
        assert "auto_ml_job_name must be given" in refusal("")
        assert "execution_role must be given" in refusal(jobs.tuned_binary, execution_role="")


def test_a_running_job_fails_the_task_and_a_retry_may_help(running_job: Callable[[float], str]) -> None:
    job = running_job(3600)
    with pytest.raises(AutoMLJobStillRunning) as caught:
        export(job).execute(context_for())
    assert f"AutoML job {job} is InProgress" in str(caught.value)
    assert "wait_for_job=True" in str(caught.value)


def completed_once_described(account: Account, job: str) -> AbstractContextManager[None]:
    """Have a running job complete in the block, when it has been described twice."""
    polls = calls_from_now(account, "DescribeAutoMLJobV2", job)
    return once(lambda: len(polls()) >= 2, partial(account.change_settings, automl_seconds=0))


def test_a_blocking_wait_exports_when_the_job_has_completed(
    account: Account, running_job: Callable[[float], str]
) -> None:
    job = running_job(3600)
    with completed_once_described(account, job):
        result = run_task(lambda: export(job, wait_for_job=True, inference_response_keys=["labels"]))
    assert result["auto_ml_job_name"] == job
    assert result["inference_response_keys"] == ["labels"]


def test_a_deferred_wait_exports_when_the_job_has_completed(
    account: Account, running_job: Callable[[float], str]
) -> None:
    job = running_job(3600)
    with completed_once_described(account, job):
        deferral = deferred(export(job, wait_for_job=True, deferrable=True))
        event = event_of(rebuilt(deferral.trigger))
    result = export(job, wait_for_job=True, deferrable=True).execute_complete(context_for(), event)
    assert result["candidate_name"].startswith(job)


def test_a_deferrable_export_of_an_ended_job_does_not_defer(jobs: Jobs) -> None:
    result = export(jobs.tuned_regression, wait_for_job=True, deferrable=True).execute(context_for())
    assert result["auto_ml_job_name"] == jobs.tuned_regression


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wait_that_sees_nothing_any_more_gives_up_long_before_its_deadline(
    account: Account, running_job: Callable[[float], str], monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    job = running_job(3600)
    throttled = Answer(400, "ThrottlingException", "Rate exceeded")
    sent_once = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    with answering(None, *[throttled] * 100, otherwise=account.url) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(Throttled):
            run_task(
                partial(export, job, wait_for_job=True, deferrable=deferrable, botocore_config=sent_once)
            )
    assert len(asked) == 1 + MAX_FAILED_POLLS + 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_poll_that_sees_the_job_makes_good_the_failed_ones_before_it(
    account: Account, running_job: Callable[[float], str], monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    job = running_job(3600)
    throttled = Answer(400, "ThrottlingException", "Rate exceeded")
    sent_once = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    bad_moment = [throttled] * MAX_FAILED_POLLS
    with answering(None, *bad_moment, None, *bad_moment, throttled, otherwise=account.url) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(Throttled):
            run_task(
                partial(export, job, wait_for_job=True, deferrable=deferrable, botocore_config=sent_once)
            )
    assert len(asked) == 1 + len(bad_moment) + 1 + len(bad_moment) + 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wait_that_takes_too_long_says_so_and_may_be_retried(
    running_job: Callable[[float], str], deferrable: bool
) -> None:
    job = running_job(3600)
    with pytest.raises(AutoMLJobStillRunning) as caught:
        run_task(lambda: export(job, wait_for_job=True, max_wait_seconds=0.2, deferrable=deferrable))
    still = f"AutoML job {job} was still InProgress after 200 ms"
    assert str(caught.value).startswith(f"{still}\nLeft behind: AutoML job {job} goes on")
    assert "costs money" in str(caught.value)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_that_is_stopped_while_one_waits_fails_for_good(
    account: Account, running_job: Callable[[float], str], deferrable: bool
) -> None:
    job = running_job(3600)
    account.sagemaker.stop_auto_ml_job(AutoMLJobName=job)
    with pytest.raises(AirflowFailException, match=f"AutoML job {job} ended Stopped"):
        run_task(lambda: export(job, wait_for_job=True, deferrable=deferrable))


def test_nothing_of_a_containers_environment_is_logged(
    jobs: Jobs, account: Account, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, logger="airflow_sm_plugin")
    result = run_task(lambda: export(jobs.tuned_binary, inference_response_keys=["labels"]))
    out, err = capsys.readouterr()
    for environment in environments(account, result["model_name"]):
        for value in environment.values():
            if len(value) > 8 and value not in ALL_KEYS:
                assert value not in caplog.text + out + err


def completed(account: Account, job: str) -> list[Any]:
    """Return the job's completed candidates, best first."""
    listing = account.sagemaker.list_candidates_for_auto_ml_job(AutoMLJobName=job, StatusEquals="Completed")
    best = account.sagemaker.describe_auto_ml_job_v2(AutoMLJobName=job)["BestCandidate"]
    others = [
        candidate
        for candidate in listing["Candidates"]
        if candidate["CandidateName"] != best["CandidateName"]
    ]
    others.sort(key=lambda candidate: -candidate["FinalAutoMLJobObjectiveMetric"]["Value"])
    return [best, *others]


class TestRank:
    def test_the_second_best_candidate_is_exported(self, account: Account, jobs: Jobs) -> None:
        best, second = completed(account, jobs.tuned_binary)[:2]
        result = run_task(lambda: export(jobs.tuned_binary, candidate_rank="{{ 1 + 1 }}"))
        assert result["candidate_name"] == second["CandidateName"] != best["CandidateName"]
        assert result["objective"]["value"] == second["FinalAutoMLJobObjectiveMetric"]["Value"]

    def test_candidates_of_all_pages_are_found(
        self, account: Account, jobs: Jobs, requests: Requests
    ) -> None:
        hook = SageMakerControlPlaneHook(aws_conn_id=None)
        hook.client.meta.events.register(
            "before-parameter-build.sagemaker.ListCandidatesForAutoMLJob",
            lambda params, **_: params.update(MaxResults=1),
        )
        expected = {candidate["CandidateName"] for candidate in completed(account, jobs.tuned_binary)}
        requests.forget()
        listing = hook.automl.completed_candidates(jobs.tuned_binary)
        assert {candidate["CandidateName"] for candidate in listing} == expected
        assert requests.count()["ListCandidatesForAutoMLJob"] == len(listing) > 1

    def test_rank_one_is_the_best_and_costs_no_listing(self, jobs: Jobs, requests: Requests) -> None:
        by_rank = run_task(lambda: export(jobs.tuned_binary, candidate_rank=1))
        assert by_rank == run_task(lambda: export(jobs.tuned_binary))
        assert requests.count()["ListCandidatesForAutoMLJob"] == 0

    def test_a_rank_that_the_job_does_not_reach(self, jobs: Jobs) -> None:
        assert "none of rank 99" in refusal(jobs.tuned_binary, candidate_rank=99)

    def test_rank_and_name_exclude_each_other(self, jobs: Jobs, requests: Requests) -> None:
        requests.forget()
        message = refusal(jobs.tuned_binary, candidate_rank=2, candidate_name="a")
        assert "give either candidate_name or candidate_rank, not both" in message
        assert not requests.count()


class TestRequiredObjective:
    def test_a_model_that_is_good_enough_is_exported(self, jobs: Jobs) -> None:
        best = run_task(lambda: export(jobs.tuned_binary))["objective"]["value"]
        again = run_task(lambda: export(jobs.tuned_binary, required_objective=f"{{{{ {best!r} }}}}"))
        assert again["objective"]["value"] == best

    def test_a_worse_one_fails_for_good_and_makes_no_model(self, jobs: Jobs, requests: Requests) -> None:
        message = refusal(jobs.tuned_binary, required_objective="1.01", model_name=unique("model"))
        assert "ObjectiveNotMet" in message
        assert "required is 1.01 or more" in message
        assert requests.changes() == []

    def test_or_skips_what_follows(self, jobs: Jobs, requests: Requests) -> None:
        with pytest.raises(AirflowSkipException, match=r"required is 1\.01 or more"):
            run_task(lambda: export(jobs.tuned_binary, required_objective=1.01, on_unmet_objective="skip"))
        assert requests.changes() == []

    def test_a_metric_to_be_minimised_is_judged_the_other_way_round(self, jobs: Jobs) -> None:
        value = run_task(lambda: export(jobs.tuned_regression))["objective"]["value"]
        assert run_task(lambda: export(jobs.tuned_regression, required_objective=value + 1))
        message = refusal(jobs.tuned_regression, required_objective=value - 1e-6)
        assert "or less" in message

    def test_it_is_judged_after_a_deferred_wait_as_well(
        self, account: Account, running_job: Callable[[float], str]
    ) -> None:
        job = running_job(3600)
        with completed_once_described(account, job), pytest.raises(AirflowSkipException):
            run_task(
                lambda: export(
                    job,
                    wait_for_job="{{ True }}",
                    deferrable=True,
                    required_objective=1.01,
                    on_unmet_objective="skip",
                )
            )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"processing_unit": "TPU"}, "processing_unit must be one of CPU, GPU, not 'TPU'"),
        ({"required_objective": "good"}, "required_objective must be a number, not 'good'"),
        ({"on_unmet_objective": "warn"}, "on_unmet_objective must be one of fail, skip"),
        ({"wait_for_job": "perhaps"}, "wait_for_job must be true or false"),
        ({"max_wait_seconds": "long"}, "max_wait_seconds must be a number"),
        ({"enable_network_isolation": "perhaps"}, "enable_network_isolation must be true or false"),
    ],
)
def test_a_bad_argument_is_reported_before_any_call(
    account: Account, requests: Requests, arguments: dict[str, Any], says: str
) -> None:
    assert says in refusal("any-job", **arguments)
    assert not requests.count()


def test_a_models_tags_name_job_and_candidate_beside_the_users(account: Account, jobs: Jobs) -> None:
    result = run_task(lambda: export(jobs.tuned_binary, model_name=unique("model"), tags={"team": "churn"}))
    tags = account.sagemaker.list_tags(ResourceArn=result["model_arn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags if tag["Key"] != CONTENT_TAG} == {
        "team": "churn",
        "airflow-sm-plugin:auto-ml-job": jobs.tuned_binary,
        "airflow-sm-plugin:candidate": result["candidate_name"],
    }


@dataclass(frozen=True)
class Said(Answer):
    """An answer of SageMaker that is no error."""

    content: str = ""

    def body(self, *, xml: bool) -> bytes:  # noqa: ARG002 - as its parent
        """Return the content as it is."""
        return self.content.encode()


ARTEFACT = "s3://bucket/m.tar.gz"
TEXT_JOB = {
    "AutoMLJobName": "reviews",
    "AutoMLJobStatus": "Completed",
    "AutoMLJobSecondaryStatus": "Completed",
    "BestCandidate": {
        "CandidateName": "reviews-text-1",
        "CandidateStatus": "Completed",
        "FinalAutoMLJobObjectiveMetric": {"MetricName": "Accuracy", "Type": "Maximize", "Value": 0.93},
        "InferenceContainerDefinitions": {
            unit: [{"Image": f"text-{unit.lower()}", "ModelDataUrl": ARTEFACT, "Environment": {}}]
            for unit in ("CPU", "GPU")
        },
    },
}
"""As DescribeAutoMLJobV2 answers for a text classification job; the embedded service trains tabular ones only."""


class TestTextAndImageJobs:
    """Their candidates have containers for each processing unit, and no response keys."""

    @pytest.fixture(autouse=True)
    def _described(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        described = json.dumps(TEXT_JOB).replace(ARTEFACT, account.upload_model())
        job = Said(200, "", content=described)
        with answering(job, otherwise=account.url) as (url, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            yield

    @pytest.mark.parametrize(
        ("arguments", "image"), [({}, "text-cpu"), ({"processing_unit": "GPU"}, "text-gpu")]
    )
    def test_the_containers_of_the_processing_unit_are_taken(
        self, account: Account, arguments: dict[str, str], image: str
    ) -> None:
        result = export("reviews", required_objective=0.9, **arguments).execute(context_for())
        assert [candidate["Image"] for candidate in containers(account, result["model_name"])] == [image]
        assert result["objective"] == {"name": "Accuracy", "type": "Maximize", "value": 0.93}

    def test_response_keys_are_refused(self) -> None:
        message = refusal("reviews", inference_response_keys=["predicted_label"])
        assert "cannot select its response content" in message
