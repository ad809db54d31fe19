"""Read the pages of a listing, of which no service is believed to have endlessly many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from airflow_sm_plugin.exceptions import ServiceUnavailable

MOST_PAGES = 1_000
"""Ten thousand entries, even at ten on a page. At ten pages a second an endless listing ends after two minutes."""


class _Paginates(Protocol):
    """A client of boto3's."""

    def get_paginator(self, operation_name: Any) -> Any:  # noqa: ANN401 - each client's stub has its own overloads
        """Return a paginator."""


def pages_of(client: _Paginates, operation: str, **request: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - the paginator's
    """Yield the pages of a listing, as botocore's paginator does.

    :param operation: the client's method, such as ``list_tags``
    :raises ServiceUnavailable: there is no end of them: each answer promises another page
    """
    pages = client.get_paginator(operation).paginate(**request)
    for number, page in enumerate(pages):
        if number == MOST_PAGES:
            raise ServiceUnavailable(
                f"{operation} gave {MOST_PAGES} pages and promises more: the service, or what answers in its place, "
                f"finds no end. Check the endpoint URL and proxies; a later retry may fare better"
            )
        yield cast("Mapping[str, Any]", page)
