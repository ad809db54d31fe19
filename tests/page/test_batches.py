"""The last batches, from XComs as Airflow stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

pytest.importorskip("airflow.models.xcom", reason="the page is for Airflow 3.1 and later")

import airflow.models.taskinstance  # noqa: F401 - the tables that an XCom refers to
import sqlalchemy
from airflow.models.xcom import XComModel
from sqlalchemy import insert
from sqlalchemy.orm import Session

from airflow_sm_plugin.page.batches import MOST_BATCHES, batches_of

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
LINK, RESULT = "_link_BatchReportLink", "return_value"


@pytest.fixture
def session() -> Iterator[Session]:
    """A database with nothing but XComs."""
    engine = sqlalchemy.create_engine("sqlite://")
    table = cast("sqlalchemy.Table", XComModel.__table__)
    XComModel.metadata.create_all(engine, tables=[table])
    with Session(engine) as opened:
        yield opened
    engine.dispose()


def push(
    session: Session, key: str, value: object, *, task: str = "g.merge", run: str = "r", **others: object
) -> None:
    row = {
        "dag_run_id": abs(hash(run)) % 1000,
        "dag_id": "scores",
        "run_id": run,
        "task_id": task,
        "map_index": -1,
        "timestamp": NOON,
        "key": key,
        "value": json.dumps(value),
    }
    session.execute(insert(XComModel).values(**row | others))


def test_a_batch_has_its_link_and_its_counts(session: Session) -> None:
    for index in range(3):
        push(session, LINK, f"https://e.com/{index}", task="g.batch", map_index=index)
    push(session, LINK, "https://e.com/report.html")
    push(session, RESULT, {"records": 12, "failed": 1, "endpoint_name": "stores"})
    push(session, RESULT, {"records": 99}, run="another")
    (batch,) = batches_of(session, {"scores"})
    assert (batch.link, batch.records, batch.failed) == ("https://e.com/report.html", 12, 1)
    assert (batch.endpoint, batch.task_id, batch.ended_at) == ("stores", "g.merge", NOON.timestamp())


def test_batches_of_other_dags_are_not_read(session: Session) -> None:
    push(session, LINK, "https://e.com/report.html")
    assert batches_of(session, {"other"}) == []
    assert batches_of(session, set()) == []


@pytest.mark.parametrize("link", ["javascript:alert(1)", "", None, 7, {"a": 1}])
def test_an_xcom_that_is_no_address_is_no_batch(session: Session, link: object) -> None:
    push(session, LINK, link)
    assert batches_of(session, {"scores"}) == []


@pytest.mark.parametrize("result", [None, "text", [1], {"records": "many", "failed": True}])
def test_a_result_of_another_shape_leaves_the_counts_out(session: Session, result: object) -> None:
    push(session, LINK, "https://e.com/report.html")
    push(session, RESULT, result)
    (batch,) = batches_of(session, {"scores"})
    assert (batch.records, batch.failed, batch.endpoint) == (None, None, "")


def test_the_latest_come_first_and_their_number_is_limited(session: Session) -> None:
    for number in range(MOST_BATCHES + 5):
        moment = NOON + timedelta(minutes=number)
        push(session, LINK, "https://e.com/r", run=f"run {number}", dag_run_id=number, timestamp=moment)
    runs = [batch.run_id for batch in batches_of(session, {"scores"})]
    assert runs == [f"run {number}" for number in range(MOST_BATCHES + 4, 4, -1)]
