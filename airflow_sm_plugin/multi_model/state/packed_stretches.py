"""Stretches of data objects, kept in few bytes: an output may be put together from a hundred thousand of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from airflow_sm_plugin.multi_model.state.stretches import Stretch

_WIDTH = 3


class PackedStretches:
    """The stretches of one output in order, 24 bytes each; what follows each other in its object, too, is one.

    :param prefix: what stands before the names of the data objects in their locations
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers: dict[str, int] = {}
        self._locations: list[str] = []
        self._columns = array("q")
        self.size = 0
        """Bytes in all."""

    def add(self, data: str, at: int, size: int) -> None:
        """Take up bytes of a data object; none are nothing."""
        if not size:
            return
        self.size += size
        number, columns = self._number(data), self._columns
        if columns and columns[-3] == number and columns[-2] + columns[-1] == at:
            columns[-1] += size
        else:
            columns.extend((number, at, size))

    def _number(self, data: str) -> int:
        number = self._numbers.get(data)
        if number is None:
            number = self._numbers[data] = len(self._locations)
            self._locations.append(f"{self._prefix}{data}")
        return number

    def __iter__(self) -> Iterator[Stretch]:
        """Yield them in order."""
        columns = self._columns
        for place in range(0, len(columns), _WIDTH):
            yield Stretch(self._locations[columns[place]], columns[place + 1], columns[place + 2])
