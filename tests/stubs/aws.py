"""A quick S3 and SageMaker runtime in memory, in a process of its own, so that only the client is measured.

moto lists 100,000 keys in seconds; this one answers a page of 1,000 in about a millisecond. It knows ListObjectsV2,
HEAD, GET and PUT of objects (with ``If-None-Match: *``), InvokeEndpointAsync and DescribeEndpoint; it checks no
signature. ``/_stub/…`` fills it and counts what was asked. Nothing is stored on disk.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from aiohttp import web

_PAGE = 1_000
_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>{size}</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)
_LIST = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>{bucket}</Name><Prefix>{prefix}</Prefix><StartAfter>{after}</StartAfter><KeyCount>{count}</KeyCount>"
    "<MaxKeys>{page}</MaxKeys><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{token}{entries}"
    "</ListBucketResult>"
)


class StubAws:
    """Objects by bucket and key, and how often each kind of call came.

    :param answers_at_once: InvokeEndpointAsync writes the output before it answers
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, bytes]] = {}
        self._sorted: dict[str, list[str]] = {}
        self._calls: Counter[str] = Counter()
        self._answers_at_once = False

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/_stub/fill", self._fill)
        app.router.add_post("/_stub/settings", self._settings)
        app.router.add_route("*", "/_stub/calls", self._counted)
        app.router.add_post("/endpoints/{name}/async-invocations", self._invoke)
        app.router.add_post("/", self._control_plane)
        app.router.add_get("/{bucket}", self._list)
        app.router.add_get("/{bucket}/", self._list)
        app.router.add_route("HEAD", "/{bucket}/{key:.+}", self._head)
        app.router.add_get("/{bucket}/{key:.+}", self._get, allow_head=False)
        app.router.add_put("/{bucket}/{key:.+}", self._put)
        app.router.add_delete("/{bucket}/{key:.+}", self._delete)
        return app

    async def _fill(self, request: web.Request) -> web.Response:
        """Add ``keys``, each with ``body``."""
        asked = await request.json()
        self._store(asked["bucket"], asked["keys"], asked.get("body", "x").encode())
        return web.json_response({"objects": len(self._objects[asked["bucket"]])})

    async def _settings(self, request: web.Request) -> web.Response:
        self._answers_at_once = (await request.json())["answers_at_once"]
        return web.json_response({})

    async def _counted(self, request: web.Request) -> web.Response:
        counts = dict(self._calls)
        if request.method == "DELETE":
            self._calls.clear()
        return web.json_response(counts)

    def _store(self, bucket: str, keys: list[str], body: bytes) -> None:
        objects, ordered = self._objects.setdefault(bucket, {}), self._sorted.setdefault(bucket, [])
        new = [key for key in keys if key not in objects]
        objects.update(dict.fromkeys(keys, body))
        if len(new) > 100:
            ordered.extend(new)
            ordered.sort()
            return
        for key in new:
            bisect.insort(ordered, key)

    async def _list(self, request: web.Request) -> web.Response:
        self._calls["list"] += 1
        bucket, query = request.match_info["bucket"], request.query
        prefix, page = query.get("prefix", ""), int(query.get("max-keys", _PAGE))
        after = query.get("continuation-token") or query.get("start-after", "")
        ordered, objects = self._sorted.get(bucket, []), self._objects.get(bucket, {})
        start = max(bisect.bisect_left(ordered, prefix), bisect.bisect_right(ordered, after))
        page_keys = []
        for key in ordered[start : start + page + 1]:
            if not key.startswith(prefix):
                break
            page_keys.append(key)
        more, page_keys = len(page_keys) > page, page_keys[:page]
        etag = hashlib.md5(b"x", usedforsecurity=False).hexdigest()
        text = _LIST.format(
            bucket=bucket,
            prefix=quote(prefix),
            after=quote(after),
            count=len(page_keys),
            page=page,
            more=str(more).lower(),
            token=f"<NextContinuationToken>{quote(page_keys[-1])}</NextContinuationToken>" if more else "",
            entries="".join(
                _ENTRY.format(key=quote(key), etag=etag, size=len(objects[key])) for key in page_keys
            ),
        )
        return web.Response(text=text, content_type="application/xml")

    def _found(self, request: web.Request) -> bytes | None:
        return self._objects.get(request.match_info["bucket"], {}).get(request.match_info["key"])

    async def _head(self, request: web.Request) -> web.Response:
        self._calls["head"] += 1
        body = self._found(request)
        return web.Response(status=404) if body is None else web.Response(headers={"ETag": '"x"'})

    async def _get(self, request: web.Request) -> web.Response:
        self._calls["get"] += 1
        body = self._found(request)
        if body is None:
            return web.Response(
                status=404, text="<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>"
            )
        return web.Response(body=body, headers={"ETag": '"x"'})

    async def _put(self, request: web.Request) -> web.Response:
        self._calls["put"] += 1
        if request.headers.get("If-None-Match") == "*" and self._found(request) is not None:
            text = "<Error><Code>PreconditionFailed</Code><Message>it is there</Message></Error>"
            return web.Response(status=412, text=text, content_type="application/xml")
        self._store(request.match_info["bucket"], [request.match_info["key"]], await request.read())
        return web.Response(headers={"ETag": '"x"'})

    async def _delete(self, request: web.Request) -> web.Response:
        self._calls["delete"] += 1
        bucket, key = request.match_info["bucket"], request.match_info["key"]
        if self._objects.get(bucket, {}).pop(key, None) is not None:
            self._sorted[bucket].remove(key)
        return web.Response(status=204)

    async def _invoke(self, request: web.Request) -> web.Response:
        self._calls["invoke"] += 1
        header = "X-Amzn-SageMaker-"
        folder = request.headers.get(f"{header}S3OutputPathExtension", "").strip("/")
        name = request.headers.get(f"{header}Filename") or f"{uuid.uuid4()}.out"
        key = f"{folder}/{name}" if folder else name
        if self._answers_at_once:
            self._store("bench", [f"outputs/{key}"], b"x")
        return web.json_response(
            {"InferenceId": request.headers.get(f"{header}Inference-Id", "none")},
            status=202,
            headers={
                f"{header}OutputLocation": f"s3://bench/outputs/{key}",
                f"{header}FailureLocation": f"s3://bench/failures/{key}",
            },
        )

    async def _control_plane(self, request: web.Request) -> web.Response:
        self._calls[request.headers.get("X-Amz-Target", "other")] += 1
        name = (await request.json()).get("EndpointName")
        described = {
            "EndpointName": name,
            "EndpointArn": f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{name}",
            "EndpointStatus": "InService",
            "CreationTime": 0,
            "LastModifiedTime": 0,
            "AsyncInferenceConfig": {
                "OutputConfig": {
                    "S3OutputPath": "s3://bench/outputs/",
                    "S3FailurePath": "s3://bench/failures/",
                }
            },
        }
        return web.json_response(described, content_type="application/x-amz-json-1.1")


class StubClient:
    """Fills and asks a running stub."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fill(self, keys: list[str], *, bucket: str = "bench") -> None:
        """Add objects."""
        self._call("POST", "fill", {"bucket": bucket, "keys": keys})

    def put(self, location: str, body: bytes) -> None:
        """Write one object, ``s3://bucket/key``."""
        self._object("PUT", location, body)

    def delete(self, location: str) -> None:
        """Delete one object."""
        self._object("DELETE", location, None)

    def _object(self, method: str, location: str, body: bytes | None) -> None:
        url = location.replace("s3:/", self.url, 1)
        with urllib.request.urlopen(
            urllib.request.Request(url, data=body, method=method), timeout=600
        ) as answer:
            answer.read()

    def answer_at_once(self, yes: bool) -> None:
        """Write the output of each invocation as it comes."""
        self._call("POST", "settings", {"answers_at_once": yes})

    def take_calls(self) -> Counter[str]:
        """Return the calls since the last time, by kind."""
        return Counter(self._call("DELETE", "calls", None))

    def _call(self, method: str, route: str, body: object) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_stub/{route}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return cast("dict[str, Any]", json.load(answer))


@contextmanager
def running() -> Iterator[StubClient]:
    """Serve for the block, on a free port of loopback."""
    command = [sys.executable, "-m", "tests.stubs.aws"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env=dict(os.environ)
    ) as server:
        assert server.stdout is not None
        try:
            yield StubClient(server.stdout.readline().strip())
        finally:
            server.terminate()
            server.wait(timeout=600)


async def _serve() -> None:
    runner = web.AppRunner(StubAws().application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)  # noqa: T201 - what its starter reads
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_serve())
    except KeyboardInterrupt:
        sys.exit(130)
