"""Faults of the web server in front that our channel mends."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_sm_plugin.local.server import EmbeddedSageMaker
    from tests.local.conftest import Clients


@pytest.mark.parametrize("body", [b"", b"x"])
def test_an_object_is_stored_whether_or_not_it_has_a_body(clients: Clients, body: bytes) -> None:
    for _ in range(2):  # the connection stays usable
        clients.s3.put_object(Bucket=clients.bucket, Key="marker", Body=body)

    assert clients.s3.get_object(Bucket=clients.bucket, Key="marker")["Body"].read() == body


@pytest.mark.parametrize("body", [b"", b"x"])
def test_100_continue_is_sent_to_who_expects_it_before_the_answer(
    sagemaker_server: EmbeddedSageMaker, body: bytes
) -> None:
    host, _, port = sagemaker_server.url.removeprefix("http://").partition(":")
    head = f"PUT /_embedded/health HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        answers = connection.makefile("rb")
        for _ in range(2):  # the connection stays usable
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert [answers.readline(), answers.readline()] == [b"HTTP/1.1 100 Continue\r\n", b"\r\n"]
            connection.sendall(body)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = dict(line.decode().strip().split(": ", 1) for line in iter(answers.readline, b"\r\n"))
            assert answers.read(int(headers["Content-Length"]))
        answers.close()


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nLong: " + b"x" * 300_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_message_that_no_application_sees_is_refused_with_a_request_id(
    sagemaker_server: EmbeddedSageMaker, message: bytes, status: int
) -> None:
    host, _, port = sagemaker_server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        connection.sendall(message)
        with connection.makefile("rb") as answer:
            assert answer.readline().split()[1] == str(status).encode()
            headers = dict(
                line.decode().lower().strip().split(": ", 1) for line in iter(answer.readline, b"\r\n")
            )
    assert headers["x-amzn-requestid"]
