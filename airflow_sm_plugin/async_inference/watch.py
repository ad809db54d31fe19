"""What a wait for asynchronous results looks at: results that lie side by side in S3, each with a deadline."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

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


_FORM = re.compile(r"([^{}]*)\{:0([1-9][0-9]?)\}([^{}]*)")


@dataclass(frozen=True)
class _NumberForm:
    before: str
    width: int
    after: str

    @classmethod
    def parse(cls, text: str) -> _NumberForm:
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"a form of names must look like '{{:07}}.out', not {text!r:.80}")
        return cls(found[1], int(found[2]), found[3])

    def numbers(self, names: Iterable[str]) -> list[int]:
        """Return the numbers in those of the names that are of this form."""
        return [int(found[1]) for found in map(self._pattern.fullmatch, names) if found]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(f"{re.escape(self.before)}([0-9]{{{self.width}}}){re.escape(self.after)}")


@dataclass(frozen=True)
class NumberedNames:
    """Names that are consecutive numbers of a fixed width: any count of them costs nothing.

    :param first: the first number
    :param output_form: e.g. ``"{:07}.out"``
    :param failure_form: e.g. ``"{:07}-error.out"``; None where there is no failure path
    :param id_form: the form of inference ids, e.g. ``"airflow-0f3a-r1-{:07}"``, to understand notifications by
    """

    first: int
    count: int
    output_form: str
    failure_form: str | None = None
    id_form: str | None = None

    def __post_init__(self) -> None:
        for form in (self.output_form, self.failure_form, self.id_form):
            if form is not None and len(str(self.first + self.count - 1)) > _NumberForm.parse(form).width:
                raise InvalidRequest(f"{self.first + self.count - 1} does not fit into names like {form!r}")

    def output(self, position: int) -> str:
        """Return the name of an output."""
        return self.output_form.format(self.first + position)

    def failure(self, position: int) -> str:
        """Return the name of a failure object."""
        return (self.failure_form or self.output_form).format(self.first + position)

    def span(self, mask: int, *, failures: bool) -> tuple[str, str]:
        """Return the first and the last name of these positions."""
        name = self.failure if failures else self.output
        return name((mask & -mask).bit_length() - 1), name(mask.bit_length() - 1)

    def outputs_in(self, names: Iterable[str]) -> list[int]:
        """Return the positions of the outputs among these names."""
        return self._positions(self._forms[0], names)

    def failures_in(self, names: Iterable[str]) -> list[int]:
        """Return the positions of the failure objects among these names."""
        return self._positions(self._forms[1], names)

    def id_at(self, inference_id: str) -> int:
        """Return the position of an inference id; -1 when it is another's."""
        return next(iter(self._positions(self._forms[2], [inference_id])), -1)

    @cached_property
    def _forms(self) -> tuple[_NumberForm | None, ...]:
        forms = (self.output_form, self.failure_form, self.id_form)
        return tuple(None if form is None else _NumberForm.parse(form) for form in forms)

    def _positions(self, form: _NumberForm | None, names: Iterable[str]) -> list[int]:
        first, behind = self.first, self.first + self.count
        numbers = [] if form is None else form.numbers(names)
        return [number - first for number in numbers if first <= number < behind]

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        forms = {"output": self.output_form, "failure": self.failure_form, "id": self.id_form}
        return {"first": self.first, "count": self.count, "forms": forms}


@dataclass(frozen=True)
class ListedNames:
    """Names that are told one by one, in the order of the outputs' names; a name is a stem and a suffix.

    :param failure_suffix: None where there is no failure path
    :param ids: inference ids, one for each, or none at all; an unknown one is empty
    """

    stems: tuple[str, ...]
    output_suffix: str = ""
    failure_suffix: str | None = None
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [stem + self.output_suffix for stem in self.stems]
        if any(name >= following for name, following in itertools.pairwise(names)):
            raise InvalidRequest("the names of a shelf must be told in their own order, each once")
        if self.ids and len(self.ids) != len(self.stems):
            raise InvalidRequest(f"{len(self.stems)} names cannot have {len(self.ids)} inference ids")

    @property
    def count(self) -> int:
        """Return how many names there are."""
        return len(self.stems)

    def output(self, position: int) -> str:
        """Return the name of an output."""
        return self.stems[position] + self.output_suffix

    def failure(self, position: int) -> str:
        """Return the name of a failure object."""
        return self.stems[position] + (self.failure_suffix or "")

    def span(self, mask: int, *, failures: bool) -> tuple[str, str]:
        """Return the first and the last name of these positions."""
        if failures and not self._failures_in_order:
            names = [self.failure(position) for position in range(self.count) if mask >> position & 1]
            return min(names), max(names)
        name = self.failure if failures else self.output
        return name((mask & -mask).bit_length() - 1), name(mask.bit_length() - 1)

    @cached_property
    def _failures_in_order(self) -> bool:
        names = (self.failure(position) for position in range(self.count))
        return all(name < following for name, following in itertools.pairwise(names))

    def outputs_in(self, names: Iterable[str]) -> list[int]:
        """Return the positions of the outputs among these names."""
        return self._positions(names, self.output_suffix)

    def failures_in(self, names: Iterable[str]) -> list[int]:
        """Return the positions of the failure objects among these names."""
        return [] if self.failure_suffix is None else self._positions(names, self.failure_suffix)

    def id_at(self, inference_id: str) -> int:
        """Return the position of an inference id; -1 when it is another's."""
        return self._by_id.get(inference_id, -1) if inference_id else -1

    @cached_property
    def _by_stem(self) -> dict[str, int]:
        return {stem: position for position, stem in enumerate(self.stems)}

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {inference_id: position for position, inference_id in enumerate(self.ids)}

    def _positions(self, names: Iterable[str], suffix: str) -> list[int]:
        known, end = self._by_stem, -len(suffix) or None
        found = (known.get(name[:end], -1) for name in names if name.endswith(suffix))
        return [position for position in found if position >= 0]

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        suffixes = {"output": self.output_suffix, "failure": self.failure_suffix}
        return {"stems": list(self.stems), "suffixes": suffixes, "ids": list(self.ids)}


def names_from(value: Mapping[str, Any]) -> NumberedNames | ListedNames:
    """Read what ``as_mapping`` of either wrote."""
    if "forms" in value:
        forms = value["forms"]
        return NumberedNames(value["first"], value["count"], forms["output"], forms["failure"], forms["id"])
    suffixes = value["suffixes"]
    return ListedNames(tuple(value["stems"]), suffixes["output"], suffixes["failure"], tuple(value["ids"]))
