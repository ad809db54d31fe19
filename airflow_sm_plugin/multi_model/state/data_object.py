"""The data object of a journal's part: results and rows of errors, and their positions in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.multi_model.state.records import FailedRecords, Failure, Result, Run
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES

_Records = TypeVar("_Records", FailedRecords, Failure)


class DataObject:
    """Results and rows of errors in one object, in the order of each input."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.failures: list[Failure] = []
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""
        self.size = 0
        self._chunks: list[bytes] = []

    def body(self) -> bytes:
        return b"".join(self._chunks)

    def add(
        self,
        entry: int,
        batch_input: BatchInput,
        results: Iterable[Result],
        failures: Iterable[FailedRecords],
    ) -> None:
        """Add an input's results and failures, in any order."""
        for consecutive in _consecutive(sorted(results)):
            self._add_run(entry, consecutive)
        joined: list[FailedRecords] = []
        for failed in sorted(failures, key=lambda records: (records.start, records.first_record)):
            append_failure(joined, failed)
        for failed in joined:
            self._add_failure(entry, batch_input, failed)

    def _add_run(self, entry: int, results: list[Result]) -> None:
        first, last = results[0], results[-1]
        records = last.first_record + last.records - first.first_record
        bodies = self._append([result.body for result in results])
        notes = self._append([result.note for result in results if result.note])
        self.runs.append(Run(entry, first.start, last.end, first.first_record, records, *bodies, *notes))

    def _add_failure(self, entry: int, batch_input: BatchInput, failed: FailedRecords) -> None:
        position = self._append([failed.line(batch_input)])
        if len(self.rows) < MOST_FAILURES:
            self.rows.append(failed.row(batch_input))
        start, end, first_record, records, error, *_ = failed
        failure = Failure(
            entry, start, end, first_record, records, error.__name__, error.retryable, *position
        )
        append_failure(self.failures, failure)

    def _append(self, chunks: list[bytes]) -> tuple[int, int]:
        """Append bytes; return their offset and size."""
        offset = self.size
        self._chunks += chunks
        self.size += sum(map(len, chunks))
        return offset, self.size - offset


def append_failure(group: list[_Records], records: _Records) -> bool:
    """Add failed records, to the last ones if they follow these; report whether they are separate."""
    if group and records.follows(group[-1]):
        group[-1] = group[-1].joined(records)
        return False
    group.append(records)
    return True


def _consecutive(results: Iterable[Result]) -> list[list[Result]]:
    runs: list[list[Result]] = []
    for result in results:
        if runs and runs[-1][-1].end == result.start:
            runs[-1].append(result)
        else:
            runs.append([result])
    return runs
