"""The page of a report: valid HTML that loads no other file, escapes all texts and stays small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from airflow_sm_plugin.batches.report.elements import Link, RunContext
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.merge import page_of
from tests.multi_model.report.reports import (
    BAD,
    GOOD,
    T0,
    batch_of,
    busy,
    collected,
    explained,
    failure_row,
    shard_of,
    work_of,
)

HOSTILE = '<script>alert("x")</script>&amp;\'.tar.gz'
FOREIGN = "модель-日本語-é-\u202egz.tar"


class Page(HTMLParser):
    """A parser that checks the order of closing tags, and keeps elements, attributes and texts."""

    VOID: ClassVar = {"meta", "path", "br", "input"}
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
        lambda s: s.explained(HOSTILE, row, epoch_seconds=T0),
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
    assert [value for name, value in Page(page).attributes if name in ("href", "src")] == []


def test_the_page_names_its_run_and_links_to_it() -> None:
    context = RunContext(
        dag_id="stores<b>",
        run_id="manual__2026-11-18T11:06:40+00:00",
        task_id="batch.merge",
        clear="batch.batch with downstream",
        links=[Link("DAG run in Airflow", 'https://airflow.example/dags/s?a=1&b="2"')],
    )
    page = Page(page_of(hostile(), context))
    for text in ("stores<b>", "manual__2026-11-18T11:06:40+00:00", "batch.merge", "DAG run in Airflow"):
        assert text in page.texts
    assert "clear batch.batch with downstream" in page.text
    assert dict(page.attributes)["href"] == 'https://airflow.example/dags/s?a=1&b="2"'


def test_the_headline_comes_first_and_there_are_a_dark_and_a_print_style() -> None:
    page = page_of(hostile())
    text = Page(page).text
    parts = (
        "Unfinished: 3 of 6",
        "What to do now",
        "Invocations",
        "Failures",
        "Why records failed",
        "Timeline",
        "All models",
    )
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    assert b"prefers-color-scheme: dark" in page
    assert b"@media print" in page


def test_a_lone_surrogate_does_not_break_the_page() -> None:
    """JSON can hold one."""
    assert rb"odd-\ud800.tar.gz" in page_of(batch_of([shard_of(0, {"odd-\ud800.tar.gz": GOOD})]))


def test_the_page_of_many_failures_and_models_is_small() -> None:
    """110,000 failed records of 5,000 models, each message as long as it is kept and of a kind of its own."""
    words = ["".join(chr(97 + index // 26**power % 26) for power in range(3)) for index in range(10_000)]
    names = [f"region-{index % 7}/store-{index:05d}/model.tar.gz" for index in range(5_000)]
    steps = [busy(name, at=T0 + index / 3, invocations=3) for index, name in enumerate(names)]
    steps += [
        explained(name, message=f"{words[index]}-{words[number]} {'x' * 900}", record_count=2)
        for index, name in enumerate(names)
        for number in range(11)
    ]
    report = batch_of([shard_of(0, dict.fromkeys(names, BAD), statistics=collected(*steps))])
    assert sum(group.count for _, group in report.failure_groups) == 110_000
    page = page_of(report)
    assert len(page) < 2_000_000
    assert all(name.encode() in page for name in names)
    assert len(report.as_json()) < 12_000_000
