"""CreateModel checks artefact, image and role at once: a refusal names the remedy, a new role is waited for."""

from __future__ import annotations

import traceback
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.hooks import models
from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.resources import model as model_requests
from tests.async_inference.batch.async_batches import faults
from tests.operators.conftest import Jobs
from tests.support import IMAGE, POLL, ROLE, Account, Requests, run_task, unique

pytestmark = pytest.mark.airflow

NEW_ROLE = "the execution role cannot be assumed"
REFUSALS = {
    "the model's artefact is missing": "ModelDataNotFound",
    "the model's artefact cannot be read": "ModelDataNotAccessible",
    "the execution role may not pull the image": "ImageNotAccessible",
    "the image's repository does not admit SageMaker": "ImageNotAccessible",
}


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_ROLE_PAUSE", POLL)


@pytest.fixture
def name() -> str:
    return unique("model")


def create(name: str, **arguments: Any) -> SageMakerCreateModelOperator:  # noqa: ANN401 - the operator's own
    usual = {"execution_role": ROLE, "image": IMAGE, "aws_conn_id": None, "model_name": name}
    return SageMakerCreateModelOperator(task_id="create", **usual | arguments)


def rule(name: str, situation: str, **more: object) -> dict[str, object]:
    return {
        "fault": "error",
        "operation": "CreateModel",
        "resource": name,
        "situation": situation,
        **more,
    }


def test_a_missing_artefact_is_refused_at_once_and_not_retried(
    account: Account, name: str, requests: Requests
) -> None:
    location = f"s3://{account.bucket}/missing/model.tar.gz"
    with pytest.raises(
        AirflowFailException, match=f"(?s)ModelDataNotFound: .*{location}.*Do: upload the artefact"
    ):
        run_task(partial(create, name, model_data_url=location))
    assert requests.count()["CreateModel"] == 1
    assert account.models(name) == []


def test_a_bucket_that_is_not_there_is_reported_with_the_role(name: str) -> None:
    location = f"s3://{unique('bucket')}/model.tar.gz"
    with pytest.raises(AirflowFailException, match=f"(?s)ModelDataNotAccessible: .*{location}.*role {ROLE}"):
        run_task(partial(create, name, model_data_url=location))


def test_one_container_of_a_pipeline_without_its_artefact_is_enough(account: Account, name: str) -> None:
    there, missing = account.upload_model(), f"s3://{account.bucket}/missing.tar.gz"
    pipeline = [{"Image": IMAGE, "ModelDataUrl": url} for url in (there, missing)]
    with pytest.raises(AirflowFailException, match=f"(?s)ModelDataNotFound: .*{missing}"):
        run_task(partial(create, name, image=None, containers=pipeline))


def test_below_a_multi_model_prefix_nothing_is_checked(account: Account, name: str) -> None:
    prefix = f"s3://{account.bucket}/nothing/here/"
    assert run_task(partial(create, name, mode="MultiModel", model_data_url=prefix))["created"] is True


def test_a_signature_in_the_artefacts_address_is_shown_nowhere(account: Account, name: str) -> None:
    signature = "5ec4e7" * 8
    key = f"missing.tar.gz?X-Amz-Signature={signature}"
    with pytest.raises(AirflowFailException, match="ModelDataNotFound") as caught:
        run_task(partial(create, name, model_data_url=f"https://{account.bucket}.s3.amazonaws.com/{key}"))
    assert signature not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("situation", REFUSALS)
def test_every_refusal_is_an_error_of_its_own_and_not_repeated(
    account: Account, name: str, requests: Requests, situation: str
) -> None:
    with (
        faults(account, rule(name, situation)),
        pytest.raises(AirflowFailException, match=f"{REFUSALS[situation]}: model {name} is not created"),
    ):
        run_task(partial(create, name))
    assert requests.count()["CreateModel"] == 1


def test_a_role_that_was_made_just_now_is_waited_for(account: Account, name: str, requests: Requests) -> None:
    with faults(account, rule(name, NEW_ROLE, times=3)):
        assert run_task(partial(create, name))["created"] is True
    assert requests.count()["CreateModel"] == 4


def test_a_role_that_does_not_come_to_be_known_is_an_error(
    account: Account, name: str, monkeypatch: pytest.MonkeyPatch, requests: Requests
) -> None:
    monkeypatch.setattr(model_requests, "ROLE_SECONDS", 10 * POLL)
    with (
        faults(account, rule(name, NEW_ROLE)),
        pytest.raises(
            AirflowFailException,
            match=f"(?s)ExecutionRoleNotAssumable: .*Do: see that role {ROLE}.*repeated for",
        ),
    ):
        run_task(partial(create, name))
    assert requests.count()["CreateModel"] > 1
    assert account.models(name) == []


def test_a_new_role_whose_artefact_is_missing_leads_to_the_error_of_the_artefact(
    account: Account, name: str
) -> None:
    with (
        faults(account, rule(name, NEW_ROLE, times=1)),
        pytest.raises(AirflowFailException, match="ModelDataNotFound"),
    ):
        run_task(partial(create, name, model_data_url=f"s3://{account.bucket}/missing.tar.gz"))


def test_the_export_of_a_candidate_waits_for_a_new_role_too(
    account: Account, name: str, jobs: Jobs, requests: Requests
) -> None:
    export = partial(
        SageMakerExportAutopilotModelOperator,
        task_id="export",
        auto_ml_job_name=jobs.ensembled_multiclass,
        execution_role=ROLE,
        model_name=name,
        aws_conn_id=None,
    )
    with faults(account, rule(name, NEW_ROLE, times=1)):
        assert run_task(export)["model_name"] == name
    assert requests.count()["CreateModel"] == 2


@pytest.mark.parametrize(
    "role",
    [
        "arn:aws:iam::123456789012:user/someone",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::1:role/sagemaker",
        "arn:aws:iam::123456789012:role/two words",
        "arn:aws:sts::123456789012:assumed-role/sagemaker/session",
    ],
)
def test_what_is_no_roles_arn_is_refused_before_the_call(name: str, role: str, requests: Requests) -> None:
    with pytest.raises(AirflowFailException, match=r"is no role's ARN: give arn:aws:iam::<account>:role/"):
        run_task(partial(create, name, execution_role=role))
    assert requests.count()["CreateModel"] == 0
