"""The parts of a report's page that both kinds of batches share, as texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_sm_plugin.batches.report.failures import Example, FailureGroup
from airflow_sm_plugin.core.text import count, plural

MOST_SHOWN = 50
"""Groups of failures on a page, which is read from the top; the JSON report has more."""


class Headline(NamedTuple):
    """The result in one sentence with further ones; *level* is ``good``, ``bad`` or ``idle``.

    :param advice: what to do now
    """

    level: str
    text: str
    details: Sequence[str] = ()
    advice: str = ""


class Card(NamedTuple):
    """A figure and its parts: texts, and whether each is bad news."""

    title: str
    figure: str
    notes: Sequence[tuple[str, bool]]


def card(title: str, figure: str, *notes: str | tuple[str, bool]) -> Card:
    """Make a card of those notes that have a text."""
    pairs = [(note, False) if isinstance(note, str) else note for note in notes]
    return Card(title, figure, [(text, is_bad) for text, is_bad in pairs if text])


def bad(quantity: int, text: str) -> tuple[str, bool]:
    """Make a note of bad news; a number of 0 makes it empty."""
    return (f"{count(quantity)} {text}" if quantity else "", True)


class Link(NamedTuple):
    """A link of a page."""

    text: str
    address: str


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The task that writes a report.

    :param clear: the tasks to clear so that a batch goes on, for a sentence after "clear"
    :param links: to the DAG run, the logs and the outputs
    """

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    clear: str = "this task"
    links: Sequence[Link] = ()

    @property
    def facts(self) -> list[tuple[str, str]]:
        pairs = (("DAG", self.dag_id), ("run", self.run_id), ("task", self.task_id))
        return [(name, text) for name, text in pairs if text]


NO_RUN = RunContext()
"""Outside of Airflow."""


def cause_in(text: str, *, longest: int = 500) -> str:
    """Take from an error's text its first line and its reason, in at most *longest* characters."""
    first, *others = text.splitlines() or [""]
    return " ".join([first, *(line for line in others if line.startswith("Reason: "))])[:longest]


class ShownGroup(NamedTuple):
    """A group of failures as a page shows it."""

    quantity: str
    error: str
    model: str
    message: str
    examples: Sequence[tuple[str, str]]


def shown_groups(groups: Iterable[tuple[str, FailureGroup]], noun: str) -> list[ShownGroup]:
    """Convert groups, each with its target model or an empty text.

    :param noun: what a group counts, e.g. ``record``
    """
    return [
        ShownGroup(
            quantity_of(group, noun),
            group.error if group.status is None else f"{group.error} ({group.status})",
            model,
            group.message,
            [(example.source, records_of(example)) for example in group.examples],
        )
        for model, group in groups
    ]


def quantity_of(group: FailureGroup, noun: str) -> str:
    """Count a group's records; where the rest of an input was lost, their number is not known."""
    return plural(group.count, noun) if group.count else plural(group.times, "input")


def records_of(example: Example) -> str:
    """Name the records of an example, which are counted from 0."""
    first = example.first_record
    if first is None:
        return ""
    if example.record_count is None:
        return f"record {count(first)} and all after it"
    last = first + example.record_count - 1
    return f"record {count(first)}" if last <= first else f"records {count(first)} to {count(last)}"


def group_line(model: str, group: FailureGroup, noun: str, *, longest: int = 200) -> str:
    """Describe a group in one line, for a log or an error.

    :param longest: characters of the message
    """
    about = f" of model {model}" if model else ""
    status = "" if group.status is None else f" ({group.status})"
    message = " ".join(group.message.split())
    reason = f": {message[:longest]}{'…' if len(message) > longest else ''}" if message else ""
    examples = [f"{example.source} {records_of(example)}".rstrip() for example in group.examples[:1]]
    where = f"; first {examples[0]}" if examples else ""
    return f"{quantity_of(group, noun)}{about}: {group.error}{status}{reason}{where}"
