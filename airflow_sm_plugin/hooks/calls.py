"""Shared parts of the hooks: client, pages of listings, missing resources, repeats of transient refusals."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, cast

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.errors import meaning, translated
from airflow_sm_plugin.aws.hook import AwsHook
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import ServiceUnavailable

log = get_log(__name__)

MOST_PAGES = 1_000
"""Ten thousand entries at ten on a page. At ten pages a second an endless listing ends after two minutes."""
CONSISTENCY_SECONDS = 30.0
"""Seconds for which a call may not see a resource that was created just before."""
CONSISTENCY_PAUSE = 2.0
"""Seconds between such calls: at most fifteen repeats. Shorter, more calls are sent in vain; longer, the task waits so
much longer for a resource that is visible already."""

_Result = TypeVar("_Result")


class ClientHook(AwsHook):
    """A hook for one of boto3's clients. Takes the arguments of the provider's ``AwsBaseHook``."""

    service: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = self.service
        super().__init__(*args, **kwargs)


class _Paginates(Protocol):
    """A boto3 client."""

    def get_paginator(self, operation_name: Any) -> Any:  # noqa: ANN401 - each client's stub has its own overloads
        """Make a paginator; its ``paginate`` sends the requests."""


def pages_of(client: _Paginates, operation: str, **request: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - the paginator's
    """Yield the pages of a listing, as botocore's paginator does.

    :param operation: the client's method, such as ``list_tags``
    :raises ServiceUnavailable: more than :data:`MOST_PAGES` pages
    """
    pages = client.get_paginator(operation).paginate(**request)
    for number, page in enumerate(pages):
        if number == MOST_PAGES:
            raise ServiceUnavailable(
                f"{operation} gave {MOST_PAGES} pages and promises more: the service, or a proxy that answers instead, "
                f"finds no end. Check the endpoint URL and proxies; a later retry may fare better"
            )
        yield cast("Mapping[str, Any]", page)


def is_not_found(error: ClientError) -> bool:
    return meaning(error) is Meaning.NOT_FOUND


def found(doing: str, call: Callable[[], object]) -> Mapping[str, Any] | None:
    """Make a Describe call; return None when the resource does not exist.

    :param doing: the call and its object, for errors, as in :func:`~airflow_sm_plugin.aws.errors.translated`
    """
    with translated(doing):
        try:
            return cast("Mapping[str, Any]", call())
        except ClientError as error:
            if is_not_found(error):
                return None
            raise


def removed(
    doing: str, call: Callable[[], object], *, is_missing: Callable[[ClientError], bool] = is_not_found
) -> bool:
    """Make a Delete call; return whether the resource existed.

    :param doing: as for :func:`found`
    :param is_missing: recognizes the error of a missing resource
    """
    with translated(doing):
        try:
            call()
        except ClientError as error:
            if is_missing(error):
                return False
            raise
    return True


def repeated(
    call: Callable[[], _Result], *, attempts: int, passes: Callable[[ClientError], bool], reason: str
) -> _Result:
    """Make a call up to *attempts* times, with backoff, while it is refused for a transient reason.

    :param passes: recognizes such a refusal
    :param reason: cause of the refusal, for the log
    """
    for attempt in range(1, attempts):
        try:
            return call()
        except ClientError as error:
            if not passes(error):
                raise
            log.info("%s: attempt %d of %d", reason, attempt, attempts)
        time.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter
    return call()


def until_visible(
    call: Callable[[], _Result],
    *,
    is_missing: Callable[[ClientError], bool],
    before_retry: Callable[[], object] | None = None,
) -> _Result:
    """Repeat a call for up to 30 s while AWS does not see a resource that was created just before.

    :param is_missing: recognizes the error of a resource that is not visible
    :param before_retry: called after each pause
    """
    give_up = time.monotonic() + CONSISTENCY_SECONDS
    while True:
        try:
            return call()
        except ClientError as error:
            if not is_missing(error) or time.monotonic() >= give_up:
                raise
        time.sleep(CONSISTENCY_PAUSE)
        if before_retry is not None:
            before_retry()
