"""Send a container's output to CloudWatch Logs: in order, in batches, without delaying the container.

SageMaker writes a data log beside the container's log, with the outcome of each request.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Self

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.state import Region, now
from airflow_sm_plugin.local.containers.containers import LogTarget

if TYPE_CHECKING:
    from mypy_boto3_logs.type_defs import InputLogEventTypeDef

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.2
"""Seconds for which lines are gathered into one PutLogEvents. A line reaches CloudWatch that much later."""
_BATCH_LINES = 1000
"""Lines a call, a tenth of CloudWatch's limit: one batch keeps the in-process CloudWatch busy for a short time only."""
_BATCH_BYTES = 1_000_000
"""CloudWatch takes 1,048,576 bytes and 10,000 events a call."""
_LINE_CHARACTERS = 65_000
"""At four bytes a character, this is below CloudWatch's 262,144 bytes an event."""
_WAITING_LINES = 100_000
"""Lines kept while CloudWatch is slower than the container; older ones are dropped and counted."""

_STORE_SECONDS = 5.0
"""Seconds for the last lines at a container's end; what is not stored by then is lost."""


class LogShipper:
    """Sends the lines of ``output`` until its end; ``finish`` waits for that."""

    def __init__(self, region: Region, target: LogTarget, output: IO[bytes]) -> None:
        self._region = region
        self._target = target
        self._output = output
        self._lines: deque[InputLogEventTypeDef] = deque(maxlen=_WAITING_LINES)
        self._dropped = 0
        self._has_lines = threading.Event()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"read {target.stream}", daemon=True)
        self._sender = threading.Thread(target=self._send, name=f"log {target.stream}", daemon=True)
        self._reader.start()
        self._sender.start()

    def finish(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._reader.join(timeout)
        self._sender.join(max(deadline - time.monotonic(), 0.1))

    def _read(self) -> None:
        with self._output:
            for raw in self._output:
                line = raw.decode(errors="replace").rstrip()[:_LINE_CHARACTERS]
                if not line:  # CloudWatch refuses empty events
                    continue
                self._dropped += len(self._lines) == _WAITING_LINES
                self._lines.append({"timestamp": int(time.time() * 1000), "message": line})
                self._has_lines.set()
        self._ended.set()
        self._has_lines.set()

    def _send(self) -> None:
        while True:
            self._has_lines.wait()
            self._ended.wait(_BATCH_SECONDS)
            self._has_lines.clear()
            is_last = self._ended.is_set()
            while self._lines:
                _put(self._region, self._target, self._batch())
            if is_last:
                return

    def _batch(self) -> list[InputLogEventTypeDef]:
        batch: list[InputLogEventTypeDef] = []
        size = 0
        if self._dropped:
            message = f"{self._dropped} lines dropped: written faster than they could be stored"
            batch.append({"timestamp": int(time.time() * 1000), "message": message})
            self._dropped = 0
        while self._lines and len(batch) < _BATCH_LINES:
            size += len(self._lines[0]["message"].encode()) + 26
            if size > _BATCH_BYTES:
                break
            batch.append(self._lines.popleft())
        return batch


def announce(region: Region, target: LogTarget, message: str) -> None:
    """Store a first line in a container's log, so that the log group exists before the endpoint is in service."""
    _put(region, target, [{"timestamp": int(time.time() * 1000), "message": message}])


def _put(region: Region, target: LogTarget, events: list[InputLogEventTypeDef]) -> None:
    """Store a batch. Lines that CloudWatch refuses are lost; serving goes on."""
    logs = region.aws.logs(region.name)
    group, stream = target.group, target.stream
    try:
        try:
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
        except logs.exceptions.ResourceNotFoundException:
            _make_stream(region, target)
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    except (BotoCoreError, ClientError) as error:
        log.warning("%s %s: %d log lines lost: %s", group, stream, len(events), type(error).__name__)


def _make_stream(region: Region, target: LogTarget) -> None:
    logs = region.aws.logs(region.name)
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=target.group)
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(logGroupName=target.group, logStreamName=target.stream)


class DataLog:
    """The data log of an instance, *beside* its containers' log. Thread-safe; at its end, the lines are stored."""

    def __init__(self, region: Region, beside: LogTarget) -> None:
        target = LogTarget(beside.group, f"{beside.stream}/data-log")
        reading, writing = os.pipe()
        self._shipper = LogShipper(region, target, os.fdopen(reading, "rb"))
        self._writer = os.fdopen(writing, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        self._lock = threading.Lock()

    def write(self, text: str, *, about: str = "") -> None:
        """Write each line of ``text`` with the time and an inference id, ``about``, as the service does."""
        moment = now()
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}"
        source = f"[sagemaker logs] [{about}]" if about else "[sagemaker logs]:"
        with self._lock:
            for line in text.splitlines() or [""]:
                self._writer.write(f"{stamp}:{source} {line}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._shipper.finish(_STORE_SECONDS)
