"""Data capture of endpoints: requests and answers as JSON Lines in S3, in the format that Model Monitor reads.

Format and keys: Developer Guide, "Capture data from real-time endpoint". Only successful invocations are captured.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import logging
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.containers.containers import ContainerInput, ContainerReply

log = logging.getLogger(__name__)

_MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Of lines not written yet. Beyond it, invocations go uncaptured, as in SageMaker when an instance's disk fills."""


@dataclass(frozen=True)
class CaptureConfig:
    """An enabled DataCaptureConfig.

    :param modes: ``Input``, ``Output`` or both
    :param encodings: CSV or JSON by content type; others are captured in Base64
    """

    destination: Location
    percentage: float
    modes: frozenset[str]
    encodings: Mapping[str, str]
    kms_key_id: str | None

    @classmethod
    def of(cls, config: Record) -> CaptureConfig | None:
        """Read an endpoint configuration; None when it enables no data capture."""
        capture: Record = config.get("DataCaptureConfig") or {}
        if not is_enabled(capture):
            return None
        modes = {option["CaptureMode"] for option in capture["CaptureOptions"]}
        types = capture.get("CaptureContentTypeHeader", {})
        return cls(
            destination=Location.parse(capture["DestinationS3Uri"]),
            percentage=float(capture["InitialSamplingPercentage"]),
            modes=frozenset({"Input", "Output"} if "InputAndOutput" in modes else modes),
            encodings={
                **{_media_type(kind): "CSV" for kind in types.get("CsvContentTypes", ())},
                **{_media_type(kind): "JSON" for kind in types.get("JsonContentTypes", ())},
            },
            kms_key_id=capture.get("KmsKeyId"),
        )


def is_enabled(capture: Record) -> bool:
    """Detect an enabled DataCaptureConfig. Without EnableCapture it is enabled (API reference)."""
    return bool(capture) and bool(capture.get("EnableCapture", True))


def captured(
    config: CaptureConfig,
    payload: ContainerInput,
    reply: ContainerReply,
    *,
    inference_id: str | None,
    moment: datetime.datetime,
) -> bytes:
    data: dict[str, object] = {}
    if "Input" in config.modes:
        data["endpointInput"] = _part(config, "INPUT", payload.body, payload.content_type)
    if "Output" in config.modes:
        data["endpointOutput"] = _part(config, "OUTPUT", reply.body, reply.content_type)
    metadata = {
        "eventId": str(uuid.uuid4()),
        **({"customAttributes": [payload.custom_attributes]} if payload.custom_attributes else {}),
        **({"inferenceId": inference_id} if inference_id else {}),
        "inferenceTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    }
    line = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


class DataCapture:
    """Captures an endpoint's invocations. Thread-safe; it neither delays nor fails an invocation.

    Lines wait in memory for ``data_capture_seconds``; then all lines of a variant and an hour become one object.
    """

    def __init__(self, region: Region, endpoint: str, config: CaptureConfig) -> None:
        self._region = region
        self._endpoint = endpoint
        self._config = config
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[bytes]] = defaultdict(list)
        self._size = 0
        self._is_scheduled = False

    def capture(
        self, variant: str, payload: ContainerInput, reply: ContainerReply, *, inference_id: str | None
    ) -> None:
        if random.random() * 100 >= self._config.percentage:  # noqa: S311 - a sample, not a secret
            return
        moment = now()
        line = captured(self._config, payload, reply, inference_id=inference_id, moment=moment)
        with self._lock:
            if self._size + len(line) > _MOST_WAITING_BYTES:
                log.warning("endpoint %s: an invocation is not captured: too much waits", self._endpoint)
                return
            self._waiting[f"{self._endpoint}/{variant}/{moment:%Y/%m/%d/%H}"].append(line)
            self._size += len(line)
            is_first, self._is_scheduled = not self._is_scheduled, True
        if is_first:
            self._region.in_background(f"data capture {self._endpoint}", self._write_later)

    def flush(self) -> None:
        """Write the waiting lines. Lines that S3 refuses are lost and logged."""
        with self._lock:
            waiting, self._waiting, self._size = self._waiting, defaultdict(list), 0
            self._is_scheduled = False
        for folder, lines in waiting.items():
            moment = now()
            name = f"{moment:%M-%S}-{moment.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            location = self._config.destination.below(f"{folder}/{name}")
            try:
                s3_objects.write(self._region, location, b"".join(lines), kms_key_id=self._config.kms_key_id)
            except ObjectFailure as error:
                log.warning(
                    "endpoint %s: %d captured invocations lost: %s", self._endpoint, len(lines), error
                )

    def _write_later(self) -> None:
        if not self._region.closed.wait(self._region.settings.data_capture_seconds):
            self.flush()


def _part(config: CaptureConfig, mode: str, body: bytes, content_type: str) -> dict[str, str]:
    encoding = config.encodings.get(_media_type(content_type), "BASE64")
    data = None
    if encoding != "BASE64":
        with contextlib.suppress(UnicodeDecodeError):
            data = body.decode()
    if data is None:
        data, encoding = base64.b64encode(body).decode(), "BASE64"
    return {"observedContentType": content_type, "mode": mode, "data": data, "encoding": encoding}


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
