"""What a look at a watch may ask S3: a listing or a HEAD, as values."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_sm_plugin.async_inference.watch import Place, Watch

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
