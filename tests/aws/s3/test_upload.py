"""Objects written in parts, read in ranges and taken only as they were planned, over both transports."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.retry import ATTEMPTS
from airflow_sm_plugin.aws.s3.objects import ListedObject, S3Objects
from airflow_sm_plugin.aws.s3.upload import LEAST_PART_BYTES, MultipartUpload, ObjectOptions
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InputChanged,
    InputNotFound,
    PreconditionFailed,
    RequestRefused,
    ServiceUnavailable,
)
from tests.aws.s3.against import against, run
from tests.stubs.recorder import TRANSPORTS, Asked, Said
from tests.support import Account, unique

pytestmark = pytest.mark.airflow

Result = TypeVar("Result")
OPTIONS = ObjectOptions(kms_key_id="alias/a-key", acl="bucket-owner-full-control")
BEGUN = Said(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
COMPLETED = Said(200, b'<CompleteMultipartUploadResult><ETag>"e-1"</ETag></CompleteMultipartUploadResult>')
COPIED = Said(
    200, b'<CopyPartResult><ETag>"c"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></CopyPartResult>'
)
UPLOADED = Said(200, b"", {"ETag": '"p"', "x-amz-checksum-crc32": "jNwWgw=="})
FAILS_LATE = Said(
    200, b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code><Message>m</Message></Error>"
)


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A botocore configuration for each of the two transports."""
    return {"connect_timeout": 600, "read_timeout": 600, **TRANSPORTS[request.param]}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are full-jitter: dice that always show nothing make them nothing."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


def xml(status: int, code: str) -> Said:
    return Said(status, f"<Error><Code>{code}</Code><Message>said the test</Message></Error>".encode())


def test_parts_added_and_copied_become_one_object(account: Account, options: Mapping[str, Any]) -> None:
    folder = f"s3://{account.bucket}/{unique('parts')}"
    source, location = f"{folder}/a ü+source'.bin", f"{folder}/ü target.out"
    first, copied = bytes(LEAST_PART_BYTES), bytes([1]) * LEAST_PART_BYTES

    async def use(s3: S3Objects) -> ListedObject | Presence:
        await s3.write(source, b"--" + copied + b"--")
        upload = await MultipartUpload.begin(s3, location, content_type="text/csv", options=OPTIONS)
        await upload.add(first)
        await upload.copy(source, 2, len(copied))
        await upload.add(b"the end")
        assert upload.size == len(first) + len(copied) + 7
        assert await s3.presence(location) is Presence.ABSENT
        await upload.complete()
        await upload.abort()
        return await s3.stat(location)

    found = run(options, use)
    assert isinstance(found, ListedObject)
    assert found.size == 2 * LEAST_PART_BYTES + 7
    assert account.read(location) == first + copied + b"the end"
    head = account.s3.head_object(Bucket=account.bucket, Key=location.partition(f"{account.bucket}/")[2])
    assert head["ContentType"] == "text/csv"


def test_an_object_written_at_once_has_its_key_and_its_acl_too(
    account: Account, options: Mapping[str, Any]
) -> None:
    key = unique("encrypted")
    run(options, lambda s3: s3.write(f"s3://{account.bucket}/{key}", b"x", options=OPTIONS))
    head = account.s3.head_object(Bucket=account.bucket, Key=key)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/a-key")


def test_an_upload_that_was_given_up_leaves_nothing(account: Account, options: Mapping[str, Any]) -> None:
    location = f"s3://{account.bucket}/{unique('given-up')}"

    async def use(s3: S3Objects) -> None:
        upload = await MultipartUpload.begin(s3, location)
        await upload.add(b"part")
        await upload.abort()

    run(options, use)
    assert "Uploads" not in account.s3.list_multipart_uploads(Bucket=account.bucket)


async def write_in_parts(s3: S3Objects) -> None:
    upload = await MultipartUpload.begin(s3, "s3://b/k", options=OPTIONS)
    await upload.add(b"x")
    await upload.copy("s3://b/a b", 3, 4)
    await upload.complete()


def by_step(asked: Asked) -> str:
    if asked.method == "POST":
        return "begin" if asked.target.endswith("?uploads") else "complete"
    return "copy" if "x-amz-copy-source" in asked.headers else asked.method


GOOD = {"begin": BEGUN, "PUT": UPLOADED, "copy": COPIED, "complete": COMPLETED}


def test_an_upload_tells_what_its_parts_are(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the checksums that S3 answered, as boto3's own uploads do: S3 wants them once an algorithm is named."""
    _, asked = against(lambda each: GOOD[by_step(each)], monkeypatch, options, write_in_parts)
    begun, added, copied, completed = asked
    assert begun.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/a-key"
    assert begun.headers["x-amz-acl"] == "bucket-owner-full-control"
    assert begun.headers["x-amz-checksum-algorithm"] == "CRC32"
    assert added.headers["x-amz-checksum-crc32"] == "jNwWgw=="
    assert copied.headers["x-amz-copy-source"] == "b/a%20b"
    assert copied.headers["x-amz-copy-source-range"] == "bytes=3-6"
    assert completed.body.count(b"<ChecksumCRC32>") == 2
    assert b"<PartNumber>2</PartNumber>" in completed.body


def test_no_checksum_is_reported_where_the_configuration_wants_none(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {
        **GOOD,
        "PUT": Said(200, b"", {"ETag": '"p"'}),
        "copy": Said(200, COPIED.body.replace(b"CRC32", b"X")),
    }
    options = {**options, "request_checksum_calculation": "when_required"}
    _, asked = against(lambda each: good[by_step(each)], monkeypatch, options, write_in_parts)
    assert not any("checksum" in name for each in asked for name in each.headers)
    assert b"Checksum" not in asked[-1].body


@pytest.mark.parametrize("step", GOOD)
@pytest.mark.parametrize("trouble", ["closed", "slow down", "says 200 and fails"])
def test_every_step_endures_trouble_five_times_in_all(
    step: str, trouble: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"closed": Said(0), "slow down": xml(503, "SlowDown"), "says 200 and fails": FAILS_LATE}[trouble]
    if trouble == "says 200 and fails" and step not in ("copy", "complete"):
        pytest.skip("S3 does that only where it works long")
    left = ATTEMPTS - 1

    def troubled(asked: Asked) -> Said:
        nonlocal left
        if by_step(asked) != step or not left:
            return GOOD[by_step(asked)]
        left -= 1
        return said

    result, asked = against(troubled, monkeypatch, options, write_in_parts)
    assert result is None
    assert len(asked) == len(GOOD) + ATTEMPTS - 1

    def failing(asked: Asked) -> Said:
        return said if by_step(asked) == step else GOOD[by_step(asked)]

    result, _ = against(failing, monkeypatch, options, write_in_parts)
    assert isinstance(result, ServiceUnavailable)


HEX = {**GOOD, "PUT": Said(200, b"", {"ETag": f'"{"0" * 32}"'})}


async def one_part(s3: S3Objects, **condition: Any) -> None:  # noqa: ANN401 - as complete()
    upload = await MultipartUpload.begin(s3, "s3://b/k")
    await upload.add(b"12345")
    await upload.complete(**condition)


@pytest.mark.parametrize(
    "answers",
    [
        (Said(0), xml(404, "NoSuchUpload")),
        (xml(503, "SlowDown"), xml(412, "PreconditionFailed")),
        (FAILS_LATE, xml(404, "NoSuchUpload")),
    ],
    ids=["closed", "slow down", "says 200 and fails"],
)
@pytest.mark.parametrize(
    ("there", "done"),
    [((5, b"\0" * 16), True), ((6, b"\0" * 16), False), ((5, b"\1" * 16), False)],
    ids=["ours", "another size", "another object"],
)
def test_an_upload_that_was_completed_by_a_lost_attempt_is_complete(
    answers: tuple[Said, Said],
    there: tuple[int, bytes],
    done: bool,
    options: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ETag tells: that of an object in parts follows from those of the parts."""
    completions = iter(answers)
    etag = f'"{hashlib.md5(there[1], usedforsecurity=False).hexdigest()}-1"'

    def answer(asked: Asked) -> Said:
        if asked.method == "HEAD":
            return Said(200, b"x" * there[0], {"ETag": etag})
        return next(completions) if by_step(asked) == "complete" else HEX[by_step(asked)]

    result, _ = against(answer, monkeypatch, options, lambda s3: one_part(s3, only_if_new=True))
    assert isinstance(result, PreconditionFailed) is not done


def test_an_upload_is_completed_only_over_the_object_that_was_meant(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[dict[str, Any], tuple[str | None, str | None]]] = [
        ({}, (None, None)),
        ({"only_if_new": True}, ("*", None)),
        ({"if_match": "e"}, (None, '"e"')),
        ({"if_match": '"e"'}, (None, '"e"')),
    ]
    for condition, headers in given:
        result, asked = against(
            lambda each: GOOD[by_step(each)], monkeypatch, options, partial(one_part, **condition)
        )
        assert result is None
        assert (asked[-1].headers.get("if-none-match"), asked[-1].headers.get("if-match")) == headers


@pytest.mark.parametrize(
    "said",
    [
        xml(412, "PreconditionFailed"),
        xml(409, "ConditionalRequestConflict"),
        xml(404, "NoSuchKey"),
        xml(404, "NoSuchUpload"),
        Said(200, FAILS_LATE.body.replace(b"InternalError", b"PreconditionFailed")),
    ],
    ids=["written", "being written", "deleted", "given up", "found out late"],
)
def test_who_is_slower_completes_nothing_and_is_reported_at_once(
    said: Said, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 wants a new upload then, whatever it was."""
    good = {**GOOD, "complete": said}
    result, asked = against(
        lambda each: good[by_step(each)], monkeypatch, options, lambda s3: one_part(s3, if_match="e")
    )
    assert isinstance(result, PreconditionFailed)
    assert len(asked) == 3


@pytest.mark.parametrize("step", ["PUT", "copy", "complete"])
def test_an_upload_that_another_aborted_is_no_refusal(
    step: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may fare better; other things that are missing stay what they were."""
    for code, error in (("NoSuchUpload", PreconditionFailed), ("NoSuchBucket", RequestRefused)):
        good = {**GOOD, step: xml(404, code)}
        result, _ = against(lambda each: good[by_step(each)], monkeypatch, options, write_in_parts)  # noqa: B023
        assert type(result) is error


def test_an_upload_in_parts_is_fenced_by_the_embedded_s3(
    account: Account, options: Mapping[str, Any]
) -> None:
    """It knows no ``If-Match`` here, and takes it; what S3 says of that is in the tests above."""
    location = f"s3://{account.bucket}/{unique('fenced')}"

    async def use(s3: S3Objects) -> None:
        upload = await MultipartUpload.begin(s3, location)
        await upload.add(b"part")
        await s3.write(location, b"faster")
        with pytest.raises(PreconditionFailed):
            await upload.complete(only_if_new=True)
        found = await s3.stat(location)
        assert isinstance(found, ListedObject)
        await upload.complete(if_match=found.etag)

    run(options, use)
    assert account.read(location) == b"part"


def test_a_part_of_an_object_is_read_by_its_bytes(account: Account, options: Mapping[str, Any]) -> None:
    location = f"s3://{account.bucket}/{unique('ranges')}"
    account.s3.put_object(Bucket=account.bucket, Key=location.rpartition("/")[2], Body=b"0123456789")

    async def use(s3: S3Objects) -> list[bytes]:
        with pytest.raises(InputNotFound):
            await s3.read_range(f"{location}-not", 0, 1)
        return [await s3.read_range(location, start, 4) for start in (0, 3, 8, 10, 99)]

    assert run(options, use) == [b"0123", b"3456", b"89", b"", b""]


async def read_on(s3: S3Objects, location: str, etag: str | None, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in s3.chunks(location, etag=etag, start=start)])


def test_an_object_is_read_from_any_byte_on_while_it_is_the_one_that_is_meant(
    account: Account, options: Mapping[str, Any]
) -> None:
    key = unique("streamed")
    location, body = f"s3://{account.bucket}/{key}", bytes(range(200)) * 1_000
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=body)

    async def use(s3: S3Objects) -> None:
        listed = await s3.stat(location)
        assert isinstance(listed, ListedObject)
        for etag in (listed.etag, f'"{listed.etag}"', None):
            for start in (0, 1, 150_000, len(body), len(body) + 1):
                assert await read_on(s3, location, etag, start) == body[start:]
        with pytest.raises(InputNotFound):
            await read_on(s3, f"{location}-not", listed.etag)
        for start in (0, 7):
            with pytest.raises(InputChanged, match="another process wrote it"):
                await read_on(s3, location, "0" * 32, start)

    run(options, use)


def test_an_input_that_may_not_be_read_says_so(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, asked = against(
        lambda _: xml(403, "AccessDenied"), monkeypatch, options, lambda s3: read_on(s3, "s3://b/k", "e")
    )
    assert isinstance(result, AccessDenied)
    assert [each.headers["if-match"] for each in asked] == ['"e"']


def test_an_object_that_breaks_off_is_read_on_and_must_be_the_same(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = iter(
        [
            Said(206, b"cd", {"ETag": '"e"'}, cut=3),
            Said(206, b"e", {"ETag": '"e"'}, cut=2),
            xml(412, "PreconditionFailed"),
        ]
    )
    result, asked = against(
        lambda _: next(pieces), monkeypatch, options, lambda s3: read_on(s3, "s3://b/k", None, 2)
    )
    assert isinstance(result, InputChanged)
    assert [each.headers["range"] for each in asked] == ["bytes=2-", "bytes=4-", "bytes=5-"]
    assert [each.headers.get("if-match") for each in asked] == [None, '"e"', '"e"']


def test_the_embedded_s3_refuses_what_is_not_the_object_meant(account: Account) -> None:
    """Else the tests above would prove little."""
    key = unique("conditional")
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=b"x")
    with pytest.raises(ClientError, match=r"PreconditionFailed|412"):
        account.s3.get_object(Bucket=account.bucket, Key=key, IfMatch='"other"')
