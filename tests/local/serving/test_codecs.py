"""The default handlers' formats, and a container's answers, whatever a handler does."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.local.serving.codecs import UnsupportedAccept, decode, encode, preferred
from tests.local.conftest import Clients

if TYPE_CHECKING:
    from collections.abc import Iterator


def _read(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    array = decode(text, "text/csv; charset=utf-8")
    assert isinstance(array, np.ndarray)
    return array


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/csv", "text/csv"),
        ("text/csv, application/json", "text/csv"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("text/csv;q=0.2, application/x-npy;q=0.9", "application/x-npy"),
        ("image/png, text/csv; q=0.1", "text/csv"),
        ("TEXT/CSV; header=present", "text/csv"),
        ("text/*", "text/csv"),
        ("application/*", "application/json"),
        ("*/*", "application/json"),
        ("application/json;q=0, text/csv", "text/csv"),
        ("application/json;q=0, */*", "text/csv"),
        ("*/*, application/json; q=0.000", "text/csv"),
        ("application/*, application/json;q=0", "application/x-npy"),
        ("application/*;q=0, */*", "text/csv"),
        ("*/*;q=0, text/csv", "text/csv"),
        ("text/*;q=0, text/csv;q=0.1, image/png", "text/csv"),
        ("text/csv;q=high", "text/csv"),
        (", ,text/csv,", "text/csv"),
    ],
)
def test_the_most_wanted_type_that_can_be_written_is_answered(accept: str, content_type: str) -> None:
    assert encode([1], accept)[1] == content_type


@pytest.mark.parametrize(
    "accept",
    [
        *(
            "image/png",
            "image/*, text/html",
            "text/csv;q=0",
            "text/plain",
            "",
            "*/*;q=0",
            "text/csv;q=0, text/*",
        ),
        "application/*;q=0, text/*;q=0, */*",
    ],
)
def test_an_accept_of_which_nothing_can_be_written_is_refused(accept: str) -> None:
    with pytest.raises(UnsupportedAccept):
        encode([1], accept)


def test_the_default_type_is_what_anything_means() -> None:
    assert encode([1], "*/*", default="text/csv") == ("1\n", "text/csv")
    assert encode([1], "image/png, */*;q=0.1", default="text/csv")[1] == "text/csv"


def test_text_stays_what_it_is_and_has_the_first_type() -> None:
    assert encode("text", "text/html, */*") == ("text", "text/html")
    assert preferred("text/*, */*", "application/json") == "application/json"
    assert preferred("*/*", "application/x-own") == "application/x-own"
    assert preferred("text/csv;q=0", "application/json") == "application/json"
    assert preferred("text/csv;q=0, text/html;q=0.5", "text/csv") == "text/html"
    assert preferred("application/json;q=0", "application/json") == "application/octet-stream"
    assert preferred("text/csv; charset=latin-1", "application/json") == "text/csv; charset=latin-1"


def test_numbers_become_an_array_of_the_shape_that_numpy_gives() -> None:
    assert _read("1,2\n3,4\n").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert _read("1,2").tolist() == [1.0, 2.0]
    assert _read("1\n2\n\n").tolist() == [1.0, 2.0]
    assert _read(" 5 ").tolist() == 5.0
    assert _read("1,,3\n4,5,6")[0, 1] != _read("1,,3\n4,5,6")[0, 1]  # NaN: a number that is missing
    assert _read("1,2").dtype == float


def test_a_column_of_text_stays_text() -> None:
    table = _read('7.25,female,"Smith, J",\n8,male,#9,x\n')
    assert table.tolist() == [[7.25, "female", "Smith, J", ""], [8.0, "male", "#9", "x"]]
    with pytest.raises(ValueError, match="could not convert string to float: 'female'"):
        table.astype(float)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters='\r\n",'), min_size=1), min_size=2, max_size=4
    )
)
def test_no_text_ever_becomes_a_number_that_is_not_there(values: list[str]) -> None:
    row = _read(",".join(values))
    for value, read in zip(values, row.tolist(), strict=True):
        if isinstance(read, float):
            expected = float(value) if value.strip() else math.nan
            assert read == expected or (math.isnan(read) and math.isnan(expected))
        else:
            assert read == value


def test_lines_of_different_length_are_refused_by_number() -> None:
    with pytest.raises(ValueError, match="record 3 has 1 values, the first has 2"):
        decode("1,2\n3,4\n5\n", "text/csv")


ODD = r"""
import json, sys

class Unprintable(Exception):
    status_code = 418
    def __str__(self): raise RuntimeError("no text")

def model_fn(model_dir): return None

def transform_fn(model, data, content_type, accept, context):
    if data == "surrogate": raise ValueError("half a pair: \ud83d")
    if data == "surrogate 422":
        error = ValueError("\udcff"); error.status_code = 422
        raise error
    if data == "bytes": raise ValueError(b"\xff\xfe")
    if data == "no text": raise Unprintable()
    if data == "nothing": raise ValueError()
    if data == "exit": sys.exit(3)
    if data == "deep": return (lambda f: f(f))(lambda f: f(f))
    if data == "answer": return "\ud83d"
    if data == "type": return "x", "text/pl\u00e4in"
    if data == "break": return "x", "text/plain\r\nX-Evil: 1"
    if data == "none": return None
    if data == "three": return "x", "text/plain", "more"
    if data == "status": context.set_response_status(99999)
    if data == "continue": context.set_response_status(100)
    if data == "words": context.set_response_status("OK")
    if data == "length": context.set_response_header(0, "Content-Length", "9")
    if data == "header": context.set_response_header(0, "X Y", "9")
    if data == "empty": context.set_response_status(204)
    return "fine", "text/plain"
"""


@pytest.fixture(scope="module")
def odd(session_clients: Clients) -> str:
    return session_clients.deploy(ODD)


@pytest.fixture
def _serves_on(clients: Clients, odd: str) -> Iterator[None]:
    """The container answers the next request, by the same process and connection."""
    yield
    assert _said(clients, odd, "hello") == (200, "fine")


def _said(clients: Clients, endpoint: str, body: str) -> tuple[int, str]:
    try:
        answer = clients.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=body.encode(), ContentType="text/csv"
        )
    except ClientError as error:
        response = dict(error.response)
        return response["OriginalStatusCode"], response["OriginalMessage"]  # type: ignore[return-value] # ModelError's own
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read().decode()


@pytest.mark.usefixtures("_serves_on")
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("surrogate", 500, "half a pair: \\ud83d"),
        ("surrogate 422", 422, "\\udcff"),
        ("bytes", 500, r"b'\xff\xfe'"),
        ("no text", 418, "Unprintable"),
        ("nothing", 500, "ValueError"),
        ("exit", 500, "3"),
        ("deep", 500, "maximum recursion depth exceeded"),
        ("answer", 500, "surrogates not allowed"),
        ("type", 500, "not printable US-ASCII"),
        ("break", 500, "not printable US-ASCII"),
        ("none", 500, "the handler returned a NoneType"),
        ("status", 500, "99999 is no HTTP status"),
        ("continue", 500, "100 is no HTTP status"),
        ("words", 500, "'OK' is no HTTP status"),
        ("length", 500, "'Content-Length' is no response header"),
        ("header", 500, "'X Y' is no response header"),
        ("empty", 200, ""),
        ("three", 200, "x"),
    ],
)
def test_whatever_a_handler_does_is_answered(
    clients: Clients, odd: str, body: str, status: int, text: str
) -> None:
    assert _said(clients, odd, body)[0] == status
    assert text in _said(clients, odd, body)[1]


SURROUNDINGS = """
import json, os, stat

def model_fn(model_dir): return None

def transform_fn(model, data, content_type, accept):
    kinds = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            kinds[number] = os.readlink(f"/proc/self/fd/{number}").partition(":")[0]
        except FileNotFoundError:  # the listing's own
            continue
    return json.dumps({"environment": dict(os.environ), "open": kinds}), "application/json"
"""


def test_a_container_inherits_nothing_of_the_server(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    planted = {
        "AWS_SECRET_ACCESS_KEY": "planted",
        "AWS_SESSION_TOKEN": "planted",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "planted",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "planted",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "planted",
        "AIRFLOW_CONN_AWS_DEFAULT": "planted",
        "https_proxy": "planted",
        "HTTP_PROXY": "planted",
        "GITHUB_TOKEN": "planted",
        "PYTHONPATH": "planted",
        "LD_PRELOAD": "",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    secret = tmp_path_factory.mktemp("secret") / "file"
    secret.write_text("planted")
    with secret.open() as held:
        held_fd = held.fileno()
        endpoint = clients.deploy(
            SURROUNDINGS,
            environment={
                "PYTHONHOME": "/nowhere",
                "PYTHONINSPECT": "1",
                "PYTHONPATH": "/opt/ml/code",
                "LD_LIBRARY_PATH": "/opt/lib",
                "LD_PRELOAD": "/nowhere.so",
                "HOME": "/root",
                "PATH": "/nowhere",
            },
        )
    assert held_fd > 2
    answer = clients.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", ContentType="text/csv")
    inside = json.loads(answer["Body"].read())
    assert "planted" not in json.dumps(inside)
    own = {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"}
    assert set(planted) & set(inside["environment"]) == own
    assert inside["environment"]["PYTHONPATH"].endswith(":/opt/ml/code")
    assert inside["environment"]["HOME"].endswith("/home")
    assert inside["environment"]["AWS_SECRET_ACCESS_KEY"] == "embedded"
    assert "PYTHONHOME" not in inside["environment"]
    assert inside["environment"]["LD_LIBRARY_PATH"].endswith("/opt/lib")
    assert {inside["open"].pop(number) for number in "012"} == {"pipe"}
    assert set(inside["open"].values()) <= {"socket", "anon_inode", "/dev/urandom"}  # its own server's
    assert "pipe" not in inside["open"].values()


def test_an_environment_that_no_process_can_have_fails_the_endpoint_with_the_reason(clients: Clients) -> None:
    model = clients.create_model(environment={"BROKEN": "null \0 byte"})
    clients.sagemaker.create_endpoint(EndpointName=model, EndpointConfigName=clients.create_config(model))
    waiter = clients.sagemaker.get_waiter("endpoint_deleted")
    with pytest.raises(Exception, match="Failed"):
        waiter.wait(EndpointName=model, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    reason = clients.sagemaker.describe_endpoint(EndpointName=model)["FailureReason"]
    assert "container_1" in reason
    assert "Environment: embedded null byte" in reason
