"""Assemble outputs from payloads and the model's answers, and join them, as Batch Transform does."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

from airflow_sm_plugin._safe_text import json_line
from airflow_sm_plugin.batches.text_input import CSV, JSON, JSON_LINES, media_type
from airflow_sm_plugin.exceptions import InvalidRequest, OutputMismatch
from airflow_sm_plugin.multi_model.payloads.payload import SPLIT_TYPES, Payload, check_choice, records_of

ASSEMBLE_WITH = ("None", "Line")
JOIN_SOURCES = ("None", "Input")

_JOINED_OF = {CSV: (CSV,), JSON: (JSON, JSON_LINES), JSON_LINES: (JSON_LINES, JSON)}
_INPUT, _OUTPUT = "SageMakerInput", "SageMakerOutput"


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options for the outputs that answers are assembled into.

    :param assemble_with: ``Line`` ends each answer with a line end, ``None`` stores it unchanged
    :param join_source: ``Input`` puts each record before its answer, ``None`` stores the answers alone
    :param content_type: of the input, with or without parameters
    :param accept: content type that the model was asked for; None for the input's
    """

    assemble_with: str = "Line"
    join_source: str = "None"
    content_type: str | None = None
    accept: str | None = None

    def checked(self, split_type: str) -> OutputOptions:
        """Return the options themselves if they are valid for inputs with this split type.

        :raises InvalidRequest: naming the value and the remedy
        """
        check_choice("split_type", split_type, SPLIT_TYPES)
        check_choice("assemble_with", self.assemble_with, ASSEMBLE_WITH)
        check_choice("join_source", self.join_source, JOIN_SOURCES)
        if self.join_source == "Input":
            self._check_join(split_type)
        return self

    def _check_join(self, split_type: str) -> None:
        given, asked = media_type(self.content_type), media_type(self.accept) or media_type(self.content_type)
        if given not in _JOINED_OF:
            raise InvalidRequest(
                f"join_source='Input' needs a content_type of {', '.join(_JOINED_OF)}, not "
                f"{self.content_type!r:.80}: no answer can be put into other records"
            )
        if asked not in _JOINED_OF[given]:
            raise InvalidRequest(
                f"join_source='Input' cannot join accept={self.accept!r:.80} to {given}: ask for "
                f"{' or '.join(_JOINED_OF[given])}"
            )
        if split_type == "None" and given != JSON:
            raise InvalidRequest(
                f"join_source='Input' with split_type='None' takes one JSON document an object "
                f"(content_type='{JSON}'), not {self.content_type!r:.80}: use split_type='Line'"
            )
        if split_type == "Line" and self.assemble_with != "Line":
            raise InvalidRequest(
                "join_source='Input' with split_type='Line' needs assemble_with='Line': without line ends the rows "
                "of two payloads would run into one"
            )


def output_of(payload: Payload, body: bytes, options: OutputOptions) -> bytes:
    """Assemble the part of the output that belongs to one payload.

    With ``assemble_with="Line"`` it ends with a line end: the answer's own, or an LF. An empty answer becomes an empty
    line, so that every SingleRecord payload has a row. Blank lines at the answer's end are dropped as long as there are
    more rows than records.

    With ``join_source="Input"`` each record has a row, and the bytes of record and answer stay as they are:

    - CSV: the input line, a comma, the answer's line
    - JSON and JSON Lines: the input object with the key ``SageMakerOutput`` added; for a record that is no object,
      ``{"SageMakerInput": …, "SageMakerOutput": …}``. Answers to several records are JSON Lines; a JSON list is one
      answer, not an answer for each record. Line ends between tokens are dropped, so that a row is one line.

    :param body: the model's answer
    :raises OutputMismatch: the answer cannot be joined: its number of rows differs, or it is no JSON
    :raises InvalidRequest: a record cannot be joined: it is no JSON
    """
    if options.join_source == "Input":
        rows = (
            _joined_csv(payload, body) if media_type(options.content_type) == CSV else _joined(payload, body)
        )
        end = b"\n" if options.assemble_with == "Line" else b""
        return b"\n".join(rows) + end
    if options.assemble_with == "None":
        return body
    if not body.endswith(b"\n"):
        return body + b"\n"
    if body.endswith((b"\n\n", b"\n\r\n")) or body in (b"\n", b"\r\n"):
        return b"\n".join(_rows(body, payload.records)) + b"\n"
    return body


def _rows(body: bytes, records: int) -> list[bytes]:
    """Split an answer into lines; drop blank lines at its end while there are more lines than records."""
    rows = body.split(b"\n")
    if len(rows) > 1 and not rows[-1]:
        rows.pop()
    while len(rows) > records and not rows[-1].strip():
        rows.pop()
    return rows


def _checked(rows: list[bytes], payload: Payload) -> list[bytes]:
    if len(rows) != payload.records:
        answered = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
        raise OutputMismatch(
            f"the model answered {answered} to {payload.records} records (from record {payload.first_record} on), so "
            f"they cannot be joined: it must answer one line for each; or use batch_strategy='SingleRecord'"
        )
    return rows


def _joined_csv(payload: Payload, body: bytes) -> list[bytes]:
    rows = _checked([row.removesuffix(b"\r") for row in _rows(body, payload.records)], payload)
    return [b"%b,%b" % pair for pair in zip(records_of(payload), rows, strict=True)]


def _joined(payload: Payload, body: bytes) -> list[bytes]:
    answers = [body]
    if payload.records > 1:
        answers = _checked([line for line in body.split(b"\n") if line.strip()], payload)
    return list(map(_joined_json, records_of(payload), answers, itertools.count(payload.first_record)))


def _joined_json(record: bytes, answer: bytes, record_number: int) -> bytes:
    try:
        text, given = _document(record)
    except ValueError as error:
        raise InvalidRequest(
            f"record {record_number} (from 0) is {error}, so no answer can be joined to it"
        ) from None
    try:
        output, output_value = _document(answer)
    except ValueError as error:
        raise OutputMismatch(
            f"the answer to record {record_number} (from 0) is {error}, so it cannot be joined"
        ) from None
    if not isinstance(given, dict):
        return f'{{"{_INPUT}":{text},"{_OUTPUT}":{output}}}'.encode()
    if _OUTPUT in given:
        try:
            return json_line(given | {_OUTPUT: output_value})
        except RecursionError:
            raise InvalidRequest(
                f"record {record_number} (from 0) is nested too deeply for an answer to be joined to it"
            ) from None
    comma = "," if given else ""
    return f'{text[:-1].rstrip()}{comma}"{_OUTPUT}":{output}}}'.encode()


def _document(data: bytes) -> tuple[str, object]:
    """Return a JSON document's own text in one line, and its value.

    :raises ValueError: the data are no JSON; the message never shows them
    """
    try:
        text = data.decode().removeprefix("\ufeff").strip()
        value = json.loads(text)
    except UnicodeDecodeError:
        raise ValueError("no UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise ValueError(f"no JSON ({reason})") from None
    # Line ends can only lie between tokens: in a string they are escaped.
    return text.replace("\r", "").replace("\n", ""), value
