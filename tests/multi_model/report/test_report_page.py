"""The page of a report: valid HTML that loads no other file, escapes all texts and stays small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.merge import page_of
from tests.multi_model.report.reports import (
    BAD,
    GOOD,
    T0,
    batch_of,
    busy,
    collected,
    failure_row,
    shard_of,
    work_of,
)

HOSTILE = '<script>alert("x")</script>&amp;\'.tar.gz'
FOREIGN = "модель-日本語-é-\u202egz.tar"


class Page(HTMLParser):
    """A parser that checks the order of closing tags, and keeps elements, attributes and texts."""

    VOID: ClassVar = {"meta", "path", "br"}
    OPTIONAL: ClassVar = {"td", "tr"}

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        while tag in self.OPTIONAL and self.open[-1] == "td":
            self.open.pop()
        if tag == "tr" and self.open[-1] == "tr":
            self.open.pop()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] in self.OPTIONAL and tag != self.open[-1]:
            self.open.pop()
        if tag not in self.VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def hostile() -> BatchReport:
    row = failure_row(HOSTILE, message="</pre><img src=x onerror=alert(1)> \x1b[0m", error="Model<b>Error")
    statistics = collected(
        busy(HOSTILE),
        busy(FOREIGN, at=T0 + 5_000),
        lambda s: s.failed(HOSTILE, "Model<b>Error", records=3),
        lambda s: s.repeated(HOSTILE, "<i>Throttling"),
    )
    return batch_of(
        [shard_of(0, {HOSTILE: BAD, FOREIGN: GOOD}, statistics=statistics, failures=[row])],
        [work_of(1, {"c.tar.gz": 2})],
        endpoint_name="stores",
        outputs="s3://bucket/<outputs>",
        missing_models=(HOSTILE,),
    )


@pytest.mark.parametrize(
    "report",
    [
        hostile(),
        batch_of([]),
        batch_of([shard_of(0)]),
        batch_of([shard_of(0, statistics=collected(lambda s: s.loaded("a.tar.gz", began=T0, ended=T0)))]),
    ],
)
def test_every_element_is_closed(report: BatchReport) -> None:
    page = Page(page_of(report))
    assert page.open == []
    assert page.elements[:2] == ["html", "head"]


def test_quoted_texts_are_escaped() -> None:
    page = Page(page_of(hostile()))
    assert page.elements.count("script") == 1
    assert not {"img", "b"} & set(page.elements)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for quoted in (HOSTILE, FOREIGN, "</pre><img src=x onerror=alert(1)> \ufffd[0m", "Model<b>Error"):
        assert quoted in page.text


def test_the_page_loads_no_other_file() -> None:
    page = page_of(hostile())
    assert not re.search(rb"https?:|@import|url\(|<link|src=\"", page)
    assert [value for name, value in Page(page).attributes if name in ("href", "src")] == ["#failures"]


def test_the_headline_comes_first_and_there_are_a_dark_and_a_print_style() -> None:
    page = page_of(hostile())
    text = Page(page).text
    assert 0 < text.index("Unfinished: 1 of 2 shards") < text.index("Records") < text.index("What went on")
    assert text.index("What went on") < text.index("First failures") < text.index("All models")
    assert b"prefers-color-scheme: dark" in page
    assert b"@media print" in page


def test_a_lone_surrogate_does_not_break_the_page() -> None:
    """JSON can hold one."""
    assert rb"odd-\ud800.tar.gz" in page_of(batch_of([shard_of(0, {"odd-\ud800.tar.gz": GOOD})]))


def test_the_page_of_three_thousand_models_is_small() -> None:
    names = [f"region-{index % 7}/store-{index:05d}/model.tar.gz" for index in range(3_000)]
    statistics = collected(
        *(busy(name, at=T0 + index / 3, invocations=3) for index, name in enumerate(names))
    )
    report = batch_of(
        [shard_of(0, dict.fromkeys(names, BAD), statistics=statistics, failures=[failure_row()] * 20)]
    )
    page = page_of(report)
    assert len(page) < 1_500_000
    assert Page(page).open == []
