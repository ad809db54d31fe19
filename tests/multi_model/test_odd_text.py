"""A batch whose endpoint answers any bytes: each record ends in the output or in a row of errors."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.shard import run_shard
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport
from tests.multi_model.multi_models import MultiModel
from tests.stubs.recorder import TRANSPORTS
from tests.support import Account, unique

pytestmark = pytest.mark.airflow

Response = tuple[int, Mapping[str, bytes], bytes]


def model_error(message: bytes, status: bytes = b"400") -> Response:
    body = b'{"Message": "m", "OriginalMessage": %b, "OriginalStatusCode": %b}' % (message, status)
    return 424, {"X-Amzn-ErrorType": b"ModelError"}, body


def refused(message: bytes, code: bytes = b"ValidationError") -> Response:
    return 400, {"X-Amzn-ErrorType": code}, b'{"Message": %b}' % message


FAILING: Mapping[str, Response] = {
    "half-a-pair": model_error(rb'"half \ud800 of it"'),
    "the-other-half": model_error(rb'"\udfff"'),
    "nul": model_error(rb'"nul \u0000 and \u001b[31m"'),
    "line-ends": model_error('"one\\ntwo\\r\u2028three\u0085four\x7f"'.encode()),
    "latin-1": model_error(b'"caf\xe9"'),
    "utf-16": (424, {"X-Amzn-ErrorType": b"ModelError"}, '{"OriginalMessage": "x"}'.encode("utf-16")),
    "no-json": (424, {"X-Amzn-ErrorType": b"ModelError"}, bytes(range(256))),
    "nothing": (424, {"X-Amzn-ErrorType": b"ModelError"}, b""),
    "ten-megabytes": model_error(b'"' + b"x" * 10_000_000 + b'"'),
    "ten-megabytes-of-halves": model_error(b'"' + rb"\ud800" * 1_700_000 + b'"'),
    "nested": model_error(b"[" * 100_000 + b"]" * 100_000),
    "not-a-text": model_error(b'{"a": [1, null]}'),
    "no-status": model_error(b'"x"', b'"\xc3\xa9"'),
    "a-status-of-5000-digits": model_error(b'"x"', b"4" * 5_000),
    "an-infinite-status": model_error(b'"x"', b"Infinity"),
    "a-refusal": refused(rb'"no \ud800 \u0000"'),
    "a-code-in-latin-1": refused(b'"x"', b"Caf\xe9Exception"),
    "a-code-in-utf-8": refused(b'"x"', "CaféException:http://é".encode()),
    "a-code-of-a-half": (400, {}, rb'{"__type": "a#\ud800", "message": "\ud800"}'),
}
ANSWERING: Mapping[str, Response] = {
    "any-bytes": (200, {}, bytes(range(256))),
    "half-a-pair-in-json": (200, {}, rb'{"a": "\ud800", "b": "\u0000"}'),
    "latin-1-attributes": (200, {"X-Amzn-SageMaker-Custom-Attributes": b"caf\xe9\x80"}, b"1\n"),
    "utf-8-attributes": (200, {"X-Amzn-SageMaker-Custom-Attributes": "é日".encode()}, b"1\n"),
    "an-odd-content-type": (200, {"Content-Type": b"text/\xe9;\x80"}, b"1\n"),
}


@contextmanager
def answering_endpoint(answers: Mapping[str, Response]) -> Iterator[str]:
    """Serve an endpoint that answers each payload with the response of that name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = json.loads(body)["name"] if body.startswith(b"{") else body.decode()
            status, headers, content = answers[name]
            lines = [b"HTTP/1.1 %d Status" % status, b"Content-Length: %d" % len(content)]
            lines += [b"%b: %b" % (header.encode(), value) for header, value in headers.items()]
            self.wfile.write(b"\r\n".join([*lines, b"", b""]) + content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, ["a"])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("content_type", ["text/csv", "application/jsonlines"])
@pytest.mark.parametrize("joined", [False, True])
def test_every_record_ends_in_the_output_or_in_a_row_after_any_answer(
    *,
    shared: MultiModel,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    content_type: str,
    joined: bool,
) -> None:
    batch = MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('odd')}", shared.prefix)
    answers = {**FAILING, **ANSWERING}
    for name in answers:
        record = json.dumps({"name": name, "half": "\ud800"}) if content_type != "text/csv" else name
        batch.put("a", name, f"{record}\n")
    location = batch.plan(check_models=False)
    output = OutputOptions(join_source="Input" if joined else "None", content_type=content_type)
    arguments: dict[str, Any] = {"attempts": 1, "keep_attributes": True, "output": output}
    with answering_endpoint(answers) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        settings = batch.settings(location, content_type=content_type, accept=content_type, **arguments)
        connection = AwsConnection(aws_conn_id=None, botocore_config=TRANSPORTS[transport])
        finished = asyncio.run(run_shard(connection, settings))
    total = finished.report.total
    assert (total.inputs, total.records) == (len(answers), len(answers))
    failed = [name for name in answers if batch.errors("a", name)]
    assert len(failed) == total.records_failed
    assert set(FAILING) <= set(failed)
    for name in failed:
        (row,) = batch.errors("a", name)
        assert (row["first_record"], row["record_count"], row["attempts"]) == (0, 1, 1)
        assert len(row["message"]) <= 1_000
        assert batch.output("a", name) == b""
    for name in set(answers) - set(failed):
        content = answers[name][2]
        assert (
            (batch.output("a", name) or b"")
            .rstrip(b"\n")
            .endswith(content.rstrip(b"\n") if not joined else b"")
        )
        (note,) = (batch.output("a", name, ".attributes.jsonl") or b"").splitlines()
        assert json.loads(note)["record_count"] == 1
    assert ShardReport.from_json(account.read(finished.location)).total == total
