"""What the page marks, hides and shows, and that whatever it shows is text."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from airflow_sm_plugin.page.overview import (
    RegionOverview,
    ShownBatch,
    ShownEndpoint,
    dags_in,
    is_web_address,
    latest_batches,
    permitted,
)
from airflow_sm_plugin.page.rendering import page_of
from airflow_sm_plugin.resources.made_in import MadeIn

HOUR = 3600.0
NOW = 1_800_000_000.0
MADE = MadeIn("churn", "manual__2026-11-30T00:00:00+00:00", "deploy")
ENDPOINT = ShownEndpoint(
    name="churn",
    status="InService",
    instances=["ml.m5.xlarge \u00d7 1"],
    created_at=NOW - 90 * HOUR,
    changed_at=NOW - 80 * HOUR,
    usage_known=True,
    made_in=MADE,
)
BATCH = ShownBatch(
    dag_id="scores",
    run_id="run 1",
    task_id="scores.merge",
    map_index=-1,
    ended_at=NOW - HOUR,
    link="https://example.com/report.html",
    summary={"records": 1200, "failed": 3, "endpoint_name": "stores"},
)


@pytest.mark.parametrize(
    ("changes", "idle_since"),
    [
        ({}, NOW - 80 * HOUR),
        ({"last_used": NOW - 50 * HOUR}, NOW - 50 * HOUR),
        ({"last_used": NOW - 24 * HOUR}, NOW - 24 * HOUR),
        ({"last_used": NOW - 23.9 * HOUR}, None),
        ({"last_used": NOW + HOUR}, None),
        ({"changed_at": NOW - 2 * HOUR}, None),
        ({"usage_known": False}, None),
        ({"status": "Failed"}, None),
        ({"status": "Creating"}, None),
        ({"status": "Updating"}, NOW - 80 * HOUR),
    ],
)
def test_an_endpoint_is_marked_that_serves_and_was_not_invoked_for_a_day(
    changes: dict[str, Any], idle_since: float | None
) -> None:
    assert dataclasses.replace(ENDPOINT, **changes).idle_since(NOW) == idle_since


def test_a_user_sees_the_endpoints_of_the_dags_he_is_permitted_to_read() -> None:
    others = [
        dataclasses.replace(ENDPOINT, name="hidden", made_in=MadeIn("payroll", "r", "t")),
        dataclasses.replace(ENDPOINT, name="elsewhere", made_in=MadeIn("payroll", "r", "t", site="ffff")),
        dataclasses.replace(ENDPOINT, name="unnamed", made_in=None),
    ]
    region = RegionOverview(connection="c", region="r", endpoints=[ENDPOINT, *others])
    shown, hidden = permitted(region, {"churn"}, site="")
    assert [each.name for each in shown.endpoints] == ["churn", "elsewhere", "unnamed"]
    assert [each.made_in for each in shown.endpoints] == [MADE, None, None]
    assert hidden == 1
    assert dags_in([region]) == {"churn", "payroll"}


def test_of_a_batch_the_merged_report_is_shown_and_else_those_of_its_shards() -> None:
    shards = [dataclasses.replace(BATCH, task_id="scores.batch", map_index=index) for index in range(3)]
    other = dataclasses.replace(BATCH, run_id="run 2", ended_at=NOW)
    assert latest_batches([*shards, BATCH, other], most=20) == [other, BATCH]
    assert latest_batches(shards, most=2) == shards[:2]


@pytest.mark.parametrize(
    ("link", "is_one"),
    [
        ("https://example.com/a", True),
        ("http://127.0.0.1:4566/_embedded", True),
        ("javascript:alert(1)", False),
        ("JAVASCRIPT:alert(1)//https://", False),
        ("//example.com", False),
        ("", False),
        (None, False),
        ({"url": "https://x"}, False),
    ],
)
def test_only_web_addresses_become_links(link: object, is_one: bool) -> None:
    assert is_web_address(link) is is_one


def page(regions: list[RegionOverview] | None, *batches: ShownBatch, **others: Any) -> str:  # noqa: ANN401 - texts and numbers
    usual: dict[str, Any] = {"now": NOW, "root": "", "age": 4.0, "refreshing": False, "hidden": 0}
    return page_of(regions, batches, **usual | others)


def test_whatever_aws_or_a_dag_names_so_is_text() -> None:
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x00"
    made = MadeIn(attack, attack, attack)
    endpoint = dataclasses.replace(
        ENDPOINT, name=attack, status=attack, instances=[attack], failure=attack, made_in=made
    )
    region = RegionOverview(connection=attack, region=attack, endpoints=[endpoint], problems=[attack])
    summary = {"endpoint_name": attack, "records": attack, "failed": attack}
    batch = dataclasses.replace(
        BATCH, dag_id=attack, run_id=attack, task_id=attack, summary=summary, link=f"https://{attack}"
    )
    text = page([region, dataclasses.replace(region, connection="b")], batch)
    assert re.findall(r"<(?:script|img)[^>]*>", text) == ['<script src="page.js" defer>']
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "\x00" not in text
    assert 'href="/dags/%3Cscript%3E' in text


def test_the_idle_endpoint_comes_first_and_is_counted() -> None:
    used = dataclasses.replace(ENDPOINT, name="a-used-one", last_used=NOW - 2 * HOUR)
    text = page([RegionOverview(connection="c", region="eu-west-1", endpoints=[used, ENDPOINT])])
    assert "2 endpoints made by DAGs" in text
    assert "1 endpoint not invoked for a day or longer" in text
    assert text.index('<tr class="idle">') < text.index("not invoked for 3 d 8 h") < text.index("a-used-one")
    assert "2 h ago" in text
    assert text.count('class="idle"') == 1


def test_a_batch_has_links_to_its_run_its_task_and_its_report() -> None:
    text = page([], BATCH, dataclasses.replace(BATCH, map_index=2), root="/airflow")
    assert 'href="/airflow/dags/scores/runs/run%201"' in text
    assert 'href="/airflow/dags/scores/runs/run%201/tasks/scores.merge"' in text
    assert 'href="/airflow/dags/scores/runs/run%201/tasks/scores.merge/mapped/2"' in text
    assert 'href="https://example.com/report.html" target="_blank" rel="noopener noreferrer"' in text
    assert "1\u202f200" in text


def test_before_the_first_answer_the_page_says_so_and_comes_again() -> None:
    text = page(None, age=None, refreshing=True)
    assert "AWS has not answered yet" in text
    assert '<meta http-equiv="refresh" content="5">' in text
    assert "refresh" not in page([])


def test_what_is_not_shown_is_counted() -> None:
    text = page([RegionOverview(connection="c", region="r", endpoints=[ENDPOINT], not_described=7)], hidden=2)
    assert "7 endpoints beyond the limit of this page not shown" in text
    assert "2 endpoints of DAGs that you are not permitted to read not shown" in text
