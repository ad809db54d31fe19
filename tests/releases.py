"""Let go of what a test holds once it was seen, however long that takes: a wait of so many seconds proves less."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

from tests.endpoint_trials import call_log
from tests.support import Account

__all__ = ["calls_from_now", "described_times", "once"]

_PAUSE = 0.05


@contextmanager
def once(is_so: Callable[[], bool], then: Callable[[], object]) -> Iterator[None]:
    """Call ``then`` in a thread of its own, while the block runs, as soon as something is so: it must come to that.

    What either of them raises is raised when the block has ended; where ``is_so`` does, ``then`` is called all the
    same, or the block might wait for ever.
    """
    over = threading.Event()

    def comes_to_it() -> bool:
        while not over.is_set():
            if is_so():
                return True
            over.wait(_PAUSE)
        return False

    def watch() -> bool:
        try:
            seen = comes_to_it()
        except BaseException:
            then()
            raise
        if seen:
            then()
        return seen

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
            seen = watching.result()
    assert seen, "the block ended before that was so"


def calls_from_now(account: Account, operation: str, resource: str) -> Callable[[], list[dict[str, Any]]]:
    """Return what tells the calls of an operation about a resource, both of them globs, that have ended since now."""
    since = call_log(account, operation="-")["sequence"]

    def calls() -> list[dict[str, Any]]:
        log = call_log(account, since=since, service="*", operation=operation, resource=resource)
        return cast("list[dict[str, Any]]", log["calls"])

    return calls


def described_times(account: Account, endpoint: str, times: int) -> Callable[[], bool]:
    """Return what says whether an endpoint has been described so often since now."""
    polls = calls_from_now(account, "DescribeEndpoint", endpoint)
    return lambda: len(polls()) >= times
