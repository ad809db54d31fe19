"""The request of one real-time invocation, with SageMaker's limits.

botocore checks neither lengths nor patterns nor the payload's size (measured with 1.43.117), so they are checked here.
:mod:`airflow_sm_plugin.invoke.failure` decides whether a failed attempt is worth another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.header_values import LONGEST_HEADER, check_header
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.exceptions import InvalidRequest

MAX_PAYLOAD_BYTES = 26_214_400
"""Of a request and of a response: 25 MB (AWS's FAQ on hosting). botocore's service model still says 6,291,456, and
botocore checks neither; what an endpoint answers between the two is not known."""

DEFAULT_PAYLOAD_BYTES = 6_291_456
"""Every real-time endpoint takes this size (the older limit); a serverless one takes 4 MB (4,194,304)."""

MAX_SERVERLESS_PAYLOAD_BYTES = 4_194_304
"""Of a request to a serverless endpoint; a payload up to this size is permitted everywhere."""

TOO_LARGE_PERHAPS = (
    "the connection was closed while more was sent than every endpoint takes (a serverless one 4,194,304 bytes), as "
    "happens to a body that is too large: send less at once, or use an asynchronous endpoint"
)

MODEL_LOAD_SECONDS = 420.0
"""Wait for a cold model: SageMaker goes on loading for up to 360 s after a call gave up at 60 s."""

READ_TIMEOUT = 70
"""Seconds: SageMaker answers within 60."""

_VARIANT = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_SESSION = re.compile(r"NEW_SESSION|[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_NAME_TEXT = "letters, digits, and hyphens between them"


@dataclass(frozen=True, kw_only=True, repr=False)
class InvokeRequest:
    """One InvokeEndpoint. It has no repr: the payload and the custom attributes are secrets."""

    endpoint_name: str
    body: bytes
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    target_model: str | None = None
    target_variant: str | None = None
    target_container_hostname: str | None = None
    inference_id: str | None = None
    enable_explanations: str | None = None
    inference_component_name: str | None = None
    session_id: str | None = None
    prefix_aware_id: str | None = None

    def checked(self) -> InvokeRequest:
        """Return the request itself when every limit holds.

        :raises InvalidRequest: naming the value, the limit and the remedy; never the payload
        """
        check_name(self.endpoint_name, "endpoint name")
        if len(self.body) > MAX_PAYLOAD_BYTES:
            raise InvalidRequest(
                f"the payload has {len(self.body)} bytes, SageMaker takes up to {MAX_PAYLOAD_BYTES} in real time: "
                f"send less, or use an asynchronous endpoint (up to 1 GB)"
            )
        if self.custom_attributes is not None:
            validate(self.custom_attributes)
        for name, value, longest in (
            ("content_type", self.content_type, LONGEST_HEADER),
            ("accept", self.accept, LONGEST_HEADER),
            ("target_model", self.target_model, LONGEST_HEADER),
            ("inference_id", self.inference_id, 64),
            ("enable_explanations", self.enable_explanations, 64),
            ("prefix_aware_id", self.prefix_aware_id, 64),
        ):
            check_header(value, name, longest=longest)
        for name, value, pattern, longest, allowed in (
            ("target_variant", self.target_variant, _VARIANT, 63, _NAME_TEXT),
            ("target_container_hostname", self.target_container_hostname, _VARIANT, 63, _NAME_TEXT),
            ("inference_component_name", self.inference_component_name, _VARIANT, 63, _NAME_TEXT),
            ("session_id", self.session_id, _SESSION, 256, f"NEW_SESSION, or {_NAME_TEXT}"),
        ):
            check_text(name, value, pattern, longest=longest, allowed=allowed)
        return self

    def parameters(self) -> dict[str, Any]:
        parameters = {
            "EndpointName": self.endpoint_name,
            "Body": self.body,
            "ContentType": self.content_type,
            "Accept": self.accept,
            "CustomAttributes": self.custom_attributes,
            "TargetModel": self.target_model,
            "TargetVariant": self.target_variant,
            "TargetContainerHostname": self.target_container_hostname,
            "InferenceId": self.inference_id,
            "EnableExplanations": self.enable_explanations,
            "InferenceComponentName": self.inference_component_name,
            "SessionId": self.session_id,
            "PrefixAwareId": self.prefix_aware_id,
        }
        return {name: value for name, value in parameters.items() if value is not None}


def check_text(name: str, value: str | None, pattern: re.Pattern[str], *, longest: int, allowed: str) -> None:
    if value is None:
        return
    if not 1 <= len(value) <= longest:
        raise InvalidRequest(
            f"{name} has {len(value)} characters, SageMaker takes 1 to {longest}: {value[:80]!r}"
        )
    if not pattern.fullmatch(value):
        raise InvalidRequest(f"{name} {value[:80]!r} is not allowed; it may hold {allowed}")


@dataclass(frozen=True, kw_only=True, repr=False)
class InvokeReply:
    """A reply. ``custom_attributes`` is None when the container set none. No repr: the body is a secret."""

    body: bytes
    content_type: str | None
    custom_attributes: str | None
    invoked_production_variant: str | None
    new_session_id: str | None = None
    closed_session_id: str | None = None
    attempts: int = 1
