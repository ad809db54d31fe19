"""Read botocore's errors of one invocation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError

from airflow_sm_plugin.core.call_failure import CallFailure, FailureKind
from airflow_sm_plugin.hooks.s3_repeats import status_of


def failure_of(error: ClientError | BotoCoreError) -> CallFailure:
    """Return what a failed call tells."""
    if not isinstance(error, ClientError):
        return CallFailure(type(error).__name__, str(error), kind=_kind(error))
    response = cast("Mapping[str, Any]", error.response)
    details = response.get("Error", {})
    original, words = response.get("OriginalStatusCode"), response.get("OriginalMessage")
    return CallFailure(
        code=str(details.get("Code", "")),
        message=str(details.get("Message", "")),
        status=status_of(error),
        original_status=None if original is None else int(original),
        original_message=None if words is None else str(words),
    )


def _kind(error: BotoCoreError) -> FailureKind:
    if isinstance(error, BotoConnectionError):
        return "unreachable"
    return "unanswered" if isinstance(error, HTTPClientError | IncompleteReadError) else "local"
