"""A value that is expensive to compute: kept for a while, computed in one background thread, shown with its age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from airflow_sm_plugin._log import get_log

log = get_log(__name__)

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Aged(Generic[_Value]):
    """A value, the seconds since its computation began, and whether a newer one is being computed."""

    value: _Value
    seconds: float
    refreshing: bool


class BackgroundCache(Generic[_Value]):
    """Computes in one thread at a time, whoever asks.

    :param compute: must end by itself; what it raises is logged, and the earlier value stays
    :param fresh_seconds: a younger value is not computed again
    :param patience: the longest that :meth:`get` waits for a value that is older, or for the first one
    """

    def __init__(self, compute: Callable[[], _Value], *, fresh_seconds: float, patience: float) -> None:
        self._compute = compute
        self._fresh_seconds = fresh_seconds
        self._patience = patience
        self._lock = threading.Lock()
        self._latest: tuple[float, _Value] | None = None
        self._running: threading.Thread | None = None

    def get(self) -> Aged[_Value] | None:
        """Return the latest value; None while there is none."""
        with self._lock:
            if self._is_fresh():
                return self._aged()
            if self._running is None:
                self._running = threading.Thread(
                    target=self._refresh, name="sagemaker-endpoints", daemon=True
                )
                self._running.start()
            running = self._running
        running.join(self._patience)
        with self._lock:
            return self._aged()

    def _is_fresh(self) -> bool:
        return self._latest is not None and time.monotonic() - self._latest[0] < self._fresh_seconds

    def _aged(self) -> Aged[_Value] | None:
        if self._latest is None:
            return None
        began, value = self._latest
        return Aged(value, time.monotonic() - began, self._running is not None)

    def _refresh(self) -> None:
        began = time.monotonic()
        computed: tuple[float, _Value] | None = None
        try:
            computed = (began, self._compute())
        except Exception as error:  # noqa: BLE001 - the page shows what it had
            log.warning("the page of SageMaker endpoints could not be refreshed: %s", error)
        finally:
            with self._lock:
                self._latest = computed or self._latest
                self._running = None
