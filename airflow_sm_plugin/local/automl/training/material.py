"""Read a job's data into what its candidates are trained on, and report on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from airflow_sm_plugin.local.automl.archive.tabular import is_missing, layout_of, number, parse
from airflow_sm_plugin.local.automl.training import dataset
from airflow_sm_plugin.local.automl.training.plan import Plan
from airflow_sm_plugin.local.automl.training.training import Material, folds_of


def read_material(plan: Plan) -> tuple[Material, str]:
    """Read and check a job's data; returns it with a report on what was found. Raises JobFailed."""
    given = plan["training"]
    table = dataset.read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    place = dataset.column(table, plan["target"])
    training = dataset.with_value(table, place, least=dataset.LEAST_ROWS)
    validation = _validation(plan, training, place)
    target = dataset.target_of(training, validation, place, plan["problem_type"])
    rows = training.rows + (validation.rows if validation else [])
    weight = dataset.column(training, plan["weight"]) if plan["weight"] else None
    skip = frozenset({place} if weight is None else {place, weight})
    layout = layout_of(training.columns, training.rows, skip)
    if not layout["numeric"] and not layout["categorical"]:
        raise dataset.JobFailed("The data has no column but the target that holds any value.")
    kept = [[field for index, field in enumerate(row) if index not in skip] for row in rows]
    numbers, texts = parse(layout, kept)
    values = np.array(target.values, dtype=np.float64)
    folds = folds_of(
        values, training=len(training.rows), classes=len(target.labels), fraction=plan["validation_fraction"]
    )
    material = Material(
        layout=layout,
        numbers=numbers,
        texts=texts,
        target=values,
        labels=target.labels,
        problem_type=target.problem_type,
        weights=None if weight is None else _weights(rows, weight, plan["weight"] or ""),
        folds=folds,
        fit_on=folds[0][0] if len(folds) == 1 else np.arange(len(rows)),
    )
    return material, _report(training, material)


def _validation(plan: Plan, training: dataset.Table, place: int) -> dataset.Table | None:
    given = plan["validation"]
    if given is None:
        return None
    table = dataset.read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    if table.columns != training.columns:
        raise dataset.JobFailed("The validation data must have the same header as the training data.")
    return dataset.with_value(table, place)


def _weights(rows: list[list[str]], place: int, name: str) -> np.typing.NDArray[np.float64]:
    weights = np.array([number(row[place]) for row in rows])
    if not (weights >= 0).all():
        raise dataset.JobFailed(f"The sample weight column {name!r} must hold numbers >= 0 only.")
    return weights


def _report(table: dataset.Table, material: Material) -> str:
    """Write the data exploration report (Markdown)."""
    missing = [sum(is_missing(row[place]) for row in table.rows) for place in range(len(table.columns))]
    layout = material.layout
    kinds = {layout["columns"][place]: kind for kind in ("numeric", "categorical") for place in layout[kind]}
    lines = [
        f"| {name} | {kinds.get(name, '-')} | {gaps} |"
        for name, gaps in zip(table.columns, missing, strict=True)
    ]
    head = f"{len(table.rows)} training rows, problem type {material.problem_type}"
    classes = f", classes {', '.join(material.labels)}" if material.labels else ""
    return "\n".join([f"{head}{classes}.", "", "| column | type | missing |", "|---|---|---|", *lines])
