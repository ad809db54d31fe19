"""Error answers of AWS and its containers, and the errors made from them.

``recorded_answers.json`` has a row for each situation. Its grade is the kind of its source: ``recorded`` (a log, an
issue or a sample), ``documented`` (AWS's documentation or service model), ``source`` (a container's source code), or
``invented``: the situation is real, but its text is not published. ``$name`` stands for a value of the request.
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from airflow_sm_plugin.local.protocol.errors import ServiceFailure

GRADES = ("recorded", "documented", "source", "invented")


@dataclass(frozen=True)
class RecordedAnswer:
    """A row of the table.

    :param situation: a description of the situation; it names the row
    :param body: members of the answer's body, with ``$name`` for values that differ from request to request
    :param grade: one of :data:`GRADES`; ``source`` names the source, or the unknown part of the text
    """

    situation: str
    operation: str
    status: int
    code: str
    body: Mapping[str, object]
    grade: str
    source: str

    def filled(self, values: Mapping[str, object]) -> dict[str, object]:
        return {
            name: Template(member).substitute(values) if isinstance(member, str) else member
            for name, member in self.body.items()
        }


class RecordedFailure(ServiceFailure):
    """An error whose code, status and body come from the table."""

    def __init__(self, answer: RecordedAnswer, body: dict[str, object]) -> None:
        self.code, self.status = answer.code, answer.status
        self.body = body
        text = body.get("Message", body.get("message"))
        super().__init__("" if text is None else str(text))

    def body_for(self, service: str) -> dict[str, object]:
        """Repeat the recorded body; the control plane adds the code."""
        return {"__type": self.code, **self.body} if service == "sagemaker" else self.body


@functools.cache
def recorded_answers() -> Mapping[str, RecordedAnswer]:
    rows = json.loads(Path(__file__).with_name("recorded_answers.json").read_text(encoding="utf-8"))
    return {row["situation"]: RecordedAnswer(**row) for row in rows}


def recorded(situation: str, **values: object) -> RecordedFailure:
    """Make AWS's error for a situation. Raises KeyError for an unknown situation, or a missing value.

    :param values: for the row's ``$names``; ``request``, the request's id, is generated
    """
    answer = recorded_answers()[situation]
    return RecordedFailure(answer, answer.filled({"request": uuid.uuid4(), **values}))


def recorded_for_rule(situation: str, *, endpoint: str) -> RecordedFailure:
    """Make the error of a rule's situation, unknown values as ``(name)``. Raises KeyError for an unknown situation."""
    values = _Unknown(endpoint=endpoint, request=uuid.uuid4())
    answer = recorded_answers()[situation]
    body = answer.filled(values)
    if "OriginalStatusCode" in body and "Message" not in body:
        status, text = body["OriginalStatusCode"], body["OriginalMessage"]
        side = "client" if 400 <= int(str(status)) < 500 else "server"
        outer = recorded_answers()["a container answered an error"]
        values.update(side=side, status=status, container="primary", text=text)
        body = {**outer.filled(values), "OriginalStatusCode": status, "OriginalMessage": text}
    return RecordedFailure(answer, body)


class _Unknown(dict[str, object]):
    def __missing__(self, name: str) -> str:
        return f"({name})"


def container_answer(situation: str, **values: object) -> tuple[int, str]:
    """Fill in status and text of a container's answer in a situation. Raises KeyError as :func:`recorded`."""
    body = recorded_answers()[situation].filled(values)
    return int(str(body["OriginalStatusCode"])), str(body["OriginalMessage"])
