"""Convert CSV rows to the numbers that an algorithm trains on: imputed, optionally scaled, one-hot encoded.

A processor is a dictionary of lists and scikit-learn objects, so that its pickle needs no module of this package.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_MOST_CATEGORIES = 50
"""Rarer values of a column share an indicator, so that a column of identifiers adds few columns."""


class Steps(Protocol):
    """The used method of a fitted scikit-learn transformer."""

    def transform(self, values: npt.NDArray[np.generic]) -> Numbers:
        """Return the features of *values*, whose rows they keep: columns can be scaled, added or left out."""


class Layout(TypedDict):
    """The feature columns in order, and which of them are numeric and which categorical."""

    columns: list[str]
    numeric: list[int]
    categorical: list[int]


class Processor(TypedDict):
    """A fitted feature processor; ``labels`` are the target's classes, None for a regression."""

    layout: Layout
    numeric_steps: Steps | None
    categorical_steps: Steps | None
    labels: list[str] | None


def read_rows(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text)) if row]


def is_missing(value: str) -> bool:
    return value.strip().lower() in MISSING


def number(value: str) -> float:
    """Parse a field as a finite number, else NaN."""
    try:
        parsed = float(value)
    except ValueError:
        return math.nan
    return parsed if math.isfinite(parsed) else math.nan


def layout_of(columns: Sequence[str], rows: Sequence[Sequence[str]], skip: frozenset[int]) -> Layout:
    """Determine the type of each column that is not skipped; a column without values is not used."""
    kept = [index for index in range(len(columns)) if index not in skip]
    layout: Layout = {"columns": [columns[index] for index in kept], "numeric": [], "categorical": []}
    for position, index in enumerate(kept):
        present = [row[index] for row in rows if not is_missing(row[index])]
        if not present:
            continue
        numeric = all(not math.isnan(number(value)) for value in present)
        layout["numeric" if numeric else "categorical"].append(position)
    return layout


def parse(layout: Layout, rows: Sequence[Sequence[str]]) -> tuple[Numbers, Texts]:
    """Parse the numeric fields, NaN where missing, and the categorical ones, empty where missing."""
    numbers = np.array(
        [[number(row[index]) for index in layout["numeric"]] for row in rows], dtype=np.float64
    )
    texts = np.array(
        [
            ["" if is_missing(row[index]) else row[index].strip() for index in layout["categorical"]]
            for row in rows
        ],
        dtype=object,
    )
    return numbers.reshape(len(rows), -1), texts.reshape(len(rows), -1)


def fit(
    layout: Layout, numbers: Numbers, texts: Texts, *, scaled: bool, labels: list[str] | None
) -> Processor:
    """Fit a processor; ``scaled`` is for linear models and neural networks."""
    numeric = categorical = None
    if numbers.shape[1]:
        steps = [SimpleImputer(strategy="median", keep_empty_features=True)]
        numeric = make_pipeline(*steps, StandardScaler()) if scaled else make_pipeline(*steps)
        numeric.fit(numbers)
    if texts.shape[1]:
        categorical = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=_MOST_CATEGORIES, sparse_output=False
        )
        categorical.fit(texts)
    return {"layout": layout, "numeric_steps": numeric, "categorical_steps": categorical, "labels": labels}


def apply(processor: Processor, numbers: Numbers, texts: Texts) -> Floats:
    """Compute the features as float32, the precision of the requests between containers."""
    parts: list[Numbers] = []
    if processor["numeric_steps"] is not None:
        parts.append(processor["numeric_steps"].transform(numbers))
    if processor["categorical_steps"] is not None:
        parts.append(processor["categorical_steps"].transform(texts))
    return np.hstack(parts).astype(np.float32)


def transform(processor: Processor, rows: Sequence[Sequence[str]]) -> Floats:
    """Compute the features of CSV rows without a header. Raises ValueError for a row of the wrong length."""
    expected = len(processor["layout"]["columns"])
    for row_number, row in enumerate(rows, start=1):
        if len(row) != expected:
            raise ValueError(f"Row {row_number} has {len(row)} columns; the model was trained on {expected}.")
    return apply(processor, *parse(processor["layout"], rows))
