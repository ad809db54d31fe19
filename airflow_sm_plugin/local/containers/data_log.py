"""The data log that SageMaker keeps beside a container's own: what became of the requests."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from airflow_sm_plugin.local.account.state import Region, now
from airflow_sm_plugin.local.containers.container_logs import LogShipper
from airflow_sm_plugin.local.containers.containers import LogTarget

_STORE_SECONDS = 5.0


class DataLog:
    """Takes lines from any thread; a context manager that has stored them all when it ends.

    :param beside: where the instance's containers log
    """

    def __init__(self, region: Region, beside: LogTarget) -> None:
        target = LogTarget(beside.group, f"{beside.stream}/data-log")
        reading, writing = os.pipe()
        self._shipper = LogShipper(region, target, os.fdopen(reading, "rb"))
        self._writer = os.fdopen(writing, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        self._lock = threading.Lock()

    def say(self, text: str, *, about: str = "") -> None:
        """Write each line of ``text`` with the time, and the inference id it is ``about``, as the service does."""
        moment = now()
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}"
        source = f"[sagemaker logs] [{about}]" if about else "[sagemaker logs]:"
        with self._lock:
            for line in text.splitlines() or [""]:
                self._writer.write(f"{stamp}:{source} {line}\n")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store what is left, for at most a few seconds."""
        self._writer.close()
        self._shipper.finish(_STORE_SECONDS)
