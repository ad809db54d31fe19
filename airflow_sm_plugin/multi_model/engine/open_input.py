"""An input that is being read, invoked or written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.settings import OVERHEAD
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.state.error_rows import FailedRecords
from airflow_sm_plugin.multi_model.state.journal import Story

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import ModelFeed


class Result(NamedTuple):
    """What one payload came to: bytes for the output, and a row of the response's attributes."""

    start: int
    end: int
    first_record: int
    records: int
    body: bytes
    note: bytes


class OpenInput:
    """An input at work, with what of it is not written down yet.

    :param number: its place in the shard
    :param feed: its model's
    :param story: what was written down of it before
    :param output: what becomes of its model's answers
    """

    __slots__ = (
        "failures",
        "feed",
        "fields",
        "is_read",
        "is_recorded",
        "number",
        "one",
        "output",
        "read_to",
        "results",
        "story",
        "unfit",
        "unsettled",
    )

    def __init__(
        self, number: int, one: BatchInput, feed: ModelFeed, story: Story, output: OutputOptions
    ) -> None:
        self.number = number
        self.one = one
        self.feed = feed
        self.story = story
        self.output = output
        self.results: list[Result] = []
        self.failures: list[FailedRecords] = []
        self.unsettled = 0
        """Payloads that have neither a result nor failed."""
        self.is_read = False
        self.read_to = (0, 0)
        """Byte and record that come next."""
        self.is_recorded = not story.is_new
        """Whether something of it is in the journal, or on its way there."""
        self.unfit: InvalidRequest | None = None
        """Why none of its payloads can be sent."""
        self.fields: dict[str, str] | None = None
        """What a template of custom attributes may say about it."""

    @property
    def is_complete(self) -> bool:
        """Whether every payload has a result or failed."""
        return self.is_read and not self.unsettled

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of it is in the journal, and nothing failed: its output can be written from here."""
        return not (self.is_recorded or self.failures)


class Job:
    """A payload on its way."""

    __slots__ = ("attempts", "began", "evictions", "input", "is_half", "payload", "size", "was_unready")

    def __init__(
        self, one: OpenInput, payload: Payload, *, is_half: bool = False, evictions: int = 0
    ) -> None:
        self.input = one
        self.payload = payload
        self.is_half = is_half
        """Whether it was cut from another to find bad records."""
        self.attempts = 0
        self.was_unready = False
        """Whether it was told that its model is not loaded."""
        self.evictions = evictions
        """Times that its model had been loaded, and was not any more when it came."""
        self.size = len(payload.body) + OVERHEAD
        """Bytes it takes in memory."""
        self.began = 0.0
        """When it was sent first, by the loop's clock; 0 before."""
