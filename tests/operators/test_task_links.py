"""Links of tasks that ran offline: each leads to a page of the embedded SageMaker that shows what the task made."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException, BaseOperator, XCom
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.console import Console
from airflow_sm_plugin.hooks import embedded_pages
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.embedded_pages import console_of, pages_at
from airflow_sm_plugin.hooks.result_store import ResultStoreHook
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.invoke import (
    SageMakerInvokeEndpointAsyncOperator,
    SageMakerInvokeEndpointOperator,
)
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
)
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.support import (
    FAILING,
    POLL,
    Account,
    Answer,
    TaskInstanceDouble,
    answering,
    archive,
    closed_port,
    context_for,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def echo(session_account: Account, module_account: Account) -> str:
    return module_account.deploy()


@pytest.fixture(scope="module")
def asynchronous(module_account: Account) -> str:
    return module_account.deploy(asynchronous=True)


@pytest.fixture
def results() -> list[Any]:
    """What the tasks of a test have returned."""
    return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, results: list[Any]) -> Callable[..., dict[str, str]]:
    """Run a task; return the addresses of the links that Airflow 3 then stores, by name."""
    ti = TaskInstanceDouble()

    def stored(*, key: str, ti_key: object) -> object:
        return ti.xcom.get(key)

    monkeypatch.setattr(XCom, "get_value", stored)

    def run_it(kind: type[BaseOperator], **arguments: Any) -> dict[str, str]:  # noqa: ANN401 - an operator's
        made: list[BaseOperator] = []
        context: Any = context_for(ti)

        def make() -> BaseOperator:
            operator = kind(task_id="a_task", aws_conn_id=None, **arguments)
            made.append(operator)
            context["task"] = operator
            return operator

        linked: Mapping[str, Any] = {}
        with contextlib.suppress(AirflowFailException):
            results.append(run_task(make, context))
        for operator in made:  # Airflow stores the links of a task whenever its process ends, deferred or not
            links: Any = operator.operator_extra_links
            linked = {**linked, **{link.name: link.get_link(operator, ti_key=ti) for link in links}}
        return dict(linked)

    return run_it


def opened(url: str) -> str:
    """Open an address; it must be there."""
    with urllib.request.urlopen(url, timeout=600) as response:
        assert response.status == 200
        return str(response.read().decode())


def test_the_answer_of_an_endpoint_is_one_click_away(
    account: Account, echo: str, run: Callable[..., dict[str, str]]
) -> None:
    location = f"s3://{account.bucket}/{unique('answer')}.csv"
    addresses = run(
        SageMakerInvokeEndpointOperator, endpoint_name=echo, body="an,answer,<b>", output_location=location
    )
    assert list(addresses) == ["SageMaker endpoint", "CloudWatch logs", "Result"]
    assert all(address.startswith(f"{account.url}/_embedded/ui/") for address in addresses.values())
    assert "an,answer,&lt;b&gt;" in opened(addresses["Result"])
    assert "InService" in opened(addresses["SageMaker endpoint"])
    assert "Starting container" in opened(addresses["CloudWatch logs"])


def test_without_a_result_there_is_no_link_to_one(
    echo: str, aws: str, run: Callable[..., dict[str, str]]
) -> None:
    addresses = run(SageMakerInvokeEndpointOperator, endpoint_name=echo, body="1")
    assert list(addresses) == ["SageMaker endpoint", "CloudWatch logs"]


def test_nor_is_there_a_link_before_the_arguments_are_right(
    aws: str, run: Callable[..., dict[str, str]]
) -> None:
    assert run(SageMakerInvokeEndpointOperator, endpoint_name="any") == {}


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_asynchronous_result_is_one_click_away(
    account: Account, asynchronous: str, run: Callable[..., dict[str, str]], deferrable: bool
) -> None:
    addresses = run(
        SageMakerInvokeEndpointAsyncOperator,
        endpoint_name=asynchronous,
        input_location=account.upload("later,<b>"),
        content_type="text/csv",
        wait_for_completion=True,
        deferrable=deferrable,
        poll_interval=POLL,
    )
    assert list(addresses) == ["SageMaker endpoint", "CloudWatch logs", "Result"]
    assert "later,&lt;b&gt;" in opened(addresses["Result"])


def test_outputs_and_failures_of_what_was_awaited_are_one_click_away(
    account: Account, asynchronous: str, run: Callable[..., dict[str, str]]
) -> None:
    failing = account.deploy(FAILING, asynchronous=True)
    good, also_good, bad = (
        run_task(
            partial(
                SageMakerInvokeEndpointAsyncOperator,
                task_id="invoke",
                aws_conn_id=None,
                endpoint_name=endpoint,
                input_location=account.upload("1,2"),
                content_type="text/csv",
            )
        )
        for endpoint in (asynchronous, asynchronous, failing)
    )
    waiting = {"poke_interval": POLL, "container_log_lines": 0}
    alone = run(SageMakerAsyncInferenceSensor, invocations=good, **waiting)
    assert list(alone) == ["Result"]
    assert "<pre>1,2" in opened(alone["Result"])
    failed = run(SageMakerAsyncInferenceSensor, invocations=bad, **waiting)
    assert list(failed) == ["Failures"]
    assert "this handler always fails" in opened(failed["Failures"])
    many = run(
        SageMakerAsyncInferenceSensor, invocations=[good, also_good, bad], on_failure="collect", **waiting
    )
    assert list(many) == ["Result", "Failures"]
    assert good["output_location"].rpartition("/")[2] in opened(many["Result"])


def test_an_asynchronous_batch_links_its_outputs_and_failures(
    account: Account, run: Callable[..., dict[str, str]]
) -> None:
    failing, inputs = account.deploy(FAILING, asynchronous=True), unique("inputs")
    account.upload("1,2", f"{inputs}/a.csv")
    addresses = run(
        SageMakerAsyncBatchOperator,
        endpoint_name=failing,
        inputs=f"s3://{account.bucket}/{inputs}/",
        ledger_prefix=f"s3://{account.bucket}/{unique('ledger')}",
        content_type="text/csv",
        attempts=1,
        poll_interval=POLL,
    )
    assert {"SageMaker endpoint", "CloudWatch logs", "Failures", "Outputs"} <= set(addresses)
    assert "00000.jsonl" in opened(addresses["Failures"])
    assert "outputs" in opened(addresses["Outputs"])


def test_a_multi_model_batch_and_its_merge_link_report_outputs_and_failures(
    account: Account, run: Callable[..., dict[str, str]], results: list[Any]
) -> None:
    models, inputs, outputs = unique("models"), unique("inputs"), unique("outputs")
    account.upload(archive({"code/inference.py": FAILING}), f"{models}/fails.tar.gz")
    model = account.create_model(model_data_url=f"s3://{account.bucket}/{models}/", multi_model=True)
    endpoint = unique("endpoint")
    config = account.create_config(model)
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    account.wait_for_endpoint(endpoint)
    account.upload("1,2\n", f"{inputs}/fails/a.csv")
    batch = run(
        SageMakerMultiModelBatchOperator,
        endpoint_name=endpoint,
        inputs=f"s3://{account.bucket}/{inputs}/",
        outputs=f"s3://{account.bucket}/{outputs}",
        target_model="{parent}.tar.gz",
        content_type="text/csv",
        on_error="tolerate",
        attempts=1,
        container_log_lines=0,
    )
    (summary,) = results
    plan = summary["report_location"].rpartition("/")[0]
    merge = run(SageMakerMergeBatchReportOperator, plan_location=plan, on_error="tolerate")
    for addresses in (batch, merge):
        assert set(addresses) == {
            "SageMaker endpoint",
            "CloudWatch logs",
            "Batch report",
            "Outputs",
            "Failures",
        }
        assert "/file?" in addresses["Batch report"]
        assert opened(addresses["Batch report"]).startswith("<!DOCTYPE html>")
        assert "report.json" in opened(addresses["Outputs"])
        failures = opened(addresses["Failures"])
        assert "fails/a.csv.errors.jsonl" in failures
        assert "report.json" not in failures


def test_captured_data_is_linked_only_where_a_deployment_captures(
    account: Account, run: Callable[..., dict[str, str]]
) -> None:
    model = account.create_model()
    deploying = {"model_name": model, "instance_type": "ml.m5.large", "poll_interval": POLL}
    name = unique("endpoint")
    plain = run(SageMakerDeployEndpointOperator, endpoint_name=name, **deploying)
    assert list(plain) == ["SageMaker endpoint", "CloudWatch logs"]
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{account.bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    capturing = run(
        SageMakerDeployEndpointOperator, endpoint_name=name, data_capture_config=capture, **deploying
    )
    assert "SageMaker data capture" in capturing


def _console() -> Console:
    return console_of(SageMakerControlPlaneHook(**AwsConnection(aws_conn_id=None).hook_arguments()))


def test_another_service_at_an_endpoint_url_leaves_the_links_to_aws(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LocalStack, a proxy: nothing there has our pages."""
    with answering(Answer(status=200, code="", message="")) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert _console() == Console("us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    assert _console() == Console("us-east-1")


def test_objects_are_linked_where_s3_is(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = f"{account.url}/_embedded/ui/"
    assert _console() == Console("us-east-1", pages, pages)
    assert console_of(ResultStoreHook(**AwsConnection(aws_conn_id=None).hook_arguments())) == Console(
        "us-east-1", "", pages
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert _console() == Console("us-east-1", pages)


@pytest.mark.parametrize("with_s3", [True, False])
def test_a_connection_or_a_configuration_file_can_say_where(
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    with_s3: bool,
) -> None:
    pages = f"{account.url}/_embedded/ui/"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    extra: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": account.url}
    if not with_s3:
        extra["service_config"] = {"s3": {"endpoint_url": "http://127.0.0.1:1"}}
    monkeypatch.setenv("AIRFLOW_CONN_OFFLINE", json.dumps({"conn_type": "aws", "extra": extra}))
    offline = AwsConnection(aws_conn_id="offline").hook_arguments()
    expected = Console("us-east-1", pages, pages if with_s3 else "")
    assert console_of(SageMakerControlPlaneHook(**offline)) == expected

    config = tmp_path / "config"
    s3 = "" if with_s3 else "services = mine\n[services mine]\ns3 =\n  endpoint_url = http://127.0.0.1:1\n"
    config.write_text(f"[default]\nendpoint_url = {account.url}\n{s3}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert _console() == expected


@pytest.mark.parametrize("url", ["https://sagemaker.eu-west-1.amazonaws.com", "ftp://a", "http://", ""])
def test_aws_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_pages, "HTTPConnection", None)
    assert pages_at(url) == ""
