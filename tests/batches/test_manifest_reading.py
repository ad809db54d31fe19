"""A manifest in either form gives the same inputs, whatever wrote it, and a long one is never in memory as a whole."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches import manifest_reading
from airflow_sm_plugin.batches.inputs import BatchInput, ManifestEntry
from airflow_sm_plugin.batches.manifest_reading import manifest_entries
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri
from tests.multi_model.plan.plans import in_s3
from tests.support import Account

NAMES = ["x.csv", "deep/ü y%2F.csv", "x.csv"]


def read(account: Account, body: str | bytes, **given: Any) -> list[ManifestEntry]:  # noqa: ANN401 - flags
    location = account.upload(body)

    async def entries(s3: S3Objects) -> list[ManifestEntry]:
        async with aclosing(manifest_entries(s3, location, target_models=False, **given)) as listed:
            return [entry async for entry in listed]

    return in_s3(entries)


def array(prefix: str, *names: str, **options: Any) -> str:  # noqa: ANN401 - of json.dumps
    return json.dumps([{"prefix": prefix}, *names], **options)


def lines(*sources: str) -> str:
    return "".join(json.dumps({"source-ref": source}) + "\n" for source in sources)


@pytest.mark.parametrize(
    "body",
    [
        array("s3://b/in/", *NAMES),
        array("s3://b/in/", *NAMES, indent=2),
        array("s3://b/in/", *NAMES, indent=2, ensure_ascii=False) + "\n\n",
        "\n \t\n" + array("s3://b/in/", *NAMES, indent=0),
        b"\xef\xbb\xbf" + array("s3://b/in/", *NAMES).encode(),
        b"\xef\xbb\xbf" + array("s3://b/in/", *NAMES, indent=4).replace("\n", "\r\n").encode() + b"\r\n",
    ],
    ids=[
        "one line",
        "indented",
        "UTF-8",
        "empty lines before",
        "byte order mark",
        "byte order mark and CRLF",
    ],
)
def test_an_array_is_read_however_it_is_written(account: Account, body: str | bytes) -> None:
    assert read(account, body) == [
        ManifestEntry(
            position=f"element {number}",
            input=BatchInput(source=f"s3://b/in/{name}", relative=name),
            passed_over=(),
        )
        for number, name in enumerate(NAMES, start=2)
    ]


@pytest.mark.parametrize(
    ("prefix", "name", "source", "relative"),
    [
        ("s3://b/in/", "deep/a.csv", "s3://b/in/deep/a.csv", "deep/a.csv"),
        ("s3://b/in", "/a.csv", "s3://b/in/a.csv", "a.csv"),
        ("s3://b/in/part-", "0.csv", "s3://b/in/part-0.csv", "part-0.csv"),
        ("s3://b/", "in/a.csv", "s3://b/in/a.csv", "in/a.csv"),
    ],
)
def test_an_element_is_put_behind_the_prefix_and_named_below_it(
    account: Account, prefix: str, name: str, source: str, relative: str
) -> None:
    (entry,) = read(account, array(prefix, name))
    assert entry.input == BatchInput(source=source, relative=relative)


def test_hidden_objects_are_taken_from_a_manifest(account: Account) -> None:
    assert len(read(account, array("s3://b/in/", "_SUCCESS", ".x.crc"))) == 2
    assert len(read(account, lines("s3://b/_SUCCESS", "s3://b/_a/.x.crc"))) == 2


@pytest.mark.parametrize("body", ["", "\n\r\n", "\ufeff", "\ufeff\n \n", array("s3://b/in/")])
def test_a_manifest_may_list_nothing(account: Account, body: str) -> None:
    assert read(account, body.encode()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + lines("s3://b/1", "s3://b/2").encode(),
        lines("s3://b/1", "s3://b/2").replace("\n", "\r\n").encode(),
        lines("s3://b/1", "s3://b/2").replace("\n", "\n\n \t\n").encode(),
        lines("s3://b/1", "s3://b/2").rstrip().encode(),
        "\ufeff\r\n\r\n".encode() + lines("s3://b/1", "s3://b/2").encode(),
    ],
    ids=["byte order mark", "CRLF", "empty lines", "no end", "byte order mark in an empty line"],
)
def test_json_lines_are_read_however_they_are_written(account: Account, body: bytes) -> None:
    assert [entry.input for entry in read(account, body)] == [
        BatchInput(source="s3://b/1"),
        BatchInput(source="s3://b/2"),
    ]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (array("b/in/", "a"), InvalidS3Uri, "the prefix of the manifest must look like s3://"),
        (array("s3://b/in/", "a", "folder/"), InvalidS3Uri, "element 3 of the manifest must name an object"),
        ('[{"prefix": "s3://b/"}, "\\ud83d"]', InvalidS3Uri, "element 2 of the manifest .*surrogate"),
        ("[", InvalidRequest, "not JSON"),
        (
            array("s3://b/in/", "a", "s3://b/in/a"),
            InvalidRequest,
            "element 3 of the manifest is 's3://b/in/a': names are relative to the prefix, 's3://b/in/'",
        ),
        (
            json.dumps([{"prefix": "s3://b/in/"}, "a", {"prefix": "s3://b/x/"}]),
            InvalidRequest,
            "element 3 of the manifest .* not an object; a manifest has one prefix",
        ),
        (
            json.dumps({"entries": [{"url": "s3://b/a"}]}),
            InvalidRequest,
            "this looks like Redshift's own kind",
        ),
        (
            json.dumps({"entries": [{"url": "s3://b/a"}]}, indent=2),
            InvalidRequest,
            r"manifests of Redshift \(entries\)",
        ),
        (
            json.dumps({"fileLocations": [{"URIs": []}]}),
            InvalidRequest,
            "this looks like QuickSight's own kind",
        ),
        ('{"label": 1}', InvalidRequest, 'has no source-ref: .* as in {"source-ref": "s3://bucket/key"}'),
        (
            lines("s3://b/1") + array("s3://b/in/", "a"),
            InvalidRequest,
            "line 2 of the manifest is a JSON list",
        ),
        (array("s3://b/in/", "a") + "\n" + lines("s3://b/1"), InvalidRequest, "Extra data in line 2"),
    ],
)
def test_an_entry_that_is_no_input_is_named_by_its_position(
    account: Account, body: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(account, body)


@pytest.mark.parametrize("indent", [None, 0], ids=["one line", "many lines"])
def test_an_array_is_read_up_to_a_limit(
    account: Account, monkeypatch: pytest.MonkeyPatch, indent: int | None
) -> None:
    monkeypatch.setattr(manifest_reading, "LARGEST_ARRAY", 10_000)
    small, large = (
        array("s3://b/in/", *(f"{n:08d}" for n in range(count)), indent=indent) for count in (500, 2_000)
    )
    assert len(read(account, small)) == 500
    with pytest.raises(InvalidRequest, match=r"10000 bytes.*(JSON Lines|one record a line)"):
        read(account, large)


def test_labels_are_logged_once_without_their_values(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    many = {f"label-{number}": "secret" for number in range(20)}
    body = "".join(
        json.dumps({"source-ref": "s3://b/k", "churn": 1, "churn-metadata": {"human": "secret"}, **more})
        + "\n"
        for more in ({}, {}, many)
    )
    with caplog.at_level(logging.INFO):
        assert len(read(account, body)) == 3
    (message,) = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert "'churn', 'churn-metadata', 'label-0'" in message
    assert message.endswith("and more")
    assert "secret" not in caplog.text


def test_a_line_is_an_input_before_the_next_is_read() -> None:
    """So a manifest may have any number of lines."""
    drawn = 0

    class Endless:
        async def read_lines(self, _: str, *, longest: int) -> AsyncGenerator[str, None]:
            nonlocal drawn
            while drawn < longest:
                drawn += 1
                yield lines(f"s3://b/{drawn}")

    async def some() -> list[str]:
        entries = manifest_entries(cast("S3Objects", Endless()), "s3://b/m", target_models=False)
        async with aclosing(entries):
            sources = []
            async for entry in entries:
                sources.append(entry.input.source)
                if drawn == 1_000:
                    break
            return sources

    assert asyncio.run(some()) == [f"s3://b/{number}" for number in range(1, 1_001)]
