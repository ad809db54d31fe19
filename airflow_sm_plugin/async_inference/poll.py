"""One poll of S3 for awaited results: the requests to send, and the meaning of their answers.

A page of ListObjectsV2 costs as much as 12.5 HEADs and shows a thousand results. Therefore

- outputs are listed from the first missing name on; keys between two folders with missing names are skipped;
- failure objects are listed when no new outputs come, at every Nth poll, and when a deadline has passed;
- each result is asked for by a HEAD where at most 12 are missing, where listing is denied, or where so many other
  objects are listed among the results that pages cost more than HEADs;
- a result times out only when S3 has answered for its output and its failure object after its deadline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from airflow_sm_plugin.async_inference.watch import (
    AwaitedResults,
    ObjectKind,
    ResultPosition,
    mask_of,
    positions_of,
)
from airflow_sm_plugin.async_inference.watch_state import FolderState, WatchState, past
from airflow_sm_plugin.core.failed_polls import FailedPolls
from airflow_sm_plugin.core.s3 import Presence

HEADS_A_PAGE = 12.5
"""HEADs for the price of a page of ListObjectsV2: $0.0004 and $0.005 per thousand."""

MOST_HEADS = 2_000
"""HEADs of one poll while no deadline has passed: eight at a time, at 100 ms each, they take 25 of the usual 30 seconds
between two polls. The next polls begin with other folders."""

_FOLDERS_PER_FAILURE_PAGE = 24
"""Failure objects of a folder are listed at every 24th poll of it. With one page for outputs at each poll, that is 25
pages for 24 polls, 1.04 pages a poll; the limit of the price benchmark is 1.05."""

_STALLED_EVERY = 8
"""While no new results come, failures are likely: they are listed at least at every eighth poll, so every four minutes
with the usual 30 seconds between polls."""

_FIRST_STALLED = (1, 2, 4)
"""Failure objects are also listed after one, two and four polls in a row without a new result: when all outputs have
come, the results still missing are failures."""

_RETRY_LISTING_EVERY = 8
"""A denied listing is tried again at every eighth poll: credentials or a policy may have been mended."""


@dataclass(frozen=True)
class ListRequest:
    """List the keys of some folders below *prefix*, at most ``max_pages``.

    :param spans: for each folder the first and the last key that is missing
    """

    folders: tuple[int, ...]
    kind: ObjectKind
    bucket: str
    prefix: str
    spans: tuple[tuple[str, str], ...]
    max_pages: int

    def next_start(self, key: str = "") -> str | None:
        """Skip keys between the spans: find the ``StartAfter`` of the page after *key*; None behind the last span."""
        # StartAfter excludes its key: a key without its last character sorts before it, and before few others.
        return min((max(first[:-1], key) for first, last in self.spans if last > key), default=None)


@dataclass(frozen=True)
class HeadRequest:
    """Ask whether one object exists."""

    result: ResultPosition
    kind: ObjectKind
    location: str


Request = ListRequest | HeadRequest


class Poll:
    """One poll in progress: carry out :meth:`next_requests` until there are none, report the answers, then finish.

    :param now: epoch seconds at which the poll began
    :param thorough: ask for everything that is missing, as if every deadline had passed
    """

    def __init__(
        self, watch: AwaitedResults, state: WatchState, *, now: float, thorough: bool = False
    ) -> None:
        self._watch = watch
        self._before = state
        self._now = now
        self._thorough = thorough
        self._folders = [self._fresh(folder) for folder in state.folders]
        self._asked: set[tuple[int, ObjectKind]] = set()
        self._unanswered_heads: dict[tuple[int, ObjectKind], int] = {}
        self._heads_left = MOST_HEADS
        self._asked_outputs = self._answered = self._progress = False

    def _fresh(self, folder: FolderState) -> FolderState:
        if self._before.polls % _RETRY_LISTING_EVERY == 0:
            return replace(folder, forbidden=0, outputs_by_head=False, failures_by_head=False)
        return replace(folder, forbidden=0) if folder.forbidden else folder

    def next_requests(self) -> list[Request]:
        """List the requests to send now; none when the poll is complete. Report every answer before the next call."""
        if requests := self._output_requests():
            self._asked_outputs = True
            return requests
        return self._failure_requests()

    def _output_requests(self) -> list[Request]:
        requests: list[Request] = []
        for group in self._next_groups(ObjectKind.OUTPUTS):
            by_head = {
                folder_index
                for folder_index, mask in group.items()
                if self._folders[folder_index].outputs_by_head or mask.bit_count() <= HEADS_A_PAGE
            }
            requests += self._ask(group, ObjectKind.OUTPUTS, by_head)
        return requests

    def _failure_requests(self) -> list[Request]:
        requests: list[Request] = []
        groups = self._next_groups(ObjectKind.FAILURES)
        # A few HEADs are sent at every poll, for outputs and failure objects together at the price of a page.
        few = 2 * sum(map(_count, groups)) <= HEADS_A_PAGE
        for group in groups:
            if few or self._failures_due(group):
                all_by_head = _count(group) <= HEADS_A_PAGE
                by_head = {
                    folder_index
                    for folder_index in group
                    if all_by_head or self._folders[folder_index].failures_by_head
                }
                requests += self._ask(group, ObjectKind.FAILURES, by_head)
        return requests

    def _next_groups(self, kind: ObjectKind) -> list[dict[int, int]]:
        """Find the missing results of the folders not requested yet, as masks, grouped by the folder above them."""
        groups: dict[tuple[str, str], dict[int, int]] = {}
        count = len(self._folders)
        for step in range(count):
            # Each poll begins two folders further: MOST_HEADS are enough for two folders of a thousand results.
            folder_index = (2 * self._before.polls + step) % count
            folder = self._watch.folders[folder_index]
            uri = folder.uri(kind)
            if uri is None or (folder_index, kind) in self._asked:
                continue
            if mask := self._folders[folder_index].pending(folder):
                groups.setdefault((uri.bucket, _parent(uri.key)), {})[folder_index] = mask
                self._asked.add((folder_index, kind))
        return list(groups.values())

    def _failures_due(self, group: Mapping[int, int]) -> bool:
        if any(self._is_pressing(folder_index, mask) for folder_index, mask in group.items()):
            return True
        every = max(1, _FOLDERS_PER_FAILURE_PAGE // len(group))
        if self._stalled:
            every = min(every, _STALLED_EVERY)
        return self._stalled in _FIRST_STALLED or self._before.polls % every == 0

    @property
    def _stalled(self) -> int:
        return 0 if self._progress else self._before.stalled + 1

    def _is_pressing(self, folder_index: int, mask: int) -> bool:
        """Decide whether the folder needs a full answer whatever it costs, since a deadline has passed."""
        return self._thorough or bool(past(self._watch.folders[folder_index], mask, self._now))

    def _ask(self, group: Mapping[int, int], kind: ObjectKind, by_head: Collection[int]) -> list[Request]:
        listed = {folder_index: mask for folder_index, mask in group.items() if folder_index not in by_head}
        requests: list[Request] = [self._listing(listed, kind)] if listed else []
        for folder_index in group:
            if folder_index in by_head:
                requests += self._heads(folder_index, kind, group[folder_index])
        return requests

    def _listing(self, group: Mapping[int, int], kind: ObjectKind) -> ListRequest:
        folders = [(self._watch.folders[folder_index], mask) for folder_index, mask in group.items()]
        uris = [uri for folder, _ in folders if (uri := folder.uri(kind))]
        heads = sum(mask.bit_count() * (2 if folder.is_combined else 1) for folder, mask in folders)
        # More pages than these would cost more than a HEAD for each missing result.
        return ListRequest(
            folders=tuple(group),
            kind=kind,
            bucket=uris[0].bucket,
            prefix=uris[0].key if len({uri.key for uri in uris}) == 1 else _parent(uris[0].key),
            spans=tuple(folder.span(mask, kind) for folder, mask in folders),
            max_pages=max(1, int(heads / HEADS_A_PAGE)),
        )

    def _heads(self, folder_index: int, kind: ObjectKind, mask: int) -> Iterator[Request]:
        self._unanswered_heads[folder_index, kind] = mask
        positions = list(positions_of(mask))
        if not self._is_pressing(folder_index, mask):
            positions = positions[: self._heads_left]
            self._heads_left -= len(positions)
        folder = self._watch.folders[folder_index]
        for position in positions:
            location = (
                folder.output(position) if kind is ObjectKind.OUTPUTS else str(folder.failure(position))
            )
            yield HeadRequest(ResultPosition(folder_index, position), kind, location)

    def report_page(self, request: ListRequest, keys: list[str]) -> None:
        self._answered |= request.kind is ObjectKind.OUTPUTS
        if not keys:
            return
        by_folder: dict[str, list[str]] = {}
        for key in keys:
            parent, slash, name = key.rpartition("/")
            by_folder.setdefault(parent + slash, []).append(name)
        for folder_index, (first, last) in zip(request.folders, request.spans, strict=True):
            if last < keys[0] or keys[-1] < first:
                continue
            names = by_folder.get(first[: first.rfind("/") + 1], [])
            folder = self._watch.folders[folder_index]
            for kind in folder.kinds_shown_with(request.kind):
                self._add(folder_index, kind, mask_of(folder.names.positions(names, kind)))

    def report_listing(self, request: ListRequest, answer: Presence, *, next_start: str | None) -> None:
        """Report the end of a listing.

        :param answer: PRESENT when every page came; FORBIDDEN when listing is not permitted; UNKNOWN when S3 failed
        :param next_start: ``StartAfter`` of the first page beyond ``max_pages``; None when all pages were listed
        """
        for folder_index, (_, last) in zip(request.folders, request.spans, strict=True):
            for kind in self._watch.folders[folder_index].kinds_shown_with(request.kind):
                if next_start is None or last <= next_start:
                    self._asked.add((folder_index, kind))
                    self._set(folder_index, f"{kind.value}_at", self._now)
                elif answer is not Presence.UNKNOWN:
                    self._asked.discard((folder_index, kind))
                    self._set(folder_index, f"{kind.value}_by_head", value=True)

    def _add(self, folder_index: int, kind: ObjectKind, mask: int) -> None:
        state = self._folders[folder_index]
        if mask & state.missing(self._watch.folders[folder_index]):
            self._answered = self._progress = True
        present: int = getattr(state, kind.value)
        self._set(folder_index, kind.value, present | mask)

    def report_head(self, request: HeadRequest, answer: Presence) -> None:
        folder_index, bit = request.result.folder, 1 << request.result.position
        if answer is Presence.UNKNOWN:
            return
        self._answered |= request.kind is ObjectKind.OUTPUTS
        self._unanswered_heads[folder_index, request.kind] &= ~bit
        if answer is Presence.PRESENT:
            self._add(folder_index, request.kind, bit)
        elif answer is Presence.FORBIDDEN:
            self._set(folder_index, "forbidden", self._folders[folder_index].forbidden | bit)

    def _set(self, folder_index: int, name: str, value: float) -> None:
        self._folders[folder_index] = replace(self._folders[folder_index], **{name: value})  # type: ignore[arg-type] # tests check the names

    def finish(self) -> WatchState:
        for (folder_index, kind), unanswered in self._unanswered_heads.items():
            if not unanswered:
                self._set(folder_index, f"{kind.value}_at", self._now)
        failed = self._before.failed
        if self._asked_outputs:
            failed = FailedPolls() if self._answered else failed.one_more()
        return WatchState(
            folders=tuple(self._folders),
            polls=self._before.polls + 1,
            failed=failed,
            stalled=self._stalled if self._answered else self._before.stalled,
        )


def _count(group: Mapping[int, int]) -> int:
    return sum(mask.bit_count() for mask in group.values())


def _parent(folder: str) -> str:
    """Name the folder above, with its slash; for a folder at the top of its bucket the folder itself."""
    return folder[: folder.rfind("/", 0, -1) + 1] or folder
