"""Filter and join a transform job's records: ``DataProcessing`` of ``CreateTransformJob``. Pure functions.

JSONPath operators (Developer Guide, "Associate prediction results with input records"): ``$``, ``.name``,
``['name', …]``, ``[index, …]``, ``[start:end]``, ``.*`` and ``[*]``.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

csv.field_size_limit(2**31 - 1)  # a record can be as large as a payload; Python's default is 131,072

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Pick: TypeAlias = "int | slice | str"

_STEP = re.compile(r"\.?\[(?P<inside>[^\[\]]*)\]|\.(?P<name>[A-Za-z_][\w-]*|\*)")
_SLICE = re.compile(r"(?P<start>-?\d*):(?P<end>-?\d*)")
_QUOTED = re.compile(r"""(['"])(?P<name>[^'"]+)\1""")
_FORMATS = {"text/csv": "csv", "application/json": "json", "application/jsonlines": "jsonlines"}


class UnsupportedPath(ValueError):
    """The JSONPath expression uses an operator that batch transform lacks."""


class ProcessingFailed(Exception):
    """A record cannot be filtered or joined: it has another format, or lacks the index."""


@dataclass(frozen=True)
class Processing:
    """The processing of each request: filter its input, join input and answer, filter the joined record.

    :param format: ``csv``, ``json`` (a request is a document) or ``jsonlines``
    """

    format: str
    input_filter: str = "$"
    output_filter: str = "$"
    join_input: bool = False

    def request_body(self, body: bytes) -> bytes:
        """Filter the request's ``body``. Raises ProcessingFailed."""
        if self.input_filter == "$":
            return body
        path = parse_path(self.input_filter)
        return _write([select(path, row) for row in _read(body, self.format)], self.format)

    def output(self, body: bytes, answer: bytes) -> bytes:
        """Join a request's ``body`` and its ``answer``, and filter the result. Raises ProcessingFailed."""
        if not self.join_input and self.output_filter == "$":
            return answer
        rows = _read(answer, self.format)
        if self.join_input:
            rows = self._joined(_read(body, self.format), rows)
        path = parse_path(self.output_filter)
        return _write([select(path, row) for row in rows], self.format)

    def _joined(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> list[Json]:
        if len(inputs) != len(outputs):
            raise ProcessingFailed(
                f"Cannot join {len(inputs)} input records with {len(outputs)} output records"
            )
        join = _join_rows if self.format == "csv" else _join_objects
        return [join(*pair) for pair in zip(inputs, outputs, strict=True)]


def output_format(content_type: str, split_type: str) -> str:
    """Choose csv, json or jsonlines. Raises ProcessingFailed for another content type."""
    kind = format_of(content_type)
    if kind is None:
        raise ProcessingFailed(
            "GenerateInferenceId needs output of type text/csv, application/json or application/jsonlines, "
            f"not {content_type}"
        )
    return "jsonlines" if kind == "json" and split_type == "Line" else kind


def with_inference_ids(answer: bytes, kind: str, *, started: datetime.datetime) -> bytes:
    """Append an inference id and the job's start time to each record. Raises ProcessingFailed."""
    moment = f"{started:%Y-%m-%dT%H:%M:%SZ}"
    return _write([_with_inference_id(row, moment) for row in _read(answer, kind)], kind)


def _with_inference_id(row: Json, started: str) -> Json:
    identity = str(uuid.uuid4())
    if isinstance(row, list):
        return [*row, identity, started]
    if isinstance(row, dict):
        return {**row, "SageMakerInferenceId": identity, "SageMakerInferenceTime": started}
    raise ProcessingFailed("GenerateInferenceId needs records that are objects or lists")


def format_of(content_type: str | None) -> str | None:
    """Choose csv, json or jsonlines; None for content that cannot be filtered or joined."""
    return _FORMATS.get((content_type or "").partition(";")[0].strip().lower())


def parse_path(expression: str) -> tuple[tuple[Pick, ...], ...]:
    """Parse a JSONPath expression into steps. Raises UnsupportedPath."""
    if not expression.startswith("$"):
        raise UnsupportedPath(f"JSONPath must begin with $: {expression}")
    steps: list[tuple[Pick, ...]] = []
    position = 1
    while position < len(expression):
        match = _STEP.match(expression, position)
        if match is None:
            raise UnsupportedPath(f"Unsupported JSONPath operator in {expression}")
        steps.append(_picks(match, expression))
        position = match.end()
    return tuple(steps)


def select(path: Sequence[tuple[Pick, ...]], value: Json) -> Json:
    """Select by ``path``: a value, or a list or object of several. Raises ProcessingFailed."""
    for picks in path:
        if all(isinstance(pick, str) for pick in picks):
            value = _named(value, [str(pick) for pick in picks])
        else:
            value = _indexed(value, picks)
    return value


def _picks(match: re.Match[str], expression: str) -> tuple[Pick, ...]:
    if match["name"] == "*" or (match["inside"] or "").strip() == "*":
        return (slice(None),)
    if match["name"]:
        return (match["name"],)
    picks = tuple(_pick(part.strip(), expression) for part in match["inside"].split(","))
    if len({isinstance(pick, str) for pick in picks}) > 1:
        raise UnsupportedPath(f"Names and indexes in one bracket: {expression}")
    return picks


def _pick(text: str, expression: str) -> Pick:
    quoted, sliced = _QUOTED.fullmatch(text), _SLICE.fullmatch(text)
    if quoted:
        return quoted["name"]
    if sliced:
        start, end = sliced["start"], sliced["end"]
        return slice(int(start) if start else None, int(end) if end else None)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    raise UnsupportedPath(f"Unsupported JSONPath operator in {expression}")


def _named(value: Json, names: Sequence[str]) -> Json:
    if not isinstance(value, Mapping):
        raise ProcessingFailed(f"No attribute {names[0]!r} in a record that is not an object")
    missing = [name for name in names if name not in value]
    if missing:
        raise ProcessingFailed(f"No attribute {missing[0]!r} in the record")
    return value[names[0]] if len(names) == 1 else {name: value[name] for name in names}


def _indexed(value: Json, picks: Sequence[Pick]) -> Json:
    if isinstance(value, Mapping) and list(picks) == [slice(None)]:
        return list(value.values())
    if not isinstance(value, list):
        raise ProcessingFailed("An index into a record that is not an array")
    chosen: list[Json] = []
    for pick in picks:
        if isinstance(pick, slice):
            chosen.extend(value[pick])
        elif isinstance(pick, int) and -len(value) <= pick < len(value):
            chosen.append(value[pick])
        else:
            raise ProcessingFailed(f"Index {pick} is outside a record of {len(value)} columns")
    is_single = len(picks) == 1 and isinstance(picks[0], int)
    return chosen[0] if is_single else chosen


def _join_rows(row: Json, output: Json) -> Json:
    return [*_as_list(row), *_as_list(output)]


def _join_objects(record: Json, output: Json) -> Json:
    if isinstance(record, dict):
        return {**record, "SageMakerOutput": output}
    return {"SageMakerInput": record, "SageMakerOutput": output}


def _as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _read(body: bytes, kind: str) -> list[Json]:
    try:
        text = body.decode()
        if kind == "csv":
            return [list[Json](row) for row in csv.reader(io.StringIO(text, newline="")) if row]
        if kind == "json":
            return [json.loads(text)]
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, csv.Error, RecursionError) as error:
        raise ProcessingFailed(f"A record is not valid {kind}: {type(error).__name__}") from error


def _write(rows: Sequence[Json], kind: str) -> bytes:
    """Write rows. CSV and JSON Lines end with a newline, so that concatenated answers are still lines."""
    if kind == "json":
        return b"".join(map(_json, rows))
    if kind == "jsonlines":
        return b"".join(_json(row) + b"\n" for row in rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_as_list(row) for row in rows)
    return text.getvalue().encode()


def _json(row: Json) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only have as an escape
        return json.dumps(row).encode()
