"""A page of a listing is believed only when it can be one of what was asked for; no answer makes a listing endless."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from airflow_sm_plugin.async_inference.single.run import InvocationStore
from airflow_sm_plugin.aws import retry as s3_repeats
from airflow_sm_plugin.aws.s3.listing import (
    MOST_EMPTY_PAGES,
    ListedObject,
    ObjectPage,
    Page,
    Wanted,
    whole_page,
)
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.listing import batch_inputs, names_below
from airflow_sm_plugin.exceptions import RequestRefused, ServiceUnavailable
from tests.aws.s3.against import against
from tests.stubs.recorder import TRANSPORTS, Asked, Said

WANTED = Wanted("bucket", "in/", "in/b")


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A botocore configuration for each of the two transports."""
    return {"connect_timeout": 600, "read_timeout": 600, **TRANSPORTS[request.param]}


def page_of(*pages: Page | ObjectPage, wanted: Wanted = WANTED) -> tuple[Page | ObjectPage, list[str]]:
    """Return what comes of these answers, one after the other, the last for ever, and the tokens that were sent."""
    tokens: list[str] = []

    async def ask(token: str) -> Any:  # noqa: ANN401 - a page of either kind
        tokens.append(token)
        return pages[min(len(tokens), len(pages)) - 1]

    return asyncio.run(whole_page(ask, wanted)), tokens


@pytest.mark.parametrize(
    "page",
    [
        Page([], is_truncated=False),
        Page(["in/c"], is_truncated=True),
        Page(["in/c", "in/d"], is_truncated=False, bucket="bucket"),
        Page(["in/z", "in/\uff5e", "in/\U0001f600"], is_truncated=False),
        ObjectPage([ListedObject("in/c", 0, "e")], is_truncated=False),
    ],
)
def test_a_page_of_what_was_asked_for_is_taken(page: Page | ObjectPage) -> None:
    assert page_of(page) == (page, [""])


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (Page(["in/a", "in/c"], is_truncated=True), "begins with in/a, though only keys behind"),
        (Page(["in/b"], is_truncated=True), "begins with in/b, though only keys behind"),
        (Page(["in/d", "in/c"], is_truncated=False), "not in order"),
        (Page(["in/c", "in/c"], is_truncated=False), "is there twice"),
        (Page(["other/c"], is_truncated=False), "key other/c, which does not begin with the prefix"),
        (Page(["in/c", "out/c"], is_truncated=False), "key out/c, which does not begin with the prefix"),
        (Page(["in/c"], is_truncated=False, bucket="theirs"), "of another bucket, theirs"),
        (ObjectPage([ListedObject("in/c", -2, "e")], is_truncated=False), "negative size"),
        (Page([], is_truncated=True), "nor says how to go on"),
    ],
)
def test_any_other_page_is_an_error_that_may_pass(page: Page | ObjectPage, why: str) -> None:
    with pytest.raises(
        ServiceUnavailable, match=f"s3://bucket/in/: the answer is not to be believed: .*{why}"
    ) as raised:
        page_of(page)
    assert raised.value.retryable


@pytest.mark.parametrize(
    "name", ["arn:aws:s3:us-east-1:1:accesspoint/a", "a-1234-s3alias", "a--use1-az4--xa-s3"]
)
def test_an_access_points_answer_may_have_the_buckets_name(name: str) -> None:
    page = Page(["in/c"], is_truncated=False, bucket="bucket")
    assert page_of(page, wanted=Wanted(name, "in/", ""))[0] == page


def test_a_directory_buckets_disorder_does_not_pass() -> None:
    page = Page(["in/d", "in/c"], is_truncated=False)
    with pytest.raises(RequestRefused, match="use a general purpose bucket"):
        page_of(page, wanted=Wanted("b--use1-az4--x-s3", "in/", ""))


def test_empty_pages_are_passed_by_their_tokens() -> None:
    empty = [Page([], is_truncated=True, token=token) for token in ("t1", "t2")]
    last = Page(["in/c"], is_truncated=False)
    assert page_of(*empty, last) == (last, ["", "t1", "t2"])


def test_tokens_that_lead_nowhere_are_not_followed_for_ever() -> None:
    with pytest.raises(ServiceUnavailable, match="nor says how to go on"):
        page_of(Page([], is_truncated=True, token="t"))
    pages = [Page([], is_truncated=True, token=str(number)) for number in range(2 * MOST_EMPTY_PAGES)]
    with pytest.raises(ServiceUnavailable, match=f"{MOST_EMPTY_PAGES} pages in a row"):
        page_of(*pages)


def listing(*keys: str, truncated: bool, token: str = "") -> Said:
    contents = "".join(f"<Contents><Key>{key}</Key><ETag>e</ETag><Size>1</Size></Contents>" for key in keys)
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return Said(
        200,
        f"<ListBucketResult><Name>b</Name><KeyCount>{len(keys)}</KeyCount><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{more}{contents}</ListBucketResult>".encode(),
    )


def test_both_transports_send_the_token_and_keep_where_they_start(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(asked: Asked) -> Said:
        return listing("p/b", truncated=False) if "continuation-token=t%2B" in asked.target else first

    first = listing(truncated=True, token="t+")
    for use in (
        lambda s3: s3.list_names("b", "p/", start_after="p/a"),
        lambda s3: s3.list_objects("b", "p/", start_after="p/a"),
    ):
        page, asked = against(answer, monkeypatch, options, use)
        assert isinstance(page, Page | ObjectPage)
        assert (page.names, page.next_start_after) == (["p/b"], None)
        assert ["start-after=p%2Fa" in each.target for each in asked] == [True, True]


Use = Callable[[S3Objects], Awaitable[object]]


async def _inputs(s3: S3Objects) -> list[object]:
    return [one async for one in batch_inputs(s3, InputSource(location="s3://b/p/"))]


USES: dict[str, Use] = {
    "claims and journals": lambda s3: names_below(s3, "s3://b/p/"),
    "an invocation's state": lambda s3: InvocationStore(s3, "s3://b/p/").read(),
    "inputs": _inputs,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(
    "page", [listing("p/a", "p/b", truncated=True), listing(truncated=True)], ids=["the same", "an empty"]
)
def test_a_store_that_answers_one_page_for_ever_ends_every_listing(
    page: Said, use: Use, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that ignores start-after: nothing is listed twice, and nothing is dropped in silence."""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr(s3_repeats, "OUTAGE_SECONDS", 0.0)
    result, asked = against(lambda _: page, monkeypatch, options, use)
    assert type(result) is ServiceUnavailable
    assert len(asked) <= 1 + s3_repeats.ATTEMPTS
