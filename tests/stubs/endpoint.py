"""A multi-model endpoint and its S3 in processes of their own, quick enough that the client is measured.

One process answers the calls of S3 that a batch makes, the descriptions of the endpoint, and InvokeEndpoint, over TLS
and over plain HTTP. Where a C compiler and OpenSSL's headers are, clients are sent to another process for
InvokeEndpoint, ``endpoint.c``: it takes a fraction of the CPU, and its latencies are exact. ``/_stub/…`` sets them,
fills them and reports the requests. Nothing is stored on disk.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from tests.stubs.certificates import make_certificates
from tests.stubs.http_server import Answer, Reply, Request, listen
from tests.stubs.models import EndpointSettings, StubModels
from tests.stubs.objects import StubObjects

ENDPOINT = "bench"
BUCKET = "bench"
_JSON = "Content-Type: application/x-amz-json-1.1\r\n"
_DESCRIBED: dict[str, dict[str, Any]] = {
    "SageMaker.DescribeEndpoint": {
        "EndpointName": ENDPOINT,
        "EndpointArn": f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{ENDPOINT}",
        "EndpointConfigName": ENDPOINT,
        "EndpointStatus": "InService",
        "CreationTime": 0,
        "LastModifiedTime": 0,
    },
    "SageMaker.DescribeEndpointConfig": {
        "EndpointConfigName": ENDPOINT,
        "EndpointConfigArn": f"arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/{ENDPOINT}",
        "ProductionVariants": [{"VariantName": "all", "ModelName": ENDPOINT}],
        "CreationTime": 0,
    },
    "SageMaker.DescribeModel": {
        "ModelName": ENDPOINT,
        "ModelArn": f"arn:aws:sagemaker:us-east-1:123456789012:model/{ENDPOINT}",
        "PrimaryContainer": {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"},
        "CreationTime": 0,
    },
}


class StubEndpoint:
    """All of it."""

    def __init__(self) -> None:
        self.models = StubModels()
        self.objects = StubObjects()
        self.requests = 0
        """All that were asked for by clients; never cleared."""

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer any request."""
        if request.path.startswith("/_stub/"):
            answer = getattr(self, f"_{request.path[7:]}")(json.loads(request.body or b"{}"))
            reply(Answer(200, json.dumps(answer).encode(), _JSON))
            return
        self.requests += 1
        if request.path.startswith("/endpoints/"):
            self.models.invoke(request, reply)
        elif request.path == "/":
            answer = _DESCRIBED[request.header(b"x-amz-target:")]
            reply(Answer(200, json.dumps(answer).encode(), _JSON))
        elif seconds := self.models.settings.s3_latency:
            asyncio.get_running_loop().call_later(seconds, self.objects.answer, request, reply)
        else:
            self.objects.answer(request, reply)

    def _behave(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.models.begin(EndpointSettings(**asked))
        return {}

    def _fill(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Have inputs, each with ``records`` of ``record_bytes``; their numbers run on through all of them."""
        count = asked["records"]
        for position, key in enumerate(asked["keys"]):
            self.objects.generate(
                BUCKET, key, first=position * count, count=count, record_bytes=asked["record_bytes"]
            )
        return {}

    def _forget(self, _: dict[str, Any]) -> dict[str, Any]:
        self.objects.forget(BUCKET)
        return {}

    def _counted(self, _: dict[str, Any]) -> dict[str, Any]:
        counts = {**self.objects.calls, **self.models.calls, "bytes read": self.objects.bytes_read}
        taken = {"requests": self.requests, "cpu": time.process_time()}
        return {"counts": counts, "seconds": self.models.seconds, **taken}

    def _clear(self, _: dict[str, Any]) -> dict[str, Any]:
        self.objects.calls.clear()
        self.models.calls.clear()
        self.models.seconds = 0.0
        self.objects.bytes_read = 0
        return {}


@dataclass(frozen=True)
class StubUse:
    """The work of a process of the stub.

    :param name: of the process
    :param cpu: seconds
    """

    name: str
    requests: int
    cpu: float

    def since(self, earlier: StubUse) -> StubUse:
        """Return the work between two times."""
        return StubUse(self.name, self.requests - earlier.requests, self.cpu - earlier.cpu)

    def text(self, seconds: float) -> str:
        """Say how near to its limit, a whole core, the process was in so many seconds."""
        each = self.cpu * 1e6 / max(1, self.requests)
        return f"{each:.0f} µs a request, {self.cpu / seconds:.0%} of a core"


@dataclass(frozen=True)
class StubProcess:
    """A running process of the stub.

    :param name: language and calls
    :param url: over TLS
    :param plain_url: over plain HTTP
    """

    name: str
    url: str
    plain_url: str

    def call(self, what: str, asked: object) -> dict[str, Any]:
        """Set the process, or ask it for its counts."""
        request = urllib.request.Request(
            f"{self.plain_url}/_stub/{what}", data=json.dumps(asked).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return cast("dict[str, Any]", json.load(answer))

    def use(self) -> StubUse:
        """Return what clients have asked of the process since its start, and what that has taken."""
        counted = self.call("counted", {})
        return StubUse(self.name, int(counted["requests"]), float(counted["cpu"]))


@dataclass(frozen=True)
class StubServer:
    """A running stub.

    :param main: answers everything that ``runtime`` does not
    :param runtime: the process for InvokeEndpoint; may be the same
    :param authority: path of the certificate of who vouches for both
    """

    main: StubProcess
    runtime: StubProcess
    authority: str

    @property
    def processes(self) -> list[StubProcess]:
        """One or two."""
        return [self.main] if self.runtime is self.main else [self.runtime, self.main]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make any AWS client ask this server, over TLS."""
        return {
            **AWS_SETTINGS,
            "AWS_ENDPOINT_URL": self.main.url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.runtime.url,
            "AWS_CA_BUNDLE": self.authority,
        }

    def behave(self, settings: EndpointSettings) -> None:
        """Have the endpoint behave so, with nothing loaded."""
        for process in self.processes:
            process.call("behave", asdict(settings))

    def fill(self, keys: Sequence[str], *, records: int, record_bytes: int) -> None:
        """Add inputs that are generated while they are read; a record begins with its number among all of them."""
        self.main.call("fill", {"keys": list(keys), "records": records, "record_bytes": record_bytes})

    def forget(self) -> None:
        """Delete all objects."""
        self.main.call("forget", {})

    def clear(self) -> None:
        """Count from nothing."""
        for process in self.processes:
            process.call("clear", {})

    def counts(self) -> Counter[str]:
        """Return the calls since :meth:`clear`, by kind."""
        counts: Counter[str] = Counter()
        for process in self.processes:
            counts.update(process.call("counted", {})["counts"])
        return counts

    def mean_latency(self) -> float:
        """Return the seconds that an answered call took in the mean since :meth:`clear`."""
        counted = self.runtime.call("counted", {})
        return float(counted["seconds"] / max(1, counted["counts"].get("answered", 0)))

    def uses(self) -> list[StubUse]:
        """Return the work of the processes since their start."""
        return [process.use() for process in self.processes]

    def read(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Yield the contents of objects, over one connection."""
        connection = HTTPConnection(self.main.plain_url.removeprefix("http://"), timeout=600)
        try:
            for key in keys:
                connection.request("GET", f"/{BUCKET}/{key}")
                with connection.getresponse() as answer:
                    yield answer.read()
        finally:
            connection.close()


@contextmanager
def serving(*, compiled: bool = True) -> Iterator[StubServer]:
    """Serve for the block, on free ports of loopback.

    :param compiled: have InvokeEndpoint answered by the process in C, where it can be compiled
    """
    with tempfile.TemporaryDirectory() as folder:
        authority, server = make_certificates(Path(folder))
        program = _compiled(Path(folder)) if compiled else None
        python = [sys.executable, "-m", "tests.stubs.endpoint", str(server)]
        with _running("S3 in Python" if program else "S3 and InvokeEndpoint in Python", python) as main:
            if program is None:
                yield StubServer(main, main, str(authority))
                return
            with _running("InvokeEndpoint in C", [str(program), str(server)]) as runtime:
                yield StubServer(main, runtime, str(authority))


def _compiled(folder: Path) -> Path | None:
    """Compile the process in C; None without a compiler or OpenSSL's headers."""
    compiler, program = shutil.which("cc"), folder / "endpoint"
    if compiler is None:
        return None
    source = Path(__file__).with_name("endpoint.c")
    command = [compiler, "-O2", "-o", str(program), str(source), "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, check=False)
    return None if done.returncode else program


@contextmanager
def _running(name: str, command: Sequence[str]) -> Iterator[StubProcess]:
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            tls, plain = json.loads(process.stdout.readline())
            yield StubProcess(name, f"https://127.0.0.1:{tls}", f"http://127.0.0.1:{plain}")
        finally:
            process.terminate()
            process.wait(timeout=600)


async def _serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    stub = StubEndpoint()
    ports = listen(stub.answer, context), listen(stub.answer, None)
    print(json.dumps(ports), flush=True)  # noqa: T201 - what its starter reads
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_serve(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
