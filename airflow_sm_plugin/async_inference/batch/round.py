"""One round of a batch: the requests of its numbers, and the results that it awaits."""

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

    :param named: whether requests have a file name and an extension; without them only answers contain the locations
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
        shared = vars(template) | {"content_type": planned.content_type or template.content_type}
        return AsyncRequest(
            **shared,
            input_location=planned.source,
            custom_attributes=planned.custom_attributes,
            inference_id=names.inference_id,
            filename=names.filename if self.named else None,
            s3_output_path_extension=names.extension if self.named else None,
        )

    def invocation(self, number: int, ledger: Ledger, pattern: LocationPattern | None) -> AsyncInvocation:
        """Locate the result of a sent number, whether it is there or not."""
        names = self.of(number)
        if odd := ledger.odd.get(number):
            return AsyncInvocation(odd.output, odd.failure, odd.inference_id or names.inference_id)
        if pattern is not None:
            output = pattern.output(names.extension, names.filename)
            failure = pattern.failure(names.extension, names.filename)
            return AsyncInvocation(output, failure, names.inference_id)
        raise LookupError(f"the location of the result of number {number} is not known")


@dataclass(frozen=True)
class RoundWatch:
    """The results that a round awaits, and the number of each.

    :param firsts: for each folder of ``watch`` that follows the pattern: the number of its first position
    :param odd: for each of the other folders, which come after those: the numbers by position
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
        """Watch the sent numbers, except for :func:`indistinguishable` ones.

        :param pattern: of the results' locations; None if the ledger has the locations of each number
        :param seconds: permitted wait for a result, counted from the last submission of its shard
        :param only: watch these numbers instead of the sent ones
        :raises LookupError: there is no pattern, and the location of a number is not known
        """
        numbers = (ledger.sent if only is None else only) & ~indistinguishable(ledger, pattern)
        regular = numbers & ~from_numbers(ledger.odd)
        if regular and pattern is None:
            raise LookupError(f"the locations of {regular.bit_count()} results are not known")
        folders, firsts = [], []
        for shard in range(shards_of(ledger.count)):
            first = shard * SHARD
            count = min(SHARD, ledger.count - first)
            awaited = window(regular, first, count)
            if pattern is None or not awaited:
                continue
            deadline = (ledger.submitted.get(shard) or ledger.last_at or 0.0) + seconds
            left_out = below(count) & ~awaited
            folders.append(_folder(first, count, names, pattern, deadline=deadline, left_out=left_out))
            firsts.append(first)
        odd_watch, odd = _odd_watch(ledger, names, numbers, seconds)
        watch = AwaitedResults((*folders, *odd_watch.folders), own_ids=f"{names.root}-")
        return cls(watch, tuple(firsts), odd)

    def numbers(self, folder: int, positions: int) -> int:
        """Convert a set of positions in a folder to the set of their numbers."""
        if folder < len(self.firsts):
            return positions << self.firsts[folder]
        by_position = self.odd[folder - len(self.firsts)]
        return from_numbers(by_position[position] for position in numbers_of(positions))

    def all_numbers(self, by_folder: Sequence[int]) -> int:
        """Convert the sets of positions in all folders to the set of their numbers."""
        mask = 0
        for folder, positions in enumerate(by_folder):
            if positions:
                mask |= self.numbers(folder, positions)
        return mask


def indistinguishable(ledger: Ledger, pattern: LocationPattern | None) -> int:
    """Return the numbers whose output and failure object have the same location, so that the result is ambiguous."""
    odd = from_numbers(number for number, result in ledger.odd.items() if result.output == result.failure)
    if pattern is None or pattern.is_apart:
        return odd
    return odd | (below(ledger.count) & ~from_numbers(ledger.odd))


def _folder(
    first: int, count: int, names: RoundNames, pattern: LocationPattern, *, deadline: float, left_out: int
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
    return ResultFolder(outputs.folder, folder, numbered, (deadline,), tuple(numbers_of(left_out)))


def _odd_watch(
    ledger: Ledger, names: RoundNames, numbers: int, seconds: float
) -> tuple[AwaitedResults, tuple[Mapping[int, int], ...]]:
    """Watch the results with odd locations; return also, for each folder, the numbers by position."""
    odd_numbers = sorted(number for number in ledger.odd if numbers >> number & 1)
    invocations = [names.invocation(number, ledger, None) for number in odd_numbers]
    deadlines = [(ledger.submitted.get(shard_of(number)) or 0.0) + seconds for number in odd_numbers]
    watch, positions = group(invocations, deadlines)
    by_folder: list[dict[int, int]] = [{} for _ in watch.folders]
    for number, result in zip(odd_numbers, positions, strict=True):
        by_folder[result.folder][result.position] = number
    return watch, tuple(by_folder)
