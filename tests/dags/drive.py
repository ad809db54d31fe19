"""Run DAGs, one after the other, with ``dag.test()`` in this process and print, as JSON, what Airflow stored.

::

    python tests/dags/drive.py <DAG folder> (<dag id> <the run's configuration as JSON>)...

A program of its own, because ``dag.test()`` takes over a process: its logging, its plugins, its database session.
The last line it prints holds, for each DAG id,
``{"state", "tasks": {id: state}, "xcoms": {id: {key: value}}, "rendered": {id: fields}}``;
ids of mapped tasks carry their index, ``id[0]``.
"""

from __future__ import annotations

import json
import operator
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _label(row: Any) -> str:  # noqa: ANN401 - any of Airflow's rows that belong to a task instance
    return row.task_id if row.map_index < 0 else f"{row.task_id}[{row.map_index}]"


def _load(folder: Path, dag_id: str) -> Any:  # noqa: ANN401 - a DAG, whose class differs between Airflow 2 and 3
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2.11
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef,attr-defined,unused-ignore]

    bag = DagBag(str(folder))
    if dag_id not in bag.dags:  # others may be for another Airflow
        raise SystemExit("\n".join(f"{name}: {text}" for name, text in bag.import_errors.items()))
    return bag.dags[dag_id]


def _stored(dag_id: str, run_id: str) -> dict[str, Any]:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    try:
        from airflow.models.xcom import XComModel as XCom

        value: Callable[[Any], object] = XCom.deserialize_value
    except ImportError:  # Airflow 2.11, whose rows hold the value itself
        from airflow.models.xcom import XCom  # type: ignore[no-redef,attr-defined,unused-ignore]

        value = operator.attrgetter("value")

    xcoms: dict[str, dict[str, object]] = {}
    with create_session() as session:
        for row in session.query(XCom).filter(XCom.dag_id == dag_id, XCom.run_id == run_id):
            xcoms.setdefault(_label(row), {})[row.key] = value(row)
        rendered = {
            _label(row): row.rendered_fields
            for row in session.query(RenderedTaskInstanceFields).filter(
                RenderedTaskInstanceFields.dag_id == dag_id, RenderedTaskInstanceFields.run_id == run_id
            )
        }
    return {"xcoms": xcoms, "rendered": rendered}


def main(folder: Path, *words: str) -> None:
    """Run and print."""
    sys.path.insert(0, str(folder))  # what Airflow does for its DAGs folder
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder)
    runs = {}
    for dag_id, conf in zip(words[::2], words[1::2], strict=True):
        run = _load(folder, dag_id).test(run_conf=json.loads(conf))
        tasks = {_label(task): str(task.state) for task in run.get_task_instances()}
        runs[dag_id] = {"state": str(run.state), "tasks": tasks, **_stored(dag_id, run.run_id)}
    print(json.dumps(runs, default=str))  # noqa: T201 - its output


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
