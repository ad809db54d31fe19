"""The results that a wait awaits: folders in S3 with named results in them, each with a deadline."""

from __future__ import annotations

import enum
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

RESULTS_PER_FOLDER = 1_000
"""Most results of one :class:`ResultFolder` that :func:`group` makes: as many as a page of ListObjectsV2 shows."""


class ObjectKind(enum.Enum):
    """The two objects of which an invocation writes one."""

    OUTPUTS = "outputs"
    FAILURES = "failures"


@dataclass(frozen=True)
class ResultFolder:
    """Results side by side in S3. A result's position is its index in ``names``.

    :param outputs: ``s3://bucket/folder/`` of the outputs
    :param failures: ``s3://bucket/folder/`` of the failure objects; None without a failure path
    :param deadlines: epoch seconds; one for all, or one for each
    :param left_out: positions that are not awaited (refused, or written elsewhere)
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
        """The mask of the awaited positions."""
        return ((1 << self.names.count) - 1) & ~mask_of(self.left_out)

    @cached_property
    def first_deadline(self) -> float:
        return min(self.deadlines)

    @cached_property
    def last_deadline(self) -> float:
        return max(self.deadlines)

    @cached_property
    def _uris(self) -> Mapping[ObjectKind, S3Uri]:
        folders = zip(ObjectKind, (self.outputs, self.failures), strict=True)
        return {kind: S3Uri.parse(folder) for kind, folder in folders if folder is not None}

    def uri(self, kind: ObjectKind) -> S3Uri | None:
        return self._uris.get(kind)

    @property
    def is_combined(self) -> bool:
        """Check whether outputs and failure objects share a folder: one listing then shows both."""
        return self.failures == self.outputs

    def kinds_shown_with(self, kind: ObjectKind) -> Iterable[ObjectKind]:
        return ObjectKind if self.is_combined else (kind,)

    def output(self, position: int) -> str:
        return self.outputs + self.names.name(position, ObjectKind.OUTPUTS)

    def failure(self, position: int) -> str | None:
        return self.failures and self.failures + self.names.name(position, ObjectKind.FAILURES)

    def span(self, mask: int, kind: ObjectKind) -> tuple[str, str]:
        """Find the first and the last key, in S3's order, that a listing has to show for these positions."""
        key = self._uris[kind].key
        spans = [self.names.span(mask, each) for each in self.kinds_shown_with(kind)]
        return key + min(first for first, _ in spans), key + max(last for _, last in spans)


@dataclass(frozen=True)
class AwaitedResults:
    """All results that one wait awaits.

    :param own_ids: the common beginning of the owner's inference ids, also of results that are not awaited (any more):
        their notifications are not foreign
    """

    folders: tuple[ResultFolder, ...]
    own_ids: str = ""

    @cached_property
    def count(self) -> int:
        return sum(folder.wanted.bit_count() for folder in self.folders)

    @cached_property
    def last_deadline(self) -> float:
        return max((folder.last_deadline for folder in self.folders), default=0.0)

    def as_mapping(self) -> dict[str, Any]:
        folders = [_with_lists(folder) | {"names": _with_lists(folder.names)} for folder in self.folders]
        return {"folders": folders, "own_ids": self.own_ids}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> AwaitedResults:
        """Read the mapping that :meth:`as_mapping` made.

        :raises InvalidRequest: another mapping, such as another version of this package made
        """
        try:
            return cls(tuple(map(_folder_from, value["folders"])), str(value["own_ids"]))
        except (KeyError, TypeError) as error:
            raise InvalidRequest(
                f"this is no description of a wait, or another version of this package made it: {error!r:.80}. Clear "
                f"the task, which then waits again"
            ) from error


@dataclass(frozen=True)
class ResultPosition:
    """A result in :class:`AwaitedResults`: the folder's number, and the position in it."""

    folder: int
    position: int


def mask_of(positions: Sequence[int]) -> int:
    if not positions:
        return 0
    bits = bytearray(max(positions) // 8 + 1)
    for position in positions:
        bits[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(bits, "little")


def positions_of(mask: int) -> Iterator[int]:
    """Yield the positions of the set bits, the lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def group(
    invocations: Sequence[AsyncInvocation], deadlines: Sequence[float]
) -> tuple[AwaitedResults, tuple[ResultPosition, ...]]:
    """Group invocations by folder; return the results to await, and each invocation's position among them.

    Results in one folder whose names share their suffixes stay together, in the order of names, so that each thousand
    can be listed as a range of its own. An invocation that is given twice is awaited once, up to the later deadline.

    :param deadlines: epoch seconds, one for each
    """
    by_naming: dict[_Naming, dict[str, list[int]]] = {}
    for index, invocation in enumerate(invocations):
        naming, stem = _split(invocation.output_location, invocation.failure_location)
        by_naming.setdefault(naming, {}).setdefault(stem, []).append(index)
    folders: list[ResultFolder] = []
    positions: dict[int, ResultPosition] = {}
    for (outputs, failures, output_suffix, failure_suffix), by_stem in by_naming.items():
        # Names can sort otherwise than stems: "a-.out" comes before "a.out", but "a" before "a-".
        all_stems = [stem for _, stem in sorted((stem + output_suffix, stem) for stem in by_stem)]
        for start in range(0, len(all_stems), RESULTS_PER_FOLDER):
            stems = all_stems[start : start + RESULTS_PER_FOLDER]
            for position, stem in enumerate(stems):
                positions |= dict.fromkeys(by_stem[stem], ResultPosition(len(folders), position))
            ids = tuple(invocations[by_stem[stem][0]].inference_id or "" for stem in stems)
            until = tuple(max(deadlines[index] for index in by_stem[stem]) for stem in stems)
            names = ListedNames(tuple(stems), output_suffix, failure_suffix, ids if any(ids) else ())
            folders.append(
                ResultFolder(outputs, failures, names, until[:1] if len(set(until)) == 1 else until)
            )
    return AwaitedResults(tuple(folders)), tuple(positions[index] for index in range(len(invocations)))


_Naming = tuple[str, str | None, str, str | None]


def _split(output: str, failure: str | None) -> tuple[_Naming, str]:
    """Split both locations into folders, suffixes, and the stem that their names have in common."""
    folder, slash, name = output.rpartition("/")
    if failure is None:
        return (folder + slash, None, "", None), name
    failure_folder, failure_slash, failure_name = failure.rpartition("/")
    pairs = zip(name, failure_name, strict=False)
    stem = "".join(left for left, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    suffixes = name[len(stem) :], failure_name[len(stem) :]
    return (folder + slash, failure_folder + failure_slash, *suffixes), stem


_FORM = re.compile(r"([^{}]*)\{:0([1-9][0-9]?)\}([^{}]*)")


@functools.lru_cache(maxsize=64)
def _pattern_of(form: str) -> re.Pattern[str]:
    parts = _FORM.fullmatch(form)
    if parts is None:
        raise InvalidRequest(f"a form of names must look like '{{:07}}.out', not {form!r:.80}")
    return re.compile(f"{re.escape(parts[1])}([0-9]{{{parts[2]}}}){re.escape(parts[3])}")


class _Names:
    """Names of results by position; ``id_at`` finds the position of an inference id, -1 for another owner's."""

    def name(self, position: int, kind: ObjectKind) -> str:
        raise NotImplementedError

    def span(self, mask: int, kind: ObjectKind) -> tuple[str, str]:
        """Find the first and the last name of these positions."""
        return self.name((mask & -mask).bit_length() - 1, kind), self.name(mask.bit_length() - 1, kind)


@dataclass(frozen=True)
class NumberedNames(_Names):
    """Names that are consecutive numbers of a fixed width: a few bytes describe any count of them.

    :param output_form: e.g. ``"{:07}.out"``
    :param failure_form: e.g. ``"{:07}-error.out"``; None without a failure path
    :param id_form: the form of inference ids, e.g. ``"airflow-0f3a-r1-{:07}"``, to understand notifications by
    """

    first: int
    count: int
    output_form: str
    failure_form: str | None = None
    id_form: str | None = None

    def __post_init__(self) -> None:
        last = self.first + self.count - 1
        for form in (self.output_form, self.failure_form, self.id_form):
            if form is not None and not _pattern_of(form).fullmatch(form.format(last)):
                raise InvalidRequest(f"{last} does not fit into names like {form!r}")

    def name(self, position: int, kind: ObjectKind) -> str:
        form = self.output_form if kind is ObjectKind.OUTPUTS else self.failure_form or self.output_form
        return form.format(self.first + position)

    def positions(self, names: Iterable[str], kind: ObjectKind) -> list[int]:
        return self._positions(names, self.output_form if kind is ObjectKind.OUTPUTS else self.failure_form)

    def id_at(self, inference_id: str) -> int:
        return next(iter(self._positions([inference_id], self.id_form)), -1)

    def _positions(self, names: Iterable[str], form: str | None) -> list[int]:
        if form is None:
            return []
        matches = map(_pattern_of(form).fullmatch, names)
        positions = [int(match[1]) - self.first for match in matches if match]
        return [position for position in positions if 0 <= position < self.count]


@dataclass(frozen=True)
class ListedNames(_Names):
    """Names listed one by one, in the order of the outputs' names; a name is a stem and a suffix.

    :param failure_suffix: None without a failure path
    :param ids: inference ids, one for each, or none at all; an unknown one is empty
    """

    stems: tuple[str, ...]
    output_suffix: str = ""
    failure_suffix: str | None = None
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self._in_order(ObjectKind.OUTPUTS):
            raise InvalidRequest("the names of a folder must be listed in their own order, each once")
        if self.ids and len(self.ids) != len(self.stems):
            raise InvalidRequest(f"{len(self.stems)} names cannot have {len(self.ids)} inference ids")

    @property
    def count(self) -> int:
        return len(self.stems)

    def name(self, position: int, kind: ObjectKind) -> str:
        return self.stems[position] + (self._suffix(kind) or "")

    def span(self, mask: int, kind: ObjectKind) -> tuple[str, str]:
        if kind is ObjectKind.OUTPUTS or self._failures_in_order:
            return super().span(mask, kind)
        names = [self.name(position, kind) for position in positions_of(mask)]
        return min(names), max(names)

    @cached_property
    def _failures_in_order(self) -> bool:
        return self._in_order(ObjectKind.FAILURES)

    def _in_order(self, kind: ObjectKind) -> bool:
        names = (self.name(position, kind) for position in range(self.count))
        return all(name < following for name, following in itertools.pairwise(names))

    def positions(self, names: Iterable[str], kind: ObjectKind) -> list[int]:
        suffix = self._suffix(kind)
        if suffix is None:
            return []
        by_stem, end = self._by_stem, -len(suffix) or None
        positions = (by_stem.get(name[:end], -1) for name in names if name.endswith(suffix))
        return [position for position in positions if position >= 0]

    def _suffix(self, kind: ObjectKind) -> str | None:
        return self.output_suffix if kind is ObjectKind.OUTPUTS else self.failure_suffix

    def id_at(self, inference_id: str) -> int:
        return self._by_id.get(inference_id, -1) if inference_id else -1

    @cached_property
    def _by_stem(self) -> dict[str, int]:
        return {stem: position for position, stem in enumerate(self.stems)}

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {inference_id: position for position, inference_id in enumerate(self.ids)}


def _with_lists(part: ResultFolder | NumberedNames | ListedNames) -> dict[str, Any]:
    values = {
        field.name: getattr(part, field.name) for field in fields(part)
    }  # asdict() takes a second for 100,000
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _with_tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}


def _folder_from(value: Mapping[str, Any]) -> ResultFolder:
    names = _with_tuples(value["names"])
    kind = NumberedNames if "first" in names else ListedNames
    return ResultFolder(**_with_tuples(value) | {"names": kind(**names)})
