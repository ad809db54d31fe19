"""Names of results that lie side by side: numbered ones cost nothing, others are told one by one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest

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
