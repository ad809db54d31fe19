"""Read a job's CSV files, and convert them for the training. Raises JobFailed for unsuitable data."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from airflow_sm_plugin.local.automl.archive.tabular import is_missing, layout_of, number, parse
from airflow_sm_plugin.local.automl.training.plan import BINARY, MULTICLASS, REGRESSION, TrainingPlan
from airflow_sm_plugin.local.automl.training.training import Material, folds_of

LEAST_ROWS = 20
"""Fewer training rows fail the job. The service requires 500; here, tests with small data sets must work."""


_MOST_INTEGER_CLASSES = 30
"""A target with more distinct integers is a quantity, not a set of classes."""


class JobFailed(Exception):
    """The job cannot go on; the message is its FailureReason."""


@dataclass(frozen=True)
class Table:
    """The header and the rows of a channel's files."""

    columns: tuple[str, ...]
    rows: list[list[str]]


@dataclass(frozen=True)
class Target:
    """The column to predict: its problem type, its classes (empty for a regression), and each row's value."""

    problem_type: str
    labels: list[str]
    values: list[float]


def read_table(files: Sequence[Path], *, gzipped: bool) -> Table:
    """Read CSV files that all begin with the same header. Messages name only the last part of a path."""
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
    """Find the index of a column. Raises JobFailed for an unknown one."""
    if name not in table.columns:
        raise JobFailed(
            f"The target column {name!r} was not found; the columns are {', '.join(table.columns)}."[:900]
        )
    return table.columns.index(name)


def with_value(table: Table, target_index: int, *, least: int = 1) -> Table:
    """Drop the rows without a target. Raises JobFailed when fewer than ``least`` are left."""
    rows = [row for row in table.rows if not is_missing(row[target_index])]
    if len(rows) < least:
        name = table.columns[target_index]
        raise JobFailed(
            f"The data has {len(rows)} rows with a value for {name!r}; at least {least} are required."
        )
    return Table(table.columns, rows)


def target_of(
    training: Table, validation: Table | None, target_index: int, problem_type: str | None
) -> Target:
    """Resolve the problem type from the training rows, and number the labels of both channels."""
    values = [row[target_index].strip() for row in training.rows]
    resolved = problem_type or resolve_problem_type(values)
    both = values + [row[target_index].strip() for row in validation.rows] if validation else values
    if resolved == REGRESSION:
        return Target(resolved, [], _quantities(both, training.columns[target_index]))
    labels = ordered_labels(values)
    _check_classes(resolved, labels, len(values), training.columns[target_index])
    unknown = set(both) - set(labels)
    if unknown:
        raise JobFailed(f"The validation data has a class that the training data has not: {min(unknown)!r}.")
    numbered = {label: float(position) for position, label in enumerate(labels)}
    return Target(resolved, labels, [numbered[value] for value in both])


def resolve_problem_type(values: Sequence[str]) -> str:
    """Derive the problem type from the target's values: two distinct values are binary, many numbers a regression."""
    distinct = set(values)
    if len(distinct) == 2:
        return BINARY
    numbers = [number(value) for value in distinct]
    if any(map(math.isnan, numbers)):
        return MULTICLASS
    fractions = any(value != int(value) for value in numbers)
    return REGRESSION if fractions or len(distinct) > _MOST_INTEGER_CLASSES else MULTICLASS


def ordered_labels(values: Sequence[str]) -> list[str]:
    """Sort the distinct labels, numbers by value, else by text; in a binary problem the last is the True class."""
    distinct = set(values)
    if any(math.isnan(number(value)) for value in distinct):
        return sorted(distinct)
    return sorted(distinct, key=lambda value: (number(value), value))


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
    if problem_type == BINARY and len(labels) != 2:
        raise JobFailed(
            f"BinaryClassification needs two classes; the target column {name!r} has {len(labels)}."
        )
    if len(labels) > rows // 2:
        raise JobFailed(
            f"The target column {name!r} has {len(labels)} classes in {rows} rows: too few rows a class."
        )


def read_material(plan: TrainingPlan) -> tuple[Material, str]:
    """Read and check a job's data; return them with a report on their columns. Raises JobFailed."""
    given = plan["training"]
    table = read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    target_index = column(table, plan["target"])
    training = with_value(table, target_index, least=LEAST_ROWS)
    validation = _validation(plan, training, target_index)
    target = target_of(training, validation, target_index, plan["problem_type"])
    rows = training.rows + (validation.rows if validation else [])
    weight = column(training, plan["weight"]) if plan["weight"] else None
    skip = frozenset({target_index} if weight is None else {target_index, weight})
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


def _validation(plan: TrainingPlan, training: Table, target_index: int) -> Table | None:
    given = plan["validation"]
    if given is None:
        return None
    table = read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    if table.columns != training.columns:
        raise JobFailed("The validation data must have the same header as the training data.")
    return with_value(table, target_index)


def _weights(rows: list[list[str]], weight_index: int, name: str) -> np.typing.NDArray[np.float64]:
    weights = np.array([number(row[weight_index]) for row in rows])
    if not (weights >= 0).all():
        raise JobFailed(f"The sample weight column {name!r} must hold numbers >= 0 only.")
    return weights


def _report(table: Table, material: Material) -> str:
    missing = [sum(is_missing(row[index]) for row in table.rows) for index in range(len(table.columns))]
    layout = material.layout
    kinds = {layout["columns"][index]: kind for kind in ("numeric", "categorical") for index in layout[kind]}
    lines = [
        f"| {name} | {kinds.get(name, '-')} | {gaps} |"
        for name, gaps in zip(table.columns, missing, strict=True)
    ]
    head = f"{len(table.rows)} training rows, problem type {material.problem_type}"
    classes = f", classes {', '.join(material.labels)}" if material.labels else ""
    return "\n".join([f"{head}{classes}.", "", "| column | type | missing |", "|---|---|---|", *lines])
