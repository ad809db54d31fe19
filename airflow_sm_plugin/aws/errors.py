"""Convert botocore's errors into this package's errors, which know whether a retry helps."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from xml.etree.ElementTree import ParseError

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin._safe_text import masked
from airflow_sm_plugin.aws.answers import UnreadableAnswer
from airflow_sm_plugin.core.service_errors import Meaning, meaning_of, status_in, text_of
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    CredentialsExpired,
    InvalidRequest,
    ModelUnavailable,
    RecordTooLarge,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)

log = get_log(__name__)

_BY_MEANING: dict[Meaning, type[SageMakerInferenceError]] = {
    Meaning.ACCESS_DENIED: AccessDenied,
    Meaning.CREDENTIALS_EXPIRED: CredentialsExpired,
    Meaning.THROTTLED: Throttled,
    Meaning.UNAVAILABLE: ServiceUnavailable,
    Meaning.NO_CAPACITY: ModelUnavailable,
    Meaning.TOO_LARGE: RecordTooLarge,
}
_REMEDIES: dict[type[SageMakerInferenceError], str] = {
    AccessDenied: "allow this action to the task's role",
    CredentialsExpired: "renew or correct the credentials, or set the clock; a retry of the task reads them again",
    ModelUnavailable: "retry: the call that failed makes its scaling policy start copies, within 5 to 6 minutes",
    RecordTooLarge: "send less at once (a serverless endpoint takes 4 MB), or use an asynchronous endpoint",
    RequestRefused: "correct what the reason names, then clear the task: the same request would be refused again",
    ServiceUnavailable: "retry later",
    Throttled: "retry later, or have the account's limit raised",
}
_REMEDIES_BY_CODE = {
    "NoSuchBucket": "create the bucket, or correct its name, region_name or the account",
    "NoSuchEntity": "create it in IAM, or correct its name or the account (a role can also be given by its ARN)",
}
"""Errors whose code says more than their class: S3's, and IAM's."""
_CREDENTIALS = (
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    InvalidConfigError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
"""Credentials are missing or incomplete. All of these can pass: a metadata service answers again, files get written."""
_OF_BOTOCORE: Sequence[
    tuple[type[BotoCoreError] | tuple[type[BotoCoreError], ...], type[SageMakerInferenceError], str, str]
] = (
    (
        _CREDENTIALS,
        ServiceUnavailable,
        "AWS credentials could not be fetched",
        "set credentials or a role if there are none; else retry later",
    ),
    (NoRegionError, InvalidRequest, "no AWS region", "pass region_name, or set it in the Airflow connection"),
    (
        UnreadableAnswer,
        ServiceUnavailable,
        "the answer cannot be used",
        "check the endpoint URL, proxy and network; a later retry may fare better",
    ),
    (
        (BotoConnectionError, HTTPClientError),
        ServiceUnavailable,
        "the service did not answer",
        "check endpoint URL, region, proxy and network; a later retry may fare better",
    ),
    (BotoCoreError, ServiceUnavailable, "it failed before an answer came", "retry later"),
)
"""Class, error, what happened, and what to do. The first matching class counts."""

_REFUSED = 400

_BAD_HEAD = "400"
"""S3's answer to a HEAD with an expired token, which has no words; another region's was handled before."""

_STUMBLES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    ParseError,
    RuntimeError,
    ResponseParserError,
    TypeError,
    ValueError,
)
"""Exceptions of code that meets an unexpected answer or file."""

_BELOW = ("boto3.", "botocore.", "aiobotocore.", "airflow.providers.amazon.")
_REPORTED = ("Missing required parameter", "Unknown parameter", "Invalid ")
"""Beginnings of the lines of botocore's report on parameters."""

_READERS = tuple(
    f"{library}.{module}"
    for library in ("botocore", "aiobotocore")
    for module in ("parsers", "credentials", "tokens", "utils")
)
"""Modules of botocore that read answers of credential services, and files of credentials and tokens."""


def meaning(error: ClientError) -> Meaning:
    return meaning_of_parsed(cast("Mapping[str, Any]", error.response), error.operation_name)


def meaning_of_parsed(response: Mapping[str, Any], operation: str) -> Meaning:
    """Classify an error answer as botocore's parsers return it.

    :param operation: e.g. ``GetObject``
    """
    code, message = _words(response)
    if operation.startswith("Head") and code == _BAD_HEAD:
        return Meaning.CREDENTIALS_EXPIRED
    return meaning_of(code, message, _status(response))


def is_about_credentials(error: BaseException) -> bool:
    """Recognize missing or refused credentials, so that a client with others can succeed."""
    if isinstance(error, ClientError):
        return meaning(error) is Meaning.CREDENTIALS_EXPIRED
    return isinstance(error, (CredentialsExpired, *_CREDENTIALS))


def status_of(error: ClientError) -> int:
    return _status(cast("Mapping[str, Any]", error.response))


def words_of(error: ClientError) -> tuple[str, str]:
    """Read an error answer's code and message, each empty when missing."""
    return _words(cast("Mapping[str, Any]", error.response))


def _words(response: Mapping[str, Any]) -> tuple[str, str]:
    details = response.get("Error")
    if not isinstance(details, Mapping):
        return "", ""
    return text_of(details.get("Code")), text_of(details.get("Message"))


def _status(response: Mapping[str, Any]) -> int:
    metadata = response.get("ResponseMetadata")
    status = status_in(metadata.get("HTTPStatusCode")) if isinstance(metadata, Mapping) else None
    return _REFUSED if status is None else status


def translate(error: ClientError | BotoCoreError, doing: str) -> SageMakerInferenceError:
    """Convert botocore's error into this package's.

    :param doing: the call and its object, e.g. ``"sagemaker:CreateModel churn"``; it opens the message
    """
    if isinstance(error, ClientError):
        code, message = words_of(error)
        kind = _BY_MEANING.get(meaning(error), RequestRefused)
        words = f"{code}: {message}" if message else code
        remedy = _REMEDIES_BY_CODE.get(code) or _REMEDIES[kind]
        return kind(f"{doing}: AWS answered with an error", reason=words, do=remedy)
    if isinstance(error, ParamValidationError):
        return InvalidRequest(
            f"{doing}: the request is not well formed", reason=f"botocore names the fields: {_fields(error)}"
        )
    _log_stack(error, doing)
    kind, problem, remedy = next(
        (kind, problem, remedy) for kinds, kind, problem, remedy in _OF_BOTOCORE if isinstance(error, kinds)
    )
    return kind(f"{doing}: {problem}", reason=str(error), do=remedy)


def _log_stack(error: BotoCoreError, doing: str) -> None:
    """Log the stack of a call without an answer at DEBUG, unless a text in it shows a secret, as a proxy's URL can.

    The error that is raised instead carries the cause in its text, and hides the stacks of botocore and urllib3.
    """
    if not log.isEnabledFor(logging.DEBUG):
        return
    chain: list[BaseException] = []
    led_to: BaseException | None = error
    while led_to is not None and led_to not in chain:  # an error may be raised from itself
        chain.append(led_to)
        led_to = led_to.__cause__ or led_to.__context__
    if all(masked(text) == text for text in map(str, chain)):
        log.debug("%s: the stack of its error", doing, exc_info=error)


@contextmanager
def stumbles_as_botocore() -> Iterator[None]:
    """Raise botocore's errors where botocore or the Amazon provider fail over an unexpected answer.

    This package's clients never do (:mod:`airflow_sm_plugin.aws.answers`); answers of STS, which the provider asks for
    a role's credentials, and of other sources of credentials, can cause it.
    """
    try:
        yield
    except (SageMakerInferenceError, ClientError, BotoCoreError):
        raise
    except _STUMBLES as error:
        modules = [
            str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)
        ]
        if modules[-1].startswith(_BELOW[-1]) or any(module.startswith(_READERS) for module in modules):
            raise CredentialRetrievalError(
                provider="AWS", error_msg=f"an answer or a file cannot be read ({type(error).__name__})"
            ) from error
        if isinstance(error, ValueError) and any(module.startswith(_BELOW) for module in modules):
            # Faults of the request: half of a surrogate pair, a malformed address.
            raise ParamValidationError(report=f"{type(error).__name__}: {error}") from None
        raise


def _fields(error: ParamValidationError) -> str:
    """Cut botocore's report to its first words per line: the rest shows values, which may have lines as well."""
    first, *others = str(error.kwargs["report"]).splitlines() or [""]
    lines = [first, *(line for line in others if line.startswith(_REPORTED))]
    return "; ".join(line.split(", value:")[0].strip() for line in lines)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise this package's errors instead of botocore's for one call."""
    try:
        with stumbles_as_botocore():
            yield
    except (ClientError, BotoCoreError) as error:
        raise translate(error, doing) from None
