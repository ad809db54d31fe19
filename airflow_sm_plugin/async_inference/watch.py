"""What a wait for asynchronous results looks at: results that lie side by side in S3, each with a deadline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from airflow_sm_plugin.async_inference.outcome import AsyncInvocation
from airflow_sm_plugin.async_inference.result_names import ListedNames, NumberedNames, names_from
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest

__all__ = ["ListedNames", "NumberedNames", "Place", "Shelf", "Watch", "group", "mask_of", "positions_of"]

SHELF = 1_000
"""Results on one shelf at most, where we decide: what one page of ListObjectsV2 shows."""


@dataclass(frozen=True)
class Shelf:
    """Results side by side. A position is a name's place on the shelf, from 0.

    :param outputs: ``s3://bucket/folder/`` of the outputs
    :param failures: ``s3://bucket/folder/`` of the failure objects; None where there is no failure path
    :param deadlines: epoch seconds; one for all, or one for each
    :param left_out: positions nobody waits for (refused, or kept elsewhere)
    """

    outputs: str
    failures: str | None
    names: NumberedNames | ListedNames
    deadlines: tuple[float, ...]
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.deadlines) not in (1, self.names.count):
            raise InvalidRequest(
                f"{self.names.count} results need one deadline or one each, not {len(self.deadlines)}"
            )
        for folder in (self.outputs, self.failures):
            if folder is not None and not folder.endswith("/"):
                raise InvalidRequest(f"a folder of results ends with a slash, unlike {folder!r}")

    @cached_property
    def wanted(self) -> int:
        """Return what is waited for, a bit for each position."""
        return ((1 << self.names.count) - 1) & ~mask_of(self.left_out)

    @cached_property
    def first_deadline(self) -> float:
        """Return the earliest deadline, in epoch seconds."""
        return min(self.deadlines)

    @cached_property
    def last_deadline(self) -> float:
        """Return the latest deadline, in epoch seconds."""
        return max(self.deadlines)

    @cached_property
    def outputs_uri(self) -> S3Uri:
        """Return the outputs' bucket and folder."""
        return S3Uri.parse(self.outputs)

    @cached_property
    def failures_uri(self) -> S3Uri | None:
        """Return the failure objects' bucket and folder."""
        return None if self.failures is None else S3Uri.parse(self.failures)

    @property
    def is_combined(self) -> bool:
        """Whether outputs and failure objects lie in one folder: one listing then tells of both."""
        return self.failures == self.outputs

    def output(self, position: int) -> str:
        """Return an output's location."""
        return self.outputs + self.names.output(position)

    def failure(self, position: int) -> str | None:
        """Return a failure object's location."""
        return None if self.failures is None else self.failures + self.names.failure(position)

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        return {
            "outputs": self.outputs,
            "failures": self.failures,
            "names": self.names.as_mapping(),
            "deadlines": list(self.deadlines),
            "left_out": list(self.left_out),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Shelf:
        """Read what :meth:`as_mapping` wrote."""
        return cls(
            outputs=value["outputs"],
            failures=value["failures"],
            names=names_from(value["names"]),
            deadlines=tuple(value["deadlines"]),
            left_out=tuple(value["left_out"]),
        )


@dataclass(frozen=True)
class Watch:
    """Everything one wait waits for.

    :param own_ids: how the inference ids of the same owner begin, also of those not waited for (any more): their
        notifications are no foreign ones
    """

    shelves: tuple[Shelf, ...]
    own_ids: str = field(default="")

    @cached_property
    def count(self) -> int:
        """Return how many results are waited for."""
        return sum(shelf.wanted.bit_count() for shelf in self.shelves)

    @cached_property
    def last_deadline(self) -> float:
        """Return the latest deadline, in epoch seconds."""
        return max((shelf.last_deadline for shelf in self.shelves), default=0.0)

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        return {"shelves": [shelf.as_mapping() for shelf in self.shelves], "own_ids": self.own_ids}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Watch:
        """Read what :meth:`as_mapping` wrote.

        :raises InvalidRequest: it is no such mapping
        """
        try:
            return cls(tuple(Shelf.from_mapping(one) for one in value["shelves"]), str(value["own_ids"]))
        except (KeyError, TypeError) as error:
            raise InvalidRequest(f"this is no description of a wait: {error!r:.80}") from error


@dataclass(frozen=True)
class Place:
    """Where a result is in a watch: the shelf's number and the position on it."""

    shelf: int
    position: int


def mask_of(positions: Sequence[int]) -> int:
    """Return the number with these bits."""
    if not positions:
        return 0
    bits = bytearray(max(positions) // 8 + 1)
    for position in positions:
        bits[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(bits, "little")


def positions_of(mask: int) -> Iterator[int]:
    """Yield the bits of a number, the lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def group(
    invocations: Sequence[AsyncInvocation], deadlines: Sequence[float]
) -> tuple[Watch, tuple[Place, ...]]:
    """Return a watch over any invocations, and the place of each of them in it.

    What lies in one folder and is named alike shares shelves, in the order of names, so that each can be listed as a
    range of its own. An invocation that is given twice is waited for once, up to the later deadline.

    :param deadlines: epoch seconds, one for each
    """
    alike: dict[tuple[object, ...], dict[str, list[int]]] = {}
    for number, invocation in enumerate(invocations):
        folders, stem, suffixes = _split(invocation.output_location, invocation.failure_location)
        alike.setdefault((*folders, *suffixes), {}).setdefault(stem, []).append(number)
    shelves: list[Shelf] = []
    places: dict[int, Place] = {}
    for (outputs, failures, output_suffix, failure_suffix), by_stem in alike.items():
        stems = [name[1] for name in sorted((stem + str(output_suffix), stem) for stem in by_stem)]
        for start in range(0, len(stems), SHELF):
            some = stems[start : start + SHELF]
            for position, stem in enumerate(some):
                places |= dict.fromkeys(by_stem[stem], Place(len(shelves), position))
            names = ListedNames(
                tuple(some),
                str(output_suffix),
                None if failure_suffix is None else str(failure_suffix),
                _ids([invocations[by_stem[stem][0]] for stem in some]),
            )
            until = tuple(max(deadlines[number] for number in by_stem[stem]) for stem in some)
            folder = None if failures is None else str(failures)
            shelves.append(Shelf(str(outputs), folder, names, until[:1] if len(set(until)) == 1 else until))
    return Watch(tuple(shelves)), tuple(places[number] for number in range(len(invocations)))


def _ids(invocations: Sequence[AsyncInvocation]) -> tuple[str, ...]:
    ids = tuple(invocation.inference_id or "" for invocation in invocations)
    return ids if any(ids) else ()


def _split(output: str, failure: str | None) -> tuple[tuple[str, str | None], str, tuple[str, str | None]]:
    """Return the folders, what both names begin with, and what follows in each."""
    folder, slash, name = output.rpartition("/")
    if failure is None:
        return (folder + slash, None), name, ("", None)
    failure_folder, failure_slash, failure_name = failure.rpartition("/")
    same = 0
    while same < min(len(name), len(failure_name)) and name[same] == failure_name[same]:
        same += 1
    folders = (folder + slash, failure_folder + failure_slash)
    return folders, name[:same], (name[same:], failure_name[same:])
