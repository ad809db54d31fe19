"""S3 in memory for benchmarks: what a batch asks of it, and objects that are generated while they are read.

Listing (ListObjectsV2, ListMultipartUploads), GET with Range and If-Match, HEAD, PUT with If-Match and
If-None-Match, DELETE, uploads in parts with UploadPartCopy. No signature and no checksum is checked.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from tests.stubs.http_server import Answer, Reply, Request

_PAGE = 1_000
_XML = "Content-Type: application/xml\r\n"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>"
    "<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_PIECE = 1 << 16
_BLOCK = 64


@dataclass(slots=True)
class Stored:
    """An object.

    :param body: None when it is generated
    :param record_bytes: of each of its records, the line end included
    """

    etag: str
    size: int
    body: bytes | None = None
    first: int = 0
    record_bytes: int = 0

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield what lies between."""
        if self.body is not None:
            for at in range(start, end, _PIECE):
                yield self.body[at : min(at + _PIECE, end)]
            return
        step = self.record_bytes * _BLOCK
        while start < end:
            block = start // step
            body = records(self.first + block * _BLOCK, _BLOCK, self.record_bytes)
            piece = body[start - block * step : end - block * step]
            yield piece
            start += len(piece)


def records(first: int, count: int, size: int) -> bytes:
    """Return records of ``size`` bytes that begin with their number, a line each."""
    filler = b",1.50" * (size // 5 + 1)
    filler = filler[: size - 11] + b"\n"
    return b"".join([b"%010d" % number + filler for number in range(first, first + count)])


class StubObjects:
    """Buckets."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bytes_read = 0
        self._objects: dict[str, dict[str, Stored]] = {}
        self._keys: dict[str, list[str]] = {}
        self._unsorted: set[str] = set()
        """Buckets whose keys are not in order: sorting 100,000 for each call would take longer than the call."""
        self._uploads: dict[str, tuple[str, str, dict[int, bytes]]] = {}
        self._numbers = itertools.count(1)

    def store(self, bucket: str, key: str, stored: Stored) -> None:
        """Keep an object."""
        objects = self._objects.setdefault(bucket, {})
        if key not in objects:
            self._keys.setdefault(bucket, []).append(key)
            self._unsorted.add(bucket)
        objects[key] = stored

    def put(self, bucket: str, key: str, body: bytes) -> str:
        """Keep bytes, and return their ETag."""
        etag = f"{next(self._numbers):032x}"
        self.store(bucket, key, Stored(etag, len(body), body))
        return etag

    def generate(self, bucket: str, key: str, *, first: int, count: int, record_bytes: int) -> None:
        """Have an object of so many records."""
        etag = f"{next(self._numbers):032x}"
        self.store(bucket, key, Stored(etag, count * record_bytes, None, first, record_bytes))

    def forget(self, bucket: str) -> None:
        """Delete all of a bucket."""
        self._objects.pop(bucket, None)
        self._keys.pop(bucket, None)

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request in path style."""
        bucket, _, key = request.path[1:].partition("/")
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        if not key:
            reply(self._list_uploads(bucket, query) if "uploads" in query else self._list(bucket, query))
            return
        method = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put_or_part,
            "DELETE": self._delete,
            "POST": self._upload,
        }[request.method]
        reply(method(bucket, unquote(key), request, query))

    # Listing

    def _sorted(self, bucket: str) -> list[str]:
        keys = self._keys.setdefault(bucket, [])
        if bucket in self._unsorted:
            self._unsorted.discard(bucket)
            keys.sort()
        return keys

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        self.calls["list"] += 1
        keys = self._sorted(bucket)
        objects, prefix = self._objects.get(bucket, {}), query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        page = int(query.get("max-keys", _PAGE))
        start = max(bisect.bisect_left(keys, prefix), bisect.bisect_right(keys, after))
        page_keys = [key for key in keys[start : start + page + 1] if key.startswith(prefix)]
        more, page_keys = len(page_keys) > page, page_keys[:page]
        token = f"<NextContinuationToken>{quote(page_keys[-1])}</NextContinuationToken>" if more else ""
        entries = "".join(
            [
                _ENTRY.format(key=quote(key), etag=objects[key].etag, size=objects[key].size)
                for key in page_keys
            ]
        )
        text = (
            f'{_HEAD}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>'
            f"<Prefix>{quote(prefix)}</Prefix><KeyCount>{len(page_keys)}</KeyCount><MaxKeys>{page}</MaxKeys>"
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
            f"</ListBucketResult>"
        )
        return Answer(200, text.encode(), _XML)

    def _list_uploads(self, bucket: str, query: dict[str, str]) -> Answer:
        self.calls["list uploads"] += 1
        prefix = query.get("prefix", "")
        uploads = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{name}</UploadId></Upload>"
            for name, (where, key, _) in self._uploads.items()
            if where == bucket and key.startswith(prefix)
        )
        text = (
            f'{_HEAD}<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>{bucket}'
            f"</Bucket><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
        )
        return Answer(200, text.encode(), _XML)

    # Objects

    def _get(self, bucket: str, key: str, request: Request, _: dict[str, str]) -> Answer:
        self.calls[request.method.lower()] += 1
        stored = self._objects.get(bucket, {}).get(key)
        if stored is None:
            return Answer(404) if request.method == "HEAD" else _error(404, "NoSuchKey")
        wanted = request.header(b"if-match:")
        if wanted and wanted.strip('"') != stored.etag:
            return _error(412, "PreconditionFailed")
        headers = f'ETag: "{stored.etag}"\r\nContent-Type: application/octet-stream\r\n'
        if request.method == "HEAD":
            return Answer(200, iter(()), headers, size=stored.size)
        bounds = re.fullmatch(r"bytes=(\d+)-(\d*)", request.header(b"range:"))
        if bounds is None:
            return self._body(200, stored, 0, stored.size, headers)
        start, end = int(bounds[1]), min(int(bounds[2] or stored.size - 1) + 1, stored.size)
        if start >= stored.size:
            return _error(416, "InvalidRange")
        headers += f"Content-Range: bytes {start}-{end - 1}/{stored.size}\r\n"
        return self._body(206, stored, start, end, headers)

    def _body(self, status: int, stored: Stored, start: int, end: int, headers: str) -> Answer:
        self.bytes_read += end - start
        return Answer(status, stored.pieces(start, end), headers, size=end - start)

    def _put_or_part(self, bucket: str, key: str, request: Request, query: dict[str, str]) -> Answer:
        if "partNumber" in query:
            return self._part(request, query)
        self.calls["put"] += 1
        if not self._may_replace(bucket, key, request):
            return _error(412, "PreconditionFailed")
        return Answer(200, b"", f'ETag: "{self.put(bucket, key, request.body)}"\r\n')

    def _may_replace(self, bucket: str, key: str, request: Request) -> bool:
        """Say whether the conditions of a write are met."""
        stored = self._objects.get(bucket, {}).get(key)
        wanted = request.header(b"if-match:").strip('"')
        if wanted and (stored is None or stored.etag != wanted):
            return False
        return stored is None or request.header(b"if-none-match:") != "*"

    def _delete(self, bucket: str, key: str, _: Request, query: dict[str, str]) -> Answer:
        if "uploadId" in query:
            self._uploads.pop(query["uploadId"], None)
            return Answer(204)
        self.calls["delete"] += 1
        if self._objects.get(bucket, {}).pop(key, None) is not None:
            keys = self._sorted(bucket)
            del keys[bisect.bisect_left(keys, key)]
        return Answer(204)

    # Uploads in parts

    def _upload(self, bucket: str, key: str, request: Request, query: dict[str, str]) -> Answer:
        if "uploads" in query:
            self.calls["begin upload"] += 1
            name = f"upload-{next(self._numbers)}"
            self._uploads[name] = (bucket, key, {})
            tag, content = "InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>"
        else:
            self.calls["complete upload"] += 1
            if not self._may_replace(bucket, key, request):
                return _error(412, "PreconditionFailed")
            _, _, parts = self._uploads.pop(query["uploadId"])
            numbers = [int(each) for each in re.findall(rb"<PartNumber>(\d+)<", request.body)]
            etag = self.put(bucket, key, b"".join([parts[number] for number in numbers]))
            tag, content = "CompleteMultipartUploadResult", f"<ETag>&quot;{etag}&quot;</ETag>"
        text = (
            f'{_HEAD}<{tag} xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Key>{key}</Key>{content}</{tag}>'
        )
        return Answer(200, text.encode(), _XML)

    def _part(self, request: Request, query: dict[str, str]) -> Answer:
        _, _, parts = self._uploads[query["uploadId"]]
        number, etag = int(query["partNumber"]), f"{next(self._numbers):032x}"
        source = request.header(b"x-amz-copy-source:")
        if not source:
            self.calls["upload part"] += 1
            parts[number] = request.body
            return Answer(200, b"", f'ETag: "{etag}"\r\n')
        self.calls["copy part"] += 1
        bucket, _, key = unquote(source).lstrip("/").partition("/")
        bounds = re.fullmatch(r"bytes=(\d+)-(\d+)", request.header(b"x-amz-copy-source-range:"))
        stored = self._objects[bucket][key]
        start, end = (int(bounds[1]), int(bounds[2]) + 1) if bounds else (0, stored.size)
        parts[number] = b"".join(stored.pieces(start, end))
        text = f"{_HEAD}<CopyPartResult><ETag>&quot;{etag}&quot;</ETag></CopyPartResult>"
        return Answer(200, text.encode(), _XML)


def _error(status: int, code: str) -> Answer:
    text = f"{_HEAD}<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Answer(status, text.encode(), _XML)
