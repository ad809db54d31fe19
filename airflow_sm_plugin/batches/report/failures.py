"""Failures in groups: one error class and one kind of message, with a count and example records."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from airflow_sm_plugin._safe_text import storable

MOST_GROUPS = 10
"""Groups of one model with a message of their own; a report can hold thousands of models."""

MOST_EXAMPLES = 3
"""Examples of a group, each of another input."""

LONGEST_MESSAGE = 300
"""Characters of a group's message; the ``.errors.jsonl`` of the inputs hold the whole."""

OTHERS = "further messages"
"""Message of the group of an error class that holds what is above :data:`MOST_GROUPS`."""

_VALUE = re.compile(r"'[^'\n]{0,80}'|\b0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]+)*\b|\d+")
"""Parts that differ between messages of one cause: quoted values, addresses, ids and numbers."""


class Example(NamedTuple):
    """Records of an input that failed.

    :param first_record: from 0; None if the input as a whole failed
    :param record_count: None is the rest of the input
    """

    source: str
    first_record: int | None = None
    record_count: int | None = None


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one error class and one kind of message.

    :param error: name of the error class
    :param status: of the first failure: of HTTP, or the container's
    :param message: beginning of the first failure's message; may hold a container's text
    :param count: failed records, or inputs where each is one request
    :param times: failures; one that ends an input early has no number of records
    """

    error: str
    status: int | None
    message: str = field(repr=False)
    count: int
    times: int = 1
    examples: tuple[Example, ...] = ()

    @property
    def kind(self) -> tuple[str, str]:
        """Identify the group: messages that differ only in values are of one kind."""
        return self.error, _VALUE.sub("#", self.message)

    def as_json(self) -> list[Any]:
        examples = [list(example) for example in self.examples]
        return [self.error, self.status, self.message, self.count, self.times, examples]

    @classmethod
    def from_json(cls, fields: Iterable[Any]) -> FailureGroup:
        error, status, message, count, times, examples = fields
        return cls(error, status, message, count, times, tuple(Example(*example) for example in examples))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> FailureGroup:
        """Make a group of one row of ``.errors.jsonl``."""
        source, message = (str(storable(str(row[name] or ""))) for name in ("source", "message"))
        example = Example(source, row["first_record"], row["record_count"])
        message = message[:LONGEST_MESSAGE]
        return cls(str(row["error"]), row["status"], message, row["record_count"] or 0, examples=(example,))


class FailureGroups:
    """Groups of failures that add up; those of a kind become one.

    :param most: limit of the groups with a message of their own
    """

    __slots__ = ("_groups", "_most")

    def __init__(self, *, most: int = MOST_GROUPS) -> None:
        self._groups: dict[tuple[str, str], FailureGroup] = {}
        self._most = most

    def __iter__(self) -> Iterator[FailureGroup]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, group: FailureGroup) -> None:
        """Add failures; negative numbers take failures back, and a group without any is removed."""
        kind = group.kind
        if kind not in self._groups and len(self._groups) >= self._most:
            group = replace(group, status=None, message=OTHERS)
            kind = group.kind
        before = self._groups.get(kind)
        if before is not None:
            known = {example.source for example in before.examples}
            new = (example for example in group.examples if example.source not in known)
            group = replace(
                before,
                count=before.count + group.count,
                times=before.times + group.times,
                examples=(*before.examples, *new)[:MOST_EXAMPLES],
            )
            if not group.times:
                del self._groups[kind]
                return
        self._groups[kind] = group

    def add_json(self, groups: Iterable[Iterable[Any]]) -> None:
        """Add what :meth:`as_json` made, of this or another process."""
        for fields in groups:
            self.add(FailureGroup.from_json(fields))

    def taken_back(self, errors: Collection[str]) -> list[list[Any]]:
        """Make what :meth:`add_json` needs to remove all groups of error classes whose records are tried again."""
        return [
            replace(group, count=-group.count, times=-group.times, examples=()).as_json()
            for group in self._groups.values()
            if group.error in errors
        ]

    def as_json(self) -> list[list[Any]]:
        return [group.as_json() for group in self._groups.values()]
