"""One round of a batch: the requests of its numbers, and the results that it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_sm_plugin.async_inference.batch.ledger import Ledger
from airflow_sm_plugin.async_inference.locations import (
    LocationPattern,
    extension,
    filename,
    inference_id,
    inference_id_form,
    shard_of,
    shards_of,
)
from airflow_sm_plugin.async_inference.watch import AwaitedResults, NumberedNames, ResultFolder, group
from airflow_sm_plugin.batches.inputs import SHARD, BatchInput
from airflow_sm_plugin.core.number_sets import below, from_numbers, numbers_of, window
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest


@dataclass(frozen=True, kw_only=True)
class RequestTemplate:
    """The arguments that all requests of a batch share."""

    endpoint_name: str
    content_type: str | None = None
    accept: str | None = None
    request_ttl: int | None = None
    invocation_timeout: int | None = None


class Names(NamedTuple):
    """The names that a request carries."""

    extension: str
    filename: str
    inference_id: str


@dataclass(frozen=True)
class RoundNames:
    """The names of a round's requests.

    :param named: whether file name and extension can be sent; without them only answers tell where results lie
    """

    root: str
    round_number: int
    named: bool = True

    def of(self, number: int) -> Names:
        return Names(
            self.extension(shard_of(number)),
            filename(number),
            inference_id(self.root, self.round_number, number),
        )

    def extension(self, shard: int) -> str:
        return extension(self.root, self.round_number, shard)

    def request(self, number: int, planned: BatchInput, template: RequestTemplate) -> AsyncRequest:
        names = self.of(number)
        return AsyncRequest(
            endpoint_name=template.endpoint_name,
            input_location=planned.source,
            content_type=planned.content_type or template.content_type,
            accept=template.accept,
            custom_attributes=planned.custom_attributes,
            inference_id=names.inference_id,
            request_ttl=template.request_ttl,
            invocation_timeout=template.invocation_timeout,
            filename=names.filename if self.named else None,
            s3_output_path_extension=names.extension if self.named else None,
        )

    def invocation(self, number: int, ledger: Ledger, pattern: LocationPattern | None) -> AsyncInvocation:
        """Return where the result of a sent number is, or will be."""
        names = self.of(number)
        if odd := ledger.odd.get(number):
            return AsyncInvocation(odd.output, odd.failure, odd.inference_id or names.inference_id)
        if pattern is not None:
            output = pattern.output(names.extension, names.filename)
            failure = pattern.failure(names.extension, names.filename)
            return AsyncInvocation(output, failure, names.inference_id)
        raise LookupError(f"it is not known where the result of number {number} lies")


@dataclass(frozen=True)
class RoundWatch:
    """The results that a round waits for, and which number is where among them.

    :param shards: for each shelf of ``watch`` from the first: the number of its first position
    :param odd: numbers of the shelves behind those, one list of numbers by position for each
    """

    watch: AwaitedResults
    firsts: tuple[int, ...]
    odd: tuple[Mapping[int, int], ...]

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        names: RoundNames,
        *,
        pattern: LocationPattern | None,
        seconds: float,
        only: int | None = None,
    ) -> RoundWatch:
        """Watch what was sent, except for what is :func:`untellable`.

        :param pattern: where results lie; None when the place of each is known one by one
        :param seconds: how long a result may take, counted from the last submission of its shard
        :param only: these numbers alone, whether they count as sent or not
        :raises LookupError: there is no pattern, and the place of something sent is not known
        """
        numbers = (ledger.sent if only is None else only) & ~untellable(ledger, pattern)
        regular = numbers & ~from_numbers(ledger.odd)
        if regular and pattern is None:
            raise LookupError(f"it is not known where the results of {regular.bit_count()} numbers lie")
        shelves, firsts = [], []
        for shard in range(shards_of(ledger.count)):
            first = shard * SHARD
            count = min(SHARD, ledger.count - first)
            there = window(regular, first, count)
            if pattern is None or not there:
                continue
            deadline = (ledger.submitted_at(shard) or ledger.last_at or 0.0) + seconds
            shelves.append(_shelf(first, count, names, pattern, deadline=deadline, there=there))
            firsts.append(first)
        odd_watch, places = _odd(ledger, names, numbers, seconds)
        return cls(
            AwaitedResults((*shelves, *odd_watch.folders), own_ids=f"{names.root}-"), tuple(firsts), places
        )

    def numbers(self, shelf: int, positions: int) -> int:
        """Return the set of numbers that a set of positions on a shelf stands for."""
        if shelf < len(self.firsts):
            return positions << self.firsts[shelf]
        by_position = self.odd[shelf - len(self.firsts)]
        return from_numbers(by_position[position] for position in numbers_of(positions))

    def all_numbers(self, by_shelf: Sequence[int]) -> int:
        """Return the set of numbers that positions of all shelves stand for."""
        mask = 0
        for shelf, positions in enumerate(by_shelf):
            if positions:
                mask |= self.numbers(shelf, positions)
        return mask


def untellable(ledger: Ledger, pattern: LocationPattern | None) -> int:
    """Return the numbers whose output and failure object have one place: which of them lies there cannot be told."""
    odd = from_numbers(number for number, places in ledger.odd.items() if places.output == places.failure)
    if pattern is None or pattern.is_apart:
        return odd
    return odd | (below(ledger.count) & ~from_numbers(ledger.odd))


def _shelf(
    first: int, count: int, names: RoundNames, pattern: LocationPattern, *, deadline: float, there: int
) -> ResultFolder:
    outputs, failures = pattern.forms(names.extension(shard_of(first)))
    numbered = NumberedNames(
        first=first,
        count=count,
        output_form=outputs.names,
        failure_form=failures.names if failures else None,
        id_form=inference_id_form(names.root, names.round_number),
    )
    folder = failures.folder if failures else None
    left_out = tuple(numbers_of(below(count) & ~there))
    return ResultFolder(outputs.folder, folder, numbered, (deadline,), left_out)


def _odd(
    ledger: Ledger, names: RoundNames, numbers: int, seconds: float
) -> tuple[AwaitedResults, tuple[Mapping[int, int], ...]]:
    """Return a watch over the invocations that lie elsewhere, and by shelf the number of each position."""
    some = sorted(number for number in ledger.odd if numbers >> number & 1)
    invocations = [names.invocation(number, ledger, None) for number in some]
    deadlines = [(ledger.submitted_at(shard_of(number)) or 0.0) + seconds for number in some]
    watch, places = group(invocations, deadlines)
    by_shelf: list[dict[int, int]] = [{} for _ in watch.folders]
    for number, place in zip(some, places, strict=True):
        by_shelf[place.folder][place.position] = number
    return watch, tuple(by_shelf)
