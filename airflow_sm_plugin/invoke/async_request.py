"""The request and the reply of InvokeEndpointAsync."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.header_values import check_header
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.s3 import S3Uri, check_input_location
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.request import check_text

MAX_INLINE_BYTES = 128_000
DEFAULT_REQUEST_TTL = 21_600
DEFAULT_INVOCATION_TIMEOUT = 900
_TTL_RANGE = (60, 21_600)
_INVOCATION_TIMEOUT_RANGE = (1, 3_600)
_MAX_INFERENCE_ID = 64
_FILENAME = re.compile(r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}")
_PATH_EXTENSION = re.compile(r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]{1,512}")


@dataclass(frozen=True, kw_only=True, repr=False)
class AsyncRequest:
    """One InvokeEndpointAsync. Exactly one of ``input_location`` and ``body``; times in seconds, None is AWS's default.

    It has no repr: the payload and the custom attributes are secrets.
    """

    endpoint_name: str
    input_location: str | None = None
    body: bytes | None = None
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    inference_id: str | None = None
    request_ttl: int | None = None
    invocation_timeout: int | None = None
    filename: str | None = None
    s3_output_path_extension: str | None = None

    def checked(self) -> AsyncRequest:
        """Return the request itself when every limit holds.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
        check_name(self.endpoint_name, "endpoint name")
        self._check_input()
        if self.custom_attributes is not None:
            validate(self.custom_attributes)
        _check_range("request_ttl", self.request_ttl, _TTL_RANGE)
        _check_range("invocation_timeout", self.invocation_timeout, _INVOCATION_TIMEOUT_RANGE)
        check_header(self.inference_id, "inference_id", longest=_MAX_INFERENCE_ID)
        check_header(self.content_type, "content_type")
        check_header(self.accept, "accept")
        check_text(
            "filename",
            self.filename,
            _FILENAME,
            longest=32,
            allowed="letters, digits, and, but not first, '-', '_' and at most one '.'",
        )
        check_text(
            "s3_output_path_extension",
            self.s3_output_path_extension,
            _PATH_EXTENSION,
            longest=512,
            allowed="letters, digits and !_.*'()/-, not beginning with s3: or https:",
        )
        return self

    def _check_input(self) -> None:
        if (self.input_location is None) == (self.body is None):
            given = "both" if self.body is not None else "neither"
            raise InvalidRequest(f"give exactly one of input_location and body, not {given}")
        if self.body is not None and not isinstance(self.body, bytes):
            raise InvalidRequest(
                f"body must be text or bytes, not {type(self.body).__name__}: make JSON or CSV of it in the task before"
            )
        if self.body == b"":
            raise InvalidRequest("body is empty: give a payload, or pass input_location")
        if self.body is not None and len(self.body) > MAX_INLINE_BYTES:
            raise InvalidRequest(
                f"the inline body has {len(self.body)} bytes, SageMaker takes up to {MAX_INLINE_BYTES}: "
                f"upload it to S3 and pass input_location"
            )
        if self.input_location is None:
            return
        if not self.input_location.startswith("https://"):
            S3Uri.parse_object(self.input_location, name="input_location")
        check_input_location(self.input_location, name="input_location")

    def parameters(self) -> dict[str, Any]:
        parameters = {
            "EndpointName": self.endpoint_name,
            "InputLocation": self.input_location,
            "Body": self.body,
            "ContentType": self.content_type,
            "Accept": self.accept,
            "CustomAttributes": self.custom_attributes,
            "InferenceId": self.inference_id,
            "RequestTTLSeconds": self.request_ttl,
            "InvocationTimeoutSeconds": self.invocation_timeout,
            "Filename": self.filename,
            "S3OutputPathExtension": self.s3_output_path_extension,
        }
        return {name: value for name, value in parameters.items() if value is not None}


def _check_range(name: str, value: int | None, limits: tuple[int, int]) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be a whole number of seconds, not {value!r:.80}")
    if not limits[0] <= value <= limits[1]:
        raise InvalidRequest(f"{name} is {value} s, SageMaker takes {limits[0]} to {limits[1]} s")


@dataclass(frozen=True)
class AsyncInvocation:
    """An accepted invocation: where its result will be. Locations are opaque; ``failure_location`` may be None.

    ``submitted_at`` is in epoch seconds, None when the invocation was made elsewhere and its time is not known.
    """

    output_location: str
    failure_location: str | None = None
    inference_id: str | None = None
    input_location: str | None = None
    submitted_at: float | None = None

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> AsyncInvocation:
        """Read what an invoke task left on XCom (or any mapping with the same keys).

        :raises InvalidRequest: it has no ``output_location``, or ``submitted_at`` is no number of epoch seconds
        :raises InvalidS3Uri: a location is not ``s3://bucket/key``
        """
        output = value.get("output_location")
        if not output:
            raise InvalidRequest(
                f"an invocation needs an output_location; this one has only {sorted(map(str, value))}"
            )
        failure = value.get("failure_location") or None
        S3Uri.parse_object(output, name="output_location")
        if failure:
            S3Uri.parse_object(failure, name="failure_location")
        return cls(
            output_location=output,
            failure_location=failure,
            inference_id=value.get("inference_id"),
            input_location=value.get("input_location"),
            submitted_at=_epoch_seconds(value.get("submitted_at")),
        )

    def as_mapping(self) -> dict[str, Any]:
        return asdict(self)


def _epoch_seconds(value: object) -> float | None:
    """Read ``submitted_at``. NaN and infinity are refused: they would make a deadline that never comes."""
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InvalidRequest(f"submitted_at must be a number of epoch seconds or None, not {value!r:.80}")
    return seconds
