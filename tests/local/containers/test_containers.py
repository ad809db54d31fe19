"""The containers themselves: what they run, see, answer, log and leave behind."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.local.conftest import IMAGE, ROLE, Clients, archive, unique

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import ModelDataSourceTypeDef

INSIDE = """
import json, os

def model_fn(model_dir, context):
    with open(os.path.join(model_dir, "weights.txt")) as weights:
        return weights.read(), context.system_properties["model_dir"] == model_dir

def transform_fn(model, data, content_type, accept, context):
    seen = {
        "model": model, "data": data if isinstance(data, str) else "bytes", "accept": accept,
        "content_type": content_type, "environment": dict(os.environ), "pid": os.getpid(),
        "agent": context.get_request_header(0, "x-amzn-sagemaker-CUSTOM-attributes"),
    }
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "from-model")
    return json.dumps(seen), "application/json"
"""

HANDLERS = """
from helper import double

class Refused(Exception):
    status_code = 422

def model_fn(model_dir):
    return double

def input_fn(data, content_type):
    if content_type == "text/plain":
        raise Refused("no plain text")
    return [float(value) for value in data.split(",")]

def predict_fn(data, model, context):
    if data[0] < 0:
        raise ValueError("negative")
    return [model(value) for value in data]

def output_fn(prediction, accept):
    return ",".join(map(str, prediction)), accept
"""

DEFAULTS = """
class Model:
    def predict(self, data):
        import numpy as np
        return np.asarray(data) * 2

def model_fn(model_dir):
    return Model()
"""


@pytest.fixture(scope="module")
def handlers(session_clients: Clients) -> str:
    """Deploy all handlers and a module beside them."""
    url = session_clients.upload_archive(
        {
            "code/serve_it.py": HANDLERS,
            "code/helper.py": "def double(x): return 2 * x",
            "code/inference.py": "1/0",
        }
    )
    return _deploy(session_clients, url, {"SAGEMAKER_PROGRAM": "serve_it.py"})


@pytest.fixture(scope="module")
def defaults(session_clients: Clients) -> str:
    """Deploy an archive that has a model_fn only."""
    return session_clients.deploy(DEFAULTS)


def _deploy(clients: Clients, url: str, environment: dict[str, str] | None = None) -> str:
    return _endpoint(clients, _model(clients, url, environment))


def _model(clients: Clients, url: str, environment: dict[str, str] | None = None) -> str:
    model = unique("model")
    container = {"Image": IMAGE, "ModelDataUrl": url, "Environment": environment or {}}
    clients.sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container)  # type: ignore[arg-type] # a plain dict
    return model


def _endpoint(clients: Clients, model: str) -> str:
    name = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=clients.create_config(model))
    clients.wait_for_endpoint(name)
    return name


def _invoke(
    clients: Clients, endpoint: str, body: bytes, content_type: str = "text/csv", accept: str = ""
) -> bytes:
    accepts = {"Accept": accept} if accept else {}
    answer = clients.runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=body,
        ContentType=content_type,
        **accepts,
    )
    return answer["Body"].read()


def _failure(
    clients: Clients, endpoint: str, body: bytes, content_type: str, accept: str = ""
) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        _invoke(clients, endpoint, body, content_type, accept)
    response = error.value.response
    return response["OriginalStatusCode"], response["OriginalMessage"]  # type: ignore[typeddict-item] # ModelError's own


def test_a_container_sees_its_environment_and_nothing_of_the_hosts(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AIRFLOW_HOME",
        "AIRFLOW_CONN_DB",
        "HTTPS_PROXY",
        "HOST_SECRET",
    )
    for name in secrets:
        monkeypatch.setenv(name, "host")
    url = clients.upload_archive({"code/inference.py": INSIDE, "weights.txt": "42"})
    environment = {"MINE": "yes", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/mine"}
    endpoint = _deploy(clients, url, environment)
    answer = clients.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"a,b", ContentType="text/csv", CustomAttributes="Trace ID: 1"
    )
    seen = json.loads(answer["Body"].read())
    inside = seen["environment"]
    assert seen["model"] == ["42", True]
    assert (seen["data"], seen["content_type"], seen["accept"]) == ("a,b", "text/csv", "text/mine")
    assert (seen["agent"], answer["CustomAttributes"]) == ("Trace ID: 1", "from-model")
    assert answer["ContentType"] == "application/json"
    assert environment.items() <= inside.items()
    assert "host" not in inside.values()
    assert not set(secrets) & set(inside)
    assert inside["AWS_ACCESS_KEY_ID"] == "embedded"
    assert inside["AWS_ENDPOINT_URL"] == clients.s3.meta.endpoint_url
    assert inside["HOME"] != os.environ.get("HOME")

    folder = Path(inside["SM_MODEL_DIR"])
    assert folder.is_dir()
    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    clients.wait_until_deleted(endpoint)
    assert not folder.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(seen["pid"], 0)


def test_a_container_that_dies_is_started_again(clients: Clients) -> None:
    url = clients.upload_archive({"code/inference.py": INSIDE, "weights.txt": "42"})
    endpoint = _deploy(clients, url)
    first = json.loads(_invoke(clients, endpoint, b""" "x" """))["pid"]
    os.kill(first, signal.SIGKILL)
    assert _failure(clients, endpoint, b"x", "text/csv")[0] == 0
    deadline = time.monotonic() + 600
    second = None
    while second is None and time.monotonic() < deadline:
        try:
            second = json.loads(_invoke(clients, endpoint, b"x"))["pid"]
        except ClientError:
            continue
    assert second not in {None, first}


def test_the_program_named_in_the_environment_goes_before_inference_py(
    clients: Clients, handlers: str
) -> None:
    assert _invoke(clients, handlers, b"1,2.5", accept="text/csv") == b"2.0,5.0"


def test_what_a_handler_raises_is_the_answer(clients: Clients, handlers: str) -> None:
    assert _failure(clients, handlers, b"-1", "text/csv") == (500, "negative")
    assert _failure(clients, handlers, b"1", "text/plain") == (422, "no plain text")


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "expected"),
    [
        (b"1,2\n3,4", "text/csv", "text/csv", b"2.0,4.0\n6.0,8.0\n"),
        (b"1,2", "text/csv; charset=utf-8", "application/json", b"[2.0, 4.0]"),
        (b"[[1], [2]]", "application/json", "", b"[[2], [4]]"),
        (b"[1]", "application/json", "*/*", b"[2]"),
    ],
)
def test_the_default_handlers_read_and_write_csv_and_json(
    clients: Clients, defaults: str, body: bytes, content_type: str, *, accept: str, expected: bytes
) -> None:
    assert _invoke(clients, defaults, body, content_type, accept) == expected


def test_the_default_handlers_read_and_write_arrays(clients: Clients, defaults: str) -> None:
    sent = io.BytesIO()
    np.save(sent, np.array([1.5, 2.5]))
    answer = _invoke(clients, defaults, sent.getvalue(), "application/x-npy", "application/x-npy")
    assert np.load(io.BytesIO(answer)).tolist() == [3.0, 5.0]


def test_formats_without_a_default_are_refused(clients: Clients, defaults: str) -> None:
    assert _failure(clients, defaults, b"x", "image/png")[0] == 415
    assert _failure(clients, defaults, b"1", "text/csv", "image/png")[0] == 406


def test_output_goes_to_cloudwatch_in_order_the_traceback_included(clients: Clients) -> None:
    code = """
import sys
def model_fn(model_dir):
    for number in range(300):
        print(f"line {number}")
def transform_fn(model, data, content_type, accept):
    raise ValueError("broken on purpose")
"""
    url = clients.upload_archive({"code/inference.py": code, "code/requirements.txt": "nothing"})
    endpoint = _deploy(clients, url)
    assert _failure(clients, endpoint, b"x", "text/csv") == (500, "broken on purpose")
    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    clients.wait_until_deleted(endpoint)
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    (stream,) = clients.logs.describe_log_streams(logGroupName=group)["logStreams"]
    events = clients.logs.get_log_events(
        logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True, limit=10_000
    )["events"]
    lines = [event["message"] for event in events]
    assert stream["logStreamName"].startswith("AllTraffic/i-")
    assert lines[0] == "Starting container primary"
    assert lines[1].startswith("code/requirements.txt is ignored")
    assert lines[2:302] == [f"line {number}" for number in range(300)]
    assert lines[302] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: broken on purpose"


def test_a_pipeline_hands_on_body_and_content_type_and_logs_by_container(clients: Clients) -> None:
    first = """
print("this is the first")
def model_fn(model_dir): return "1"
def transform_fn(model, data, content_type, accept): return f"{data}>first {accept}", "text/csv"
"""
    second = """
def model_fn(model_dir): return "2"
def transform_fn(model, data, content_type, accept): return f"{data}>second {content_type} {accept}"
"""
    environment = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/inner"}
    endpoint = clients.deploy(first, second, environment=environment)
    answer = clients.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"in", ContentType="text/csv", Accept="text/last"
    )
    assert answer["Body"].read() == b"in>first application/inner>second text/csv text/last"
    assert answer["ContentType"] == "text/last"
    assert "CustomAttributes" not in dict(answer)
    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    clients.wait_until_deleted(endpoint)
    streams = clients.logs.describe_log_streams(logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}")
    names = [stream["logStreamName"].rpartition("/")[2] for stream in streams["logStreams"]]
    assert sorted(names) == ["container_1", "container_2"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (None, 'Failed to download model data for container "container_1" from URL: "s3://'),
        (b"no archive", 'Failed to extract model data archive for container "container_1" from URL "s3://'),
        ({"readme.txt": "no code"}, "did not pass the ping health check"),
        ({"code/inference.py": "raise SystemExit(3)"}, "did not pass the ping health check"),
        ({"code/inference.py": "def predict_fn(d, m): pass"}, "did not pass the ping health check"),
        ({"code/inference.py": "def model_fn(a, b, c): pass"}, "did not pass the ping health check"),
        ({"../escape.py": "x = 1"}, "Failed to extract model data archive"),
    ],
)
def test_an_endpoint_whose_containers_cannot_start_fails_with_the_reason(
    clients: Clients, files: dict[str, str | bytes] | bytes | None, reason: str
) -> None:
    key = f"{unique('bad')}.tar.gz"
    body = files if isinstance(files, bytes) else archive(files or {})
    clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=body)
    model = _model(clients, f"s3://{clients.bucket}/{key}")
    if files is None:
        clients.s3.delete_object(Bucket=clients.bucket, Key=key)
    with pytest.raises(WaiterError, match="Failed") as failed:
        _endpoint(clients, model)
    described = dict(failed.value.last_response)
    assert described["EndpointStatus"] == "Failed"
    assert reason in str(described["FailureReason"])


def test_loose_model_files_are_served_too(clients: Clients) -> None:
    prefix = f"{unique('loose')}/"
    for name, content in {"code/inference.py": INSIDE, "weights.txt": "7"}.items():
        clients.s3.put_object(Bucket=clients.bucket, Key=prefix + name, Body=content.encode())
    model, endpoint = unique("model"), unique("endpoint")
    source: ModelDataSourceTypeDef = {
        "S3DataSource": {
            "S3Uri": f"s3://{clients.bucket}/{prefix}",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
    }
    clients.sagemaker.create_model(
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE, "ModelDataSource": source},
    )
    clients.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=clients.create_config(model))
    clients.wait_for_endpoint(endpoint)
    assert json.loads(_invoke(clients, endpoint, b"x"))["model"] == ["7", True]


@pytest.mark.parametrize(
    "request_line", ["GET /ping", "POST /invocations", "POST /models", "DELETE /models/x"]
)
def test_a_container_answers_only_the_server(clients: Clients, request_line: str) -> None:
    """A web page in the browser, or another user of the machine, may find its port, too."""
    code = "import os\ndef model_fn(d): return 1\ndef transform_fn(m, d, c, a): return str(os.getpid()), 'text/plain'\n"
    pid = int(_invoke(clients, clients.deploy(code), b"x"))
    (port,) = (
        connection.laddr.port
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    )
    method, path = request_line.split()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for headers in ({}, {"X-Embedded-Token": "guessed"}):
        connection.request(method, path, b"{}" if method == "POST" else None, headers)
        answer = connection.getresponse()
        assert (answer.status, b"embedded SageMaker only" in answer.read()) == (403, True)
    connection.close()
