"""One look at a watch: what to ask S3, and what its answers mean. It talks to nobody itself.

Prices decide: a page of ListObjectsV2 costs as much as 12.5 HEADs and tells of a thousand results. So

- what has a folder of its own is listed, from the first missing name on, and never again once it is complete;
- of shelves on which nothing has appeared yet only the first few are listed at each look, and further ones as long as
  something came to all of these; each at every eighth look;
- failure objects are listed when outputs do not come any more, for all shelves at once from the folder above them,
  and at the expense of a twentieth of the outputs' pages;
- few results, results among many foreign objects, and those in a bucket that may not be listed are asked for one by
  one;
- no verdict is given about what was not looked at after its deadline, outputs and failure objects.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from airflow_sm_plugin.async_inference.watch import Place, Watch, mask_of, positions_of
from airflow_sm_plugin.async_inference.watch_state import WatchState, past
from airflow_sm_plugin.core.failed_polls import FailedLooks
from airflow_sm_plugin.core.s3 import Presence

MOST_HEADS = 2_000
"""HEADs of one look while no deadline presses; what is left out comes in turn at the next looks."""

_FIRST_EMPTY = 4
_EVERY = 8
_FEW_MISSING = 0.08
_STALLED = 3
_CREDIT_A_PAGE = 0.05
_MOST_CREDIT = 3.0
_RICH = 2.0
_SIGNS = 2
_CANARIES = 2


class Looking:
    """One look in the making: carry out :meth:`next_requests` until there are none, tell the answers, then finish.

    :param now: epoch seconds at which the look began
    :param thorough: ask for everything that is missing, as if every deadline had passed
    """

    def __init__(self, watch: Watch, state: WatchState, *, now: float, thorough: bool = False) -> None:
        self._watch = watch
        self._before = state
        self._shelves = list(state.shelves)
        anew = state.looks % _EVERY == 0  # what was denied or too dear may be neither any more
        if anew:
            self._shelves = [
                replace(one, outputs_one_by_one=False, failures_one_by_one=False) for one in self._shelves
            ]
        self._now = now
        self._thorough = thorough
        self._credit = state.credit
        self._apart = state.failures_apart and not anew
        self._told: set[tuple[int, Which]] = set()
        self._open_heads: dict[tuple[int, Which], int] = {}
        self._forbidden: dict[int, int] = {}
        self._heads_left = MOST_HEADS
        self._output_pages = 0
        self._asked_outputs = self._answered = self._hit = False
        self._sent_canaries = False
        self._due = [number for number in self._in_turn() if self._is_due(number)]

    def _in_turn(self) -> Iterator[int]:
        """Yield the numbers of unfinished shelves, beginning elsewhere at each look."""
        count = len(self._shelves)
        start = self._before.looks * 2 if count > 2 * _EVERY else 0
        for step in range(count):
            number = (start + step) % count
            if self._pending(number):
                yield number

    def _is_due(self, number: int) -> bool:
        state = self._shelves[number]
        if self._before.looks == 0 or state.outputs or state.failures or self._must(number):
            return True
        return number in self._first_empty or (number + self._before.looks) % _EVERY == 0

    @cached_property
    def _first_empty(self) -> frozenset[int]:
        empty = (
            number
            for number, (shelf, state) in enumerate(
                zip(self._watch.shelves, self._before.shelves, strict=True)
            )
            if shelf.wanted and not (state.outputs or state.failures)
        )
        return frozenset(itertools.islice(empty, _FIRST_EMPTY))

    def _pending(self, number: int) -> int:
        return self._shelves[number].pending(self._watch.shelves[number])

    def _must(self, number: int) -> bool:
        """Say whether a verdict is due on the shelf."""
        return self._thorough or bool(past(self._watch.shelves[number], self._pending(number), self._now))

    # What to ask

    def next_requests(self) -> list[Request]:
        """Return what to ask S3 now; nothing when the look is complete. Tell every answer before asking again."""
        return self._output_requests() or self._further_requests() or self._failure_requests()

    def _further_requests(self) -> list[Request]:
        """Return what to ask of the next empty shelves, as many again, where results came to all that was empty."""
        looked_at = [number for number in self._due if self._was_empty(number)]
        if not looked_at or not all(self._shelves[number].outputs for number in looked_at):
            return []
        due = set(self._due)
        further = (
            number
            for number in range(len(self._shelves))
            if number not in due and self._pending(number) and self._was_empty(number)
        )
        self._due += itertools.islice(further, max(_FIRST_EMPTY, len(looked_at)))
        return self._output_requests()

    def _was_empty(self, number: int) -> bool:
        before = self._before.shelves[number]
        return not (before.outputs or before.failures)

    def _output_requests(self) -> list[Request]:
        requests: list[Request] = []
        for number in self._due:
            mask = self._pending(number)
            if not mask or (number, Which.OUTPUTS) in self._told:
                continue
            if self._shelves[number].outputs_one_by_one or is_few(self._watch, number, mask):
                requests += self._heads(number, Which.OUTPUTS, mask)
            else:
                requests.append(listing(self._watch, number, Which.OUTPUTS, mask))
        self._asked_outputs = self._asked_outputs or bool(requests)
        return requests

    def _failure_requests(self) -> list[Request]:
        asked: list[int] = []
        by_head: list[int] = []
        few = self._few_failures()
        for number in self._due:
            if self._watch.shelves[number].failures is None or (number, Which.FAILURES) in self._told:
                continue
            if not self._pending(number):
                continue
            one_by_one = self._shelves[number].failures_one_by_one
            (by_head if one_by_one or number in few else asked).append(number)
        requests: list[Request] = []
        for number in by_head:
            if number in few or self._must(number) or self._before.looks % _EVERY == 0:
                requests += self._heads(number, Which.FAILURES, self._pending(number))
        return requests + self._failure_listings(asked)

    def _few_failures(self) -> frozenset[int]:
        """Return the shelves whose missing failure objects are asked for one by one at every look, as they are few."""
        few = [number for number in self._due if is_few(self._watch, number, self._pending(number))]
        together = sum(self._pending(number).bit_count() for number in few)
        return frozenset(few) if self._apart or len(few) == 1 or together <= HEADS_A_PAGE else frozenset()

    def _failure_listings(self, numbers: Sequence[int]) -> list[Request]:
        pressing = [number for number in numbers if self._must(number)]
        if pressing:
            return self._failure_lists(pressing, most=len(pressing))
        asking = [number for number in numbers if self._asks_for_failures(number)]
        if asking and self._credit >= 1:
            return self._failure_lists(asking, most=int(self._credit))
        if asking and not self._sent_canaries:
            self._sent_canaries = True
            return [
                head(self._watch, number, Which.FAILURES, next(positions_of(self._pending(number))))
                for number in asking[:_CANARIES]
            ]
        return []

    def _asks_for_failures(self, number: int) -> bool:
        """Say whether failures are likely: outputs have come to a halt, or nearly all are there."""
        count = self._watch.shelves[number].names.count
        few_missing = self._pending(number).bit_count() <= _FEW_MISSING * count
        stalled, rich = self._stalled(number), self._credit >= _RICH
        signs = (stalled > 0) + few_missing + rich
        return self._hit or stalled >= _STALLED or signs >= _SIGNS

    def _stalled(self, number: int) -> int:
        before, state = self._before.shelves[number], self._shelves[number]
        if state.outputs_at != self._now:
            return before.stalled
        unchanged = (before.outputs, before.failures) == (state.outputs, state.failures)
        return before.stalled + 1 if unchanged else 0

    def _failure_lists(self, numbers: Sequence[int], *, most: int) -> list[Request]:
        """Return one listing for all shelves of a bucket, from the folder above them, or else some of their own."""
        requests: list[Request] = []
        if not self._apart:
            for together in self._with_one_root():
                if len(together) > 1 and not set(together).isdisjoint(numbers):
                    requests.append(
                        root_listing(self._watch, {number: self._pending(number) for number in together})
                    )
                    numbers = [number for number in numbers if number not in together]
        oldest_first = sorted(numbers, key=lambda number: self._shelves[number].failures_at)
        return requests + [
            listing(self._watch, number, Which.FAILURES, self._pending(number))
            for number in oldest_first[:most]
        ]

    def _with_one_root(self) -> Iterator[list[int]]:
        """Yield groups of unfinished shelves whose failure objects have folders of their own under a common one."""
        buckets: dict[str, list[int]] = {}
        for number, state in enumerate(self._shelves):
            uri = self._watch.shelves[number].failures_uri
            asked = (number, Which.FAILURES) not in self._told and not state.failures_one_by_one
            if (
                uri is not None
                and asked
                and self._pending(number)
                and not self._watch.shelves[number].is_combined
            ):
                buckets.setdefault(uri.bucket, []).append(number)
        for numbers in buckets.values():
            folders = {folder_of(self._watch, number, Which.FAILURES) for number in numbers}
            if len(folders) == len(numbers) and common_folder(folders):
                yield numbers

    def _heads(self, number: int, which: Which, mask: int) -> list[Request]:
        if (number, which) in self._open_heads:
            return []
        positions = list(positions_of(mask))
        if not self._must(number):
            positions = positions[: max(0, self._heads_left)]
            self._heads_left -= len(positions)
        self._open_heads[number, which] = mask
        return [head(self._watch, number, which, position) for position in positions]

    # What was answered

    def saw(self, request: ListRequest, keys: Iterable[str]) -> None:
        """Take in the keys of one page of a listing."""
        folders = {folder_of(self._watch, number, request.which): number for number in request.shelves}
        for folder, seen in _by_folder(keys, folders).items():
            number = folders[folder]
            shelf = self._watch.shelves[number]
            if request.which is Which.OUTPUTS and (outputs := shelf.names.outputs_in(seen)):
                self._change(number, outputs=self._shelves[number].outputs | mask_of(outputs))
            if request.which is Which.FAILURES or shelf.is_combined:
                self._saw_failures(number, mask_of(shelf.names.failures_in(seen)))

    def _saw_failures(self, number: int, mask: int) -> None:
        state = self._shelves[number]
        if mask & ~state.failures & self._watch.shelves[number].wanted:
            self._answered = self._hit = True  # where one failed, others may have
        self._change(number, failures=state.failures | mask)

    def listed(self, request: ListRequest, answer: Presence, *, pages: int, complete: bool) -> None:
        """Take in how a listing ended.

        :param answer: PRESENT when every page came; FORBIDDEN when it may not be listed; UNKNOWN when S3 failed
        :param pages: how many came
        :param complete: whether ``last`` was passed
        """
        outputs = request.which is Which.OUTPUTS
        if outputs:
            self._output_pages += pages
            self._answered = self._answered or pages > 0
        else:
            self._credit -= pages
        one_by_one = answer is Presence.FORBIDDEN or (answer is Presence.PRESENT and not complete)
        for number in request.shelves:
            if answer is Presence.UNKNOWN:
                self._told.add((number, request.which))
            elif not one_by_one:
                self._told_of(number, request.which)
            elif outputs:
                self._change(number, outputs_one_by_one=True)
            elif len(request.shelves) == 1:
                self._change(number, failures_one_by_one=True)
            else:
                self._apart = True

    def _told_of(self, number: int, which: Which) -> None:
        self._told.add((number, which))
        if which is Which.OUTPUTS:
            self._change(number, outputs_at=self._now)
        if which is Which.FAILURES or self._watch.shelves[number].is_combined:
            self._told.add((number, Which.FAILURES))
            self._change(number, failures_at=self._now)

    def headed(self, request: HeadRequest, sight: Presence) -> None:
        """Take in what one HEAD saw."""
        number, bit, which = request.place.shelf, 1 << request.place.position, request.which
        if which is Which.OUTPUTS:
            self._answered = self._answered or sight is not Presence.UNKNOWN
        if sight is Presence.PRESENT and which is Which.OUTPUTS:
            self._change(number, outputs=self._shelves[number].outputs | bit)
        elif sight is Presence.PRESENT:
            self._credit = max(self._credit, 1.0)
            self._saw_failures(number, bit)
        elif sight is Presence.FORBIDDEN:
            self._forbidden[number] = self._forbidden.get(number, 0) | bit
        if sight is not Presence.UNKNOWN and (number, which) in self._open_heads:
            self._open_heads[number, which] &= ~bit

    def finish(self) -> WatchState:
        """Return what is known now."""
        for (number, which), unanswered in self._open_heads.items():
            if not unanswered:
                self._told_one_by_one(number, which)
        for number in self._due:
            self._change(number, forbidden=self._forbidden.get(number, 0), stalled=self._stalled(number))
        failed = self._before.failed
        if self._asked_outputs:
            failed = FailedLooks() if self._answered else failed.one_more()
        credit = min(_MOST_CREDIT, max(self._credit, 0.0) + _CREDIT_A_PAGE * self._output_pages)
        return replace(
            self._before,
            shelves=tuple(self._shelves),
            looks=self._before.looks + 1,
            failed=failed,
            credit=max(credit, 1.0) if self._hit else credit,
            failures_apart=self._apart,
        )

    def _told_one_by_one(self, number: int, which: Which) -> None:
        if which is Which.OUTPUTS:
            self._change(number, outputs_at=self._now)
        else:
            self._change(number, failures_at=self._now)

    def _change(self, number: int, **changes: float | bool) -> None:
        self._shelves[number] = replace(self._shelves[number], **changes)  # type: ignore[arg-type] # names are checked by tests


def _by_folder(keys: Iterable[str], folders: Collection[str]) -> Mapping[str, list[str]]:
    """Return the names in each of the folders; what lies elsewhere is left out."""
    if len(folders) == 1:
        (folder,) = folders
        start = len(folder)
        return {folder: [key[start:] for key in keys if key.startswith(folder)]}
    found: dict[str, list[str]] = {}
    for key in keys:
        folder, slash, name = key.rpartition("/")
        if (inside := folder + slash) in folders:
            found.setdefault(inside, []).append(name)
    return found


HEADS_A_PAGE = 12.5
"""How many HEADs a page of ListObjectsV2 costs."""


class Which(enum.Enum):
    """Outputs or failure objects."""

    OUTPUTS = "outputs"
    FAILURES = "failures"


@dataclass(frozen=True)
class ListRequest:
    """List keys behind ``start_after`` until ``last`` is passed or ``max_pages`` were read."""

    shelves: tuple[int, ...]
    which: Which
    bucket: str
    prefix: str
    start_after: str
    last: str
    max_pages: int


@dataclass(frozen=True)
class HeadRequest:
    """Ask whether one object is there."""

    place: Place
    which: Which
    location: str


Request = ListRequest | HeadRequest


def folder_of(watch: Watch, number: int, which: Which) -> str:
    """Return the folder, inside its bucket, of a shelf's outputs or failure objects."""
    shelf = watch.shelves[number]
    uri = shelf.failures_uri if which is Which.FAILURES else shelf.outputs_uri
    return uri.key if uri else ""


def is_few(watch: Watch, number: int, mask: int) -> bool:
    """Say whether asking for each of these, outputs and failure objects, costs no more than a page."""
    objects = 1 if watch.shelves[number].failures is None else 2
    return mask.bit_count() * objects <= HEADS_A_PAGE


def head(watch: Watch, number: int, which: Which, position: int) -> HeadRequest:
    """Return what asks for one object."""
    shelf = watch.shelves[number]
    location = shelf.output(position) if which is Which.OUTPUTS else shelf.failure(position)
    return HeadRequest(Place(number, position), which, location or shelf.output(position))


def listing(watch: Watch, number: int, which: Which, mask: int) -> ListRequest:
    """Return what lists a shelf from its first missing name to its last, as long as HEADs would not be cheaper."""
    shelf = watch.shelves[number]
    uri = shelf.failures_uri if which is Which.FAILURES and shelf.failures_uri else shelf.outputs_uri
    first, last = _span(watch, number, which, mask)
    if shelf.is_combined:
        also = _span(watch, number, Which.FAILURES, mask)
        first, last = min(first, also[0]), max(last, also[1])
    heads = mask.bit_count() * (2 if shelf.is_combined else 1)
    return ListRequest(
        shelves=(number,),
        which=which,
        bucket=uri.bucket,
        prefix=uri.key,
        # A key without its last character sorts right before it: the listing begins with the first missing name.
        start_after=first[:-1],
        last=last,
        max_pages=max(1, int(heads / HEADS_A_PAGE)),
    )


def root_listing(watch: Watch, masks: Mapping[int, int]) -> ListRequest:
    """Return what lists the failure objects of many shelves of one bucket, from the folder above them.

    :param masks: what is missing, by the shelf's number
    """
    spans = [_span(watch, number, Which.FAILURES, mask) for number, mask in masks.items()]
    uri = next(uri for number in masks if (uri := watch.shelves[number].failures_uri))
    return ListRequest(
        shelves=tuple(masks),
        which=Which.FAILURES,
        bucket=uri.bucket,
        prefix=common_folder(folder_of(watch, number, Which.FAILURES) for number in masks),
        start_after=min(first for first, _ in spans)[:-1],
        last=max(last for _, last in spans),
        max_pages=len(masks) + 1,
    )


def _span(watch: Watch, number: int, which: Which, mask: int) -> tuple[str, str]:
    """Return the first and the last key of what is missing."""
    folder = folder_of(watch, number, which)
    first, last = watch.shelves[number].names.span(mask, failures=which is Which.FAILURES)
    return folder + first, folder + last


def common_folder(folders: Iterable[str]) -> str:
    """Return the deepest folder above all of these, with its slash; empty when it is the bucket itself."""
    texts = sorted(folders)
    first, last = texts[0], texts[-1]
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first[: first.rfind("/", 0, same) + 1]
