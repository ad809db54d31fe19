"""Filters, order and pages of the List operations, the same for every kind of resource."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence

from airflow_sm_plugin.local.account.state import Record
from airflow_sm_plugin.local.protocol.errors import ValidationFailure

_PAGE = 10
"""Entries of a page without MaxResults."""


def listed(
    result: str, records: Iterable[Record], params: Mapping[str, object], *, kind: str, members: str
) -> Record:
    """Build the output of a List operation: a page of summaries under *result*, and NextToken when more follow.

    :param kind: the prefix of the records' keys: ``<kind>Name``, ``<kind>Status``
    :param members: keys of a summary, separated by blanks
    """
    chosen = [record for record in records if _matches(record, params, kind)]
    chosen.sort(key=_order(params, kind), reverse=params.get("SortOrder", "Descending") == "Descending")
    page, token = page_of(chosen, params)
    names = members.split()
    entries = [{name: record[name] for name in names if record.get(name) is not None} for record in page]
    return {result: entries, **({"NextToken": token} if token else {})}


def page_of(chosen: Sequence[Record], params: Mapping[str, object]) -> tuple[Sequence[Record], str | None]:
    """Cut out the page of NextToken and MaxResults; return it and the token of the next."""
    start = _start(params.get("NextToken"))
    end = start + int(str(params.get("MaxResults") or _PAGE))
    return chosen[start:end], str(end) if end < len(chosen) else None


def _matches(record: Record, params: Mapping[str, object], kind: str) -> bool:
    part = params.get("NameContains")
    status = params.get("StatusEquals")
    if part is not None and str(part).lower() not in str(record[f"{kind}Name"]).lower():
        return False
    if status is not None and record.get(f"{kind}Status") != status:
        return False
    return all(
        _in_time(record.get(moment), params.get(f"{moment}After"), params.get(f"{moment}Before"))
        for moment in ("CreationTime", "LastModifiedTime")
    )


def _in_time(moment: datetime.datetime | None, after: object, before: object) -> bool:
    if moment is None:
        return True
    seconds = moment.timestamp()
    return (after is None or seconds > float(str(after))) and (before is None or seconds < float(str(before)))


def _order(params: Mapping[str, object], kind: str) -> Callable[[Record], tuple[object, str]]:
    by = str(params.get("SortBy") or "CreationTime")
    key = by if by.endswith("Time") else f"{kind}{by}"
    return lambda record: (record[key], record[f"{kind}Name"])


def _start(token: object) -> int:
    if token is None:
        return 0
    if not str(token).isdigit():
        raise ValidationFailure("Invalid NextToken.")
    return int(str(token))
