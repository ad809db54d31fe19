"""The inputs of a plan in the making, in a database file of this process: memory stays flat, whatever their number.

SQLite creates the file without a name, and the file vanishes with the process, even if that is killed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.plan.packing import LEAST_BYTES, Piece

_DIGEST_LENGTH = 32
_SETTINGS = ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-2000")
_TABLES = (
    "CREATE TABLE staged (id INTEGER PRIMARY KEY, line TEXT)",
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, model INTEGER, size INTEGER, output BLOB, mark BLOB, line TEXT)",
    "CREATE TABLE finished (output BLOB PRIMARY KEY, mark BLOB) WITHOUT ROWID",
)
_INTO_ENTRIES = "INSERT INTO entries (model, size, output, mark, line) VALUES (?, ?, ?, ?, ?)"
_WEIGHT = f"MAX(IFNULL(size, 0), {LEAST_BYTES})"
_INTO_FINISHED = "INSERT OR REPLACE INTO finished (output, mark) VALUES (?, ?)"


class PlanSpool:
    """The entries in order. Add all of them before any query. An entry's mark is a hash of its line."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._digest = hashlib.sha256()
        self._models: dict[str, int] = {}
        self.count = 0

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[PlanSpool]:
        """Open an empty spool for the block."""
        with closing(sqlite3.connect("", isolation_level=None)) as database:
            for setting in _SETTINGS:
                database.execute(f"PRAGMA {setting}")
            database.execute("BEGIN")  # one transaction for all: a commit per row would take most of the time
            for table in _TABLES:
                database.execute(table)
            yield cls(database)

    @property
    def digest(self) -> str:
        """Digest of all added entries, in order."""
        return self._digest.hexdigest()[:_DIGEST_LENGTH]

    # Inputs that have no names yet

    def stage(self, entry: BatchInput) -> None:
        """Keep an input until it can be named."""
        self._database.execute("INSERT INTO staged (line) VALUES (?)", (entry.as_line(),))

    def staged(self) -> Iterator[BatchInput]:
        for (line,) in self._database.execute("SELECT line FROM staged ORDER BY id"):
            yield BatchInput.from_line(line)

    # Entries

    def add(self, entry: BatchInput) -> None:
        """Add an input that has its names."""
        line = entry.as_line()
        self._digest.update(f"{line}\n".encode())
        model = self._models.setdefault(entry.target_model or "", len(self._models))
        mark = _hash(line) if entry.etag else None  # an input without a known ETag never counts as finished
        self._database.execute(_INTO_ENTRIES, (model, entry.size, _hash(entry.output or ""), mark, line))
        self.count += 1

    def finish(self) -> None:
        """Prepare the added entries for queries.

        :raises InvalidRequest: two entries have the same output name
        """
        self._database.execute("DROP TABLE staged")
        self._database.execute("CREATE INDEX by_output ON entries (output)")
        twins = self._database.execute(
            "SELECT MIN(id), MAX(id) FROM entries GROUP BY output HAVING COUNT(*) > 1 ORDER BY 1 LIMIT 1"
        ).fetchone()
        if twins:
            rows = self._database.execute("SELECT line FROM entries WHERE id IN (?, ?) ORDER BY id", twins)
            first, second = (BatchInput.from_line(line) for (line,) in rows)
            raise _same_output(first, second)

    # Entries of earlier plans

    def note_finished(self, entries: Iterable[tuple[str, bool]]) -> None:
        """Note entries of an earlier plan. Begin with the earliest plan: a later plan's results replace its results.

        :param entries: lines of an earlier plan, and whether all their records are finished
        """
        self._database.executemany(_INTO_FINISHED, map(_finished_row, entries))

    def forget_finished(self) -> None:
        self._database.execute("DELETE FROM finished")

    def drop_finished(self) -> int:
        """Drop the unchanged entries that were noted as finished; return how many."""
        chosen = (
            "SELECT entries.id FROM entries JOIN finished USING (output) WHERE entries.mark = finished.mark"
        )
        return self._database.execute(f"DELETE FROM entries WHERE id IN ({chosen})").rowcount  # noqa: S608 - a constant

    # Queries

    def models(self) -> list[Piece]:
        """Return all inputs of each model, sorted by name. Call it before queries of pieces: it adds an index."""
        self._database.execute("CREATE INDEX IF NOT EXISTS by_model ON entries (model)")
        names = list(self._models)
        rows = self._database.execute(
            f"SELECT model, COUNT(*), SUM({_WEIGHT}) FROM entries GROUP BY model"  # noqa: S608 - a constant
        )
        models = [Piece(names[model], 0, count, weight) for model, count, weight in rows]
        return sorted(models, key=lambda model: model.target_model)

    def totals(self) -> tuple[int, int]:
        """Return the number of remaining inputs, and their bytes as far as those are known."""
        count, size = self._database.execute("SELECT COUNT(*), IFNULL(SUM(size), 0) FROM entries").fetchone()
        return count, size

    def weights_of(self, piece: Piece) -> Iterator[int]:
        """Yield the weight of each of a piece's inputs, in order."""
        return (weight for (weight,) in self._select(_WEIGHT, piece))

    def sizes_of(self, piece: Piece) -> Iterator[int | None]:
        """Yield the bytes of each of a piece's inputs, in order; None for an unknown size."""
        return (size for (size,) in self._select("size", piece))

    def lines_of(self, piece: Piece) -> Iterator[tuple[str, int]]:
        """Yield a piece's entries as lines without their ends, each with its bytes; 0 for an unknown size."""
        return ((line, size) for line, size in self._select("line, IFNULL(size, 0)", piece))

    def spread(self, count: int) -> Iterator[BatchInput]:
        """Yield up to *count* entries, spread over all entries that are not known to be empty."""
        chosen = "SELECT line FROM entries WHERE IFNULL(size, 1) > 0 AND id % ? = 0 LIMIT ?"
        step = max(1, self.count // count)
        for (line,) in self._database.execute(chosen, (step, count)):
            yield BatchInput.from_line(line)

    def _select(self, columns: str, piece: Piece) -> Iterator[tuple[Any, ...]]:
        return self._database.execute(
            f"SELECT {columns} FROM entries WHERE model = ? ORDER BY id LIMIT ? OFFSET ?",  # noqa: S608 - named above
            (self._models[piece.target_model], piece.count, piece.first),
        )


def _hash(text: str) -> bytes:
    return hashlib.blake2b(as_utf8(text), digest_size=16).digest()


def _same_output(first: BatchInput, second: BatchInput) -> InvalidRequest:
    entries = f"{first.source} and {second.source}"
    if first.source == second.source:
        entries = f"both entries of {first.source}"
    return InvalidRequest(
        f"the results of {entries} would have the same name, {first.output}: give output_name, e.g. "
        f"'{{target_model}}/{{relative}}' where one input goes to several models or '{{key}}' where relative keys are "
        f"equal, and list no input twice for the same model"
    )


def _finished_row(entry: tuple[str, bool]) -> tuple[bytes, bytes | None]:
    line, is_finished = entry
    return _hash(BatchInput.from_line(line).output or ""), _hash(line) if is_finished else None
