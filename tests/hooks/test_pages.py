"""No listing of ours goes on without end, whatever answers instead of AWS."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import airflow_sm_plugin
from airflow_sm_plugin.endpoints.deletion import EndpointUsage
from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.hooks import calls
from airflow_sm_plugin.hooks.autoscaling import ScalableVariantHook
from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.scaling import ScaledVariant
from tests.stubs.recorder import Asked, Recorder, Said, recording

MOST = 5
ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A service whose every listing is empty and promises more."""
    numbers = itertools.count()
    lists = (
        "Tags",
        "Endpoints",
        "EndpointConfigs",
        "Candidates",
        "ModelPackageSummaryList",
        "ScalableTargets",
        "ScalingPolicies",
        "logStreams",
    )

    def answer(asked: Asked) -> Said:
        token = f"token-{next(numbers)}"
        body: dict[str, object] = {key: [] for key in lists} | {"NextToken": token, "nextToken": token}
        if "DescribeEndpointConfig" in asked.headers.get("x-amz-target", ""):
            body |= {"CreationTime": 1.0}
        return Said(200, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.1"})

    monkeypatch.setattr(calls, "MOST_PAGES", MOST)
    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        yield recorder


def sagemaker() -> SageMakerControlPlaneHook:
    return SageMakerControlPlaneHook(aws_conn_id=None, region_name="us-east-1")


def scaling() -> ScalableVariantHook:
    return ScalableVariantHook(aws_conn_id=None, region_name="us-east-1")


@pytest.mark.parametrize(
    "listing",
    [
        lambda: sagemaker().tags_of(ARN),
        lambda: sagemaker().configs.made_for("e"),
        lambda: EndpointUsage(sagemaker()).of_configs(["c"]),
        lambda: sagemaker().automl.completed_candidates("job"),
        lambda: sagemaker().model_packages.newest("group", require_approved=True),
        lambda: scaling().registered("e"),
        lambda: scaling().policy_names(ScaledVariant("e", "v")),
    ],
    ids=["tags", "configurations", "endpoints", "candidates", "packages", "targets", "policies"],
)
def test_endless_pages_are_an_error_that_a_retry_may_mend(
    endless: Recorder, listing: Callable[[], object]
) -> None:
    with pytest.raises(ServiceUnavailable, match=f"gave {MOST} pages and promises more") as caught:
        listing()
    assert caught.value.retryable
    assert len(endless.asked) <= MOST + 2


def test_logs_that_explain_another_error_stay_silent_about_it(endless: Recorder) -> None:
    logs = ContainerLogsHook(aws_conn_id=None, region_name="us-east-1")
    logs.show_tail("/aws/sagemaker/TransformJobs", lines=5, streams="job/")
    assert len(endless.asked) == MOST + 1


def test_as_many_pages_as_permitted_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def get_paginator(self, operation: str) -> Client:
            assert operation == "list_tags"
            return self

        def paginate(self, **request: str) -> Iterator[dict[str, str]]:
            return iter([request] * MOST)

    monkeypatch.setattr(calls, "MOST_PAGES", MOST)
    assert list(calls.pages_of(Client(), "list_tags", ResourceArn=ARN)) == [{"ResourceArn": ARN}] * MOST


def test_no_other_module_pages_by_itself() -> None:
    package = Path(airflow_sm_plugin.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "local" not in path.parts and "get_paginator" in path.read_text()
    }
    assert users == {"hooks/calls.py"}
