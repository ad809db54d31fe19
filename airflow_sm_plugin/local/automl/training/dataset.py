"""Read a job's CSV files into what its candidates are trained on. Raises JobFailed for data that are unfit."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from airflow_sm_plugin.local.automl.archive.tabular import is_missing, layout_of, number, parse
from airflow_sm_plugin.local.automl.training import problems
from airflow_sm_plugin.local.automl.training.plan import TrainingPlan
from airflow_sm_plugin.local.automl.training.training import Material, folds_of

LEAST_ROWS = 20
"""Fewer training rows fail the job. The service wants 500; small sets are what one tests with."""


class JobFailed(Exception):
    """The job cannot go on; the text is its FailureReason."""


@dataclass(frozen=True)
class Table:
    """The header and the rows of all files of a channel."""

    columns: tuple[str, ...]
    rows: list[list[str]]


@dataclass(frozen=True)
class Target:
    """The column to predict: its problem type, its classes (empty for a regression), a value a row."""

    problem_type: str
    labels: list[str]
    values: list[float]


def read_table(files: Sequence[Path], *, gzipped: bool) -> Table:
    """Read CSV files that each begin with the same header. Messages name files by their last part."""
    tables = [_read_file(path, gzipped=gzipped) for path in files]
    header = tables[0].columns
    for path, table in zip(files, tables, strict=True):
        if table.columns != header:
            raise JobFailed(f"The header of {path.name} differs from the header of {files[0].name}.")
    return Table(header, [row for table in tables for row in table.rows])


def _read_file(path: Path, *, gzipped: bool) -> Table:
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if gzipped else content).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise JobFailed(f"{path.name} is not a readable {'gzipped ' * gzipped}CSV file: {error}") from error
    if not rows:
        raise JobFailed(f"{path.name} is empty; a CSV file with a header row is expected.")
    header = [name.strip() for name in rows[0]]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise JobFailed(f"{path.name} has more than one column named {twice[0]!r}.")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise JobFailed(f"{path.name} row {line} has {len(row)} columns; its header has {len(header)}.")
    return Table(tuple(header), rows[1:])


def column(table: Table, name: str) -> int:
    """Return the index of a column. Raises JobFailed when there is none of that name."""
    if name not in table.columns:
        raise JobFailed(
            f"The target column {name!r} was not found; the columns are {', '.join(table.columns)}."[:900]
        )
    return table.columns.index(name)


def with_value(table: Table, place: int, *, least: int = 1) -> Table:
    """Return the table without the rows that have no target. Raises JobFailed when fewer than ``least`` are left."""
    rows = [row for row in table.rows if not is_missing(row[place])]
    if len(rows) < least:
        name = table.columns[place]
        raise JobFailed(
            f"The data has {len(rows)} rows with a value for {name!r}; at least {least} are required."
        )
    return Table(table.columns, rows)


def target_of(training: Table, validation: Table | None, place: int, problem_type: str | None) -> Target:
    """Resolve the problem type from the training rows and number the labels of both channels."""
    values = [row[place].strip() for row in training.rows]
    resolved = problem_type or problems.resolve_problem_type(values)
    both = values + [row[place].strip() for row in validation.rows] if validation else values
    if resolved == problems.REGRESSION:
        return Target(resolved, [], _quantities(both, training.columns[place]))
    labels = problems.ordered_labels(values)
    _check_classes(resolved, labels, len(values), training.columns[place])
    unknown = set(both) - set(labels)
    if unknown:
        raise JobFailed(f"The validation data has a class that the training data has not: {min(unknown)!r}.")
    numbered = {label: float(place) for place, label in enumerate(labels)}
    return Target(resolved, labels, [numbered[value] for value in both])


def _quantities(values: Sequence[str], name: str) -> list[float]:
    for value in values:
        if number(value) != number(value):  # NaN
            raise JobFailed(f"The target column {name!r} has a value that is no number: {value!r}.")
    return [number(value) for value in values]


def _check_classes(problem_type: str, labels: Sequence[str], rows: int, name: str) -> None:
    if len(labels) < 2:
        raise JobFailed(
            f"The target column {name!r} has only the value {labels[0]!r}; there is nothing to learn."
        )
    if problem_type == problems.BINARY and len(labels) != 2:
        raise JobFailed(
            f"BinaryClassification needs two classes; the target column {name!r} has {len(labels)}."
        )
    if len(labels) > rows // 2:
        raise JobFailed(
            f"The target column {name!r} has {len(labels)} classes in {rows} rows: too few rows a class."
        )


def read_material(plan: TrainingPlan) -> tuple[Material, str]:
    """Read and check a job's data; returns it with a report on what was found. Raises JobFailed."""
    given = plan["training"]
    table = read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    place = column(table, plan["target"])
    training = with_value(table, place, least=LEAST_ROWS)
    validation = _validation(plan, training, place)
    target = target_of(training, validation, place, plan["problem_type"])
    rows = training.rows + (validation.rows if validation else [])
    weight = column(training, plan["weight"]) if plan["weight"] else None
    skip = frozenset({place} if weight is None else {place, weight})
    layout = layout_of(training.columns, training.rows, skip)
    if not layout["numeric"] and not layout["categorical"]:
        raise JobFailed("The data has no column but the target that holds any value.")
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


def _validation(plan: TrainingPlan, training: Table, place: int) -> Table | None:
    given = plan["validation"]
    if given is None:
        return None
    table = read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    if table.columns != training.columns:
        raise JobFailed("The validation data must have the same header as the training data.")
    return with_value(table, place)


def _weights(rows: list[list[str]], place: int, name: str) -> np.typing.NDArray[np.float64]:
    weights = np.array([number(row[place]) for row in rows])
    if not (weights >= 0).all():
        raise JobFailed(f"The sample weight column {name!r} must hold numbers >= 0 only.")
    return weights


def _report(table: Table, material: Material) -> str:
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
