"""The last batches of our operators, from the XComs in the web server's database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from sqlalchemy import select, tuple_

from airflow_sm_plugin.page.overview import ShownBatch, is_web_address, latest_batches

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOST_BATCHES = 20
_LINK_KEY = "_link_BatchReportLink"
"""Under which Airflow 3 stores the address of our link to a report when its task ends."""
_RESULT_KEY = "return_value"
_MOST_ROWS = 200
"""XComs that are read: a batch has one for each shard."""
_INSTANCE = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
"""Columns rather than XComs, each of which Airflow would load with its DAG run."""


def batches_of(session: Session, dag_ids: Collection[str]) -> list[ShownBatch]:
    """Read the last batches of some DAGs, the latest first."""
    links = (
        select(*_INSTANCE, XComModel.timestamp, XComModel.value)
        .where(XComModel.key == _LINK_KEY, XComModel.dag_id.in_(list(dag_ids)))
        .order_by(XComModel.timestamp.desc())
        .limit(_MOST_ROWS)
    )
    chosen = latest_batches(_linked(session.execute(links)), most=MOST_BATCHES)
    results = _results(session, chosen)
    return [replace(batch, summary=results.get(_key(batch), {})) for batch in chosen]


def _linked(rows: Iterable[Any]) -> Iterator[ShownBatch]:
    for row in rows:
        link = _value(row)
        if is_web_address(link):
            yield ShownBatch(
                dag_id=row.dag_id,
                run_id=row.run_id,
                task_id=row.task_id,
                map_index=row.map_index,
                ended_at=row.timestamp.timestamp(),
                link=link,
                summary={},
            )


def _results(session: Session, batches: list[ShownBatch]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    wanted = select(*_INSTANCE, XComModel.value).where(
        XComModel.key == _RESULT_KEY, tuple_(*_INSTANCE).in_([_key(batch) for batch in batches])
    )
    values = {_key(row): _value(row) for row in session.execute(wanted)}
    return {key: value for key, value in values.items() if isinstance(value, Mapping)}


def _key(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the database or a batch
    return (row.dag_id, row.run_id, row.task_id, row.map_index)


def _value(row: Any) -> Any:  # noqa: ANN401 - whatever a task pushed
    try:
        return XComModel.deserialize_value(row)
    except Exception:  # noqa: BLE001 - an XCom that another process wrote: no batch of ours
        return None
