"""Read botocore's errors of one invocation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError

from airflow_sm_plugin.aws.errors import is_about_credentials, status_of, words_of
from airflow_sm_plugin.core.service_errors import status_in, text_of
from airflow_sm_plugin.invoke.failure import CallFailure, FailureKind


def failure_of(error: ClientError | BotoCoreError) -> CallFailure:
    """Return what a failed call tells."""
    if not isinstance(error, ClientError):
        return CallFailure(type(error).__name__, str(error), kind=_kind(error))
    response = cast("Mapping[str, Any]", error.response)
    code, message = words_of(error)
    original = response.get("OriginalMessage")
    return CallFailure(
        code=code,
        message=message,
        status=status_of(error),
        original_status=status_in(response.get("OriginalStatusCode")),
        original_message=None if original is None else text_of(original),
    )


def _kind(error: BotoCoreError) -> FailureKind:
    if isinstance(error, BotoConnectionError) or is_about_credentials(error):
        return "unreachable"
    return "unanswered" if isinstance(error, HTTPClientError | IncompleteReadError) else "local"
