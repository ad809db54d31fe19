"""The records of the embedded SageMaker: by region, kind and name. A reset drops them."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID, AwsClients
from airflow_sm_plugin.local.account.calls import CallLog
from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.faults.faults import FaultPlan
from airflow_sm_plugin.local.faults.outcomes import Outcomes
from airflow_sm_plugin.local.iam.access_keys import AccessPolicies

log = logging.getLogger(__name__)

_SETTINGS_POLL_SECONDS = 0.05
"""How often a wait reads the setting that is its length."""

Record = dict[str, Any]
"""A record as Describe answers it; keys that begin with ``_`` are internal, and not answered."""


class Region:
    """One region's records and background threads. Every access to the records holds ``lock``."""

    def __init__(self, name: str, account: Account) -> None:
        self.name = name
        self.aws = account.aws
        self.settings = account.settings
        self.outcomes = account.outcomes
        self.training_cache = account.training_cache
        self.lock = threading.RLock()
        self.closed = threading.Event()
        self._tables: dict[str, dict[str, Record]] = {}
        self._threads: set[threading.Thread] = set()
        self._at_close: dict[object, Callable[[], None]] = {}

    @contextmanager
    def table(self, kind: str) -> Iterator[dict[str, Record]]:
        """Lend the records of one kind, by name, while the region's lock is held."""
        with self.lock:
            yield self._tables.setdefault(kind, {})

    def with_arn(self, arn: str) -> Record | None:
        return self.by_arn().get(arn)

    def by_arn(self) -> dict[str, Record]:
        """Map every resource's ARN to its record, the oldest of a kind first."""
        with self.lock:
            return {
                value: record
                for kind, table in self._tables.items()
                for record in table.values()
                for key, value in record.items()
                if key.lower() == f"{kind.replace('-', '')}arn"
            }

    def arn(self, kind: str, name: str) -> str:
        """Build a resource's ARN. SageMaker lower-cases the name."""
        return f"arn:aws:sagemaker:{self.name}:{ACCOUNT_ID}:{kind}/{name.lower()}"

    def in_background(self, name: str, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread of its own. It must end soon after ``closed`` is set."""

        def run() -> None:
            try:
                work()
            except Exception:
                if not self.closed.is_set():
                    log.exception("background work failed: %s", name)
            finally:
                with self.lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self.lock:
            self._threads.add(thread)
        thread.start()

    def wait(self, seconds: Callable[[], float], *, since: float | None = None) -> None:
        """Wait for so long, or until the region closes.

        :param seconds: called again and again, so that a change of the settings holds for waits that have begun
        :param since: monotonic time; None is now
        """
        since = time.monotonic() if since is None else since
        while (left := since + seconds() - time.monotonic()) > 0:
            if self.closed.wait(min(left, _SETTINGS_POLL_SECONDS)):
                return

    def at_close(self, release: Callable[[], None]) -> Callable[[], None]:
        """Call ``release`` when the region closes (reset or shutdown); the returned function cancels that."""
        key = object()
        with self.lock:
            self._at_close[key] = release

        def revoke() -> None:
            with self.lock:
                self._at_close.pop(key, None)

        return revoke

    def close(self) -> None:
        self.closed.set()
        with self.lock:
            releases, threads = list(self._at_close.values()), list(self._threads)
        for release in releases:
            release()
        for thread in threads:
            thread.join(timeout=10)


class Account:
    """The regions of the one account, created when first used, and the state that they share.

    :param public_url: the address under which a browser reaches the service; empty where it is that of its clients
    """

    def __init__(
        self, aws: AwsClients, settings: Settings, training_cache: Path | None, *, public_url: str = ""
    ) -> None:
        self.aws = aws
        self.settings = settings
        self.training_cache = training_cache
        self.public_url = public_url
        self.faults = FaultPlan()
        self.calls = CallLog()
        self.outcomes = Outcomes()
        self.policies = AccessPolicies()
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}

    def region(self, name: str) -> Region:
        with self._lock:
            if name not in self._regions:
                self._regions[name] = Region(name, self)
            return self._regions[name]

    def regions(self) -> list[Region]:
        with self._lock:
            return list(self._regions.values())

    def reset(self) -> None:
        """Drop records, fault plan, outcomes, policies and call log, and stop all background work; settings stay."""
        self.faults.clear()
        self.calls.clear()
        self.outcomes.clear()
        self.policies.clear()
        with self._lock:
            regions, self._regions = list(self._regions.values()), {}
        for region in regions:
            region.close()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def public(record: Mapping[str, Any]) -> Record:
    """Convert a record to Describe's answer: without internal and unset keys."""
    return {key: value for key, value in record.items() if not key.startswith("_") and value is not None}
