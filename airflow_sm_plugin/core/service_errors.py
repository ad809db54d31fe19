"""Classify AWS's errors. SageMaker's control plane has one code for most, so texts decide.

The texts are those of the live service (double quotes, the name in lower case in the ARN). No other module matches
them.
"""

from __future__ import annotations

import enum
import json
import re


class Meaning(enum.Enum):
    """The meaning of an error of AWS, whatever its code, status and service."""

    ALREADY_EXISTS = "already exists"
    NOT_FOUND = "not found"
    IN_PROGRESS = "in progress"
    ACCESS_DENIED = "access denied"
    CREDENTIALS_EXPIRED = "credentials expired"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    WRONG_KIND = "wrong kind of endpoint"
    NOT_MULTI_MODEL = "no multi-model endpoint"
    NO_MODEL_DATA = "target model's artefact missing"
    NO_CAPACITY = "inference component scaled to zero"
    TOO_LARGE = "request too large"
    MODEL_DATA_MISSING = "model's artefact missing"
    MODEL_DATA_UNREADABLE = "model's artefact not accessible"
    IMAGE_UNREADABLE = "image cannot be pulled"
    ROLE_NOT_ASSUMABLE = "execution role cannot be assumed"
    REFUSED = "refused"


_BY_BEGINNING = (
    # CreateModel's, which hold a user's names, and are no texts about a missing model, though they are similar.
    (re.compile(r"Could not find model data at "), Meaning.MODEL_DATA_MISSING),
    (re.compile(r"Could not access model data at "), Meaning.MODEL_DATA_UNREADABLE),
    (re.compile(r"The execution role ARN .* is invalid\.", re.DOTALL), Meaning.ROLE_NOT_ASSUMABLE),
    (re.compile(r"Role \S+ cannot pull |The repository of your image "), Meaning.IMAGE_UNREADABLE),
)
_BY_TEXT = (
    (re.compile(r"Cannot create already existing", re.IGNORECASE), Meaning.ALREADY_EXISTS),
    (re.compile(r"Cannot update in-progress", re.IGNORECASE), Meaning.IN_PROGRESS),
    (re.compile(r"Could not find (?:[a-z-]+ )+(?:[\"']|with name)", re.IGNORECASE), Meaning.NOT_FOUND),
    (re.compile(r"NO_SUCH_ENDPOINT|Endpoint \S+ of account \S+ not found", re.IGNORECASE), Meaning.NOT_FOUND),
    (re.compile(r"does not support this inference type", re.IGNORECASE), Meaning.WRONG_KIND),
    (re.compile(r"TARGET_MODEL_HEADER_NOT_SUPPORTED|is not a multi-model endpoint"), Meaning.NOT_MULTI_MODEL),
    (re.compile(r"Failed to download model data"), Meaning.NO_MODEL_DATA),
    (re.compile(r"has no capacity to process this request", re.IGNORECASE), Meaning.NO_CAPACITY),
    (re.compile(r"has oversize body|HTTP content length exceeded", re.IGNORECASE), Meaning.TOO_LARGE),
    # InvalidSignatureException of most services, SignatureDoesNotMatch of SQS and IAM: the code does not show it.
    (re.compile(r"Signature (?:expired|not yet current)"), Meaning.CREDENTIALS_EXPIRED),
    # Of DeleteEndpoint, where Application Auto Scaling knows a variant; its code is not recorded.
    (
        re.compile(r"does not have application-autoscaling:DeregisterScalableTarget permission"),
        Meaning.ACCESS_DENIED,
    ),
    (re.compile(r"security token included in the request is expired"), Meaning.CREDENTIALS_EXPIRED),
)
_BY_CODE = {
    "ResourceNotFound": Meaning.NOT_FOUND,
    "NoSuchKey": Meaning.NOT_FOUND,
    "NoSuchBucket": Meaning.NOT_FOUND,
    "NotFound": Meaning.NOT_FOUND,
    "404": Meaning.NOT_FOUND,
    "ResourceInUse": Meaning.ALREADY_EXISTS,
    "403": Meaning.ACCESS_DENIED,
    "AccessDenied": Meaning.ACCESS_DENIED,
    "AccessDeniedException": Meaning.ACCESS_DENIED,
    # Fresh credentials, or a request signed now, may succeed. Keys that were just created or rotated are invalid for a
    # moment, and their errors are the same as those of keys that never become valid.
    "ExpiredToken": Meaning.CREDENTIALS_EXPIRED,
    "ExpiredTokenException": Meaning.CREDENTIALS_EXPIRED,
    "RequestExpired": Meaning.CREDENTIALS_EXPIRED,
    "RequestInTheFuture": Meaning.CREDENTIALS_EXPIRED,
    "RequestTimeTooSkewed": Meaning.CREDENTIALS_EXPIRED,
    "TokenRefreshRequired": Meaning.CREDENTIALS_EXPIRED,
    "IDPCommunicationError": Meaning.CREDENTIALS_EXPIRED,
    "InvalidAccessKeyId": Meaning.CREDENTIALS_EXPIRED,
    "InvalidClientTokenId": Meaning.CREDENTIALS_EXPIRED,
    "InvalidIdentityToken": Meaning.CREDENTIALS_EXPIRED,
    "InvalidSignatureException": Meaning.CREDENTIALS_EXPIRED,
    "InvalidToken": Meaning.CREDENTIALS_EXPIRED,
    "SignatureDoesNotMatch": Meaning.CREDENTIALS_EXPIRED,
    "UnrecognizedClientException": Meaning.CREDENTIALS_EXPIRED,
    "Throttling": Meaning.THROTTLED,
    "ThrottlingException": Meaning.THROTTLED,
    "TooManyRequestsException": Meaning.THROTTLED,
    "RequestLimitExceeded": Meaning.THROTTLED,
    "ResourceLimitExceeded": Meaning.THROTTLED,
    "ConcurrentUpdateException": Meaning.THROTTLED,
    "SlowDown": Meaning.UNAVAILABLE,
    "ServiceUnavailable": Meaning.UNAVAILABLE,
    "InternalFailure": Meaning.UNAVAILABLE,
    "RequestTimeout": Meaning.UNAVAILABLE,
}
_FORBIDDEN, _TOO_LARGE, _TOO_MANY_REQUESTS = 403, 413, 429
_BY_STATUS = {
    _FORBIDDEN: Meaning.ACCESS_DENIED,
    _TOO_LARGE: Meaning.TOO_LARGE,
    _TOO_MANY_REQUESTS: Meaning.THROTTLED,
}
_OF_PAGES = {_TOO_LARGE: Meaning.TOO_LARGE, _TOO_MANY_REQUESTS: Meaning.THROTTLED}
_SERVER_ERROR = 500
_LARGEST_STATUS = 999

UNREADABLE = "UnreadableAnswer"
"""Our code for an answer of 3xx or 4xx in which no code of AWS can be read: only its HTTP status is known."""

FOREIGN_PAGE = "ForeignPage"
"""Our code for an HTML page of 3xx or 4xx instead of an answer: it is a proxy's, and AWS has not answered at all."""


def meaning_of(code: str, message: str, status: int) -> Meaning:
    """Classify an error answer.

    :param code: ``Error.Code`` of the answer; S3's HEAD gives the bare HTTP status as text
    :param message: ``Error.Message`` of the answer
    :param status: HTTP status
    """
    if code == FOREIGN_PAGE:
        return _OF_PAGES.get(status, Meaning.UNAVAILABLE)
    for pattern, meaning in _BY_BEGINNING:
        if pattern.match(message):
            return meaning
    for pattern, meaning in _BY_TEXT:
        if pattern.search(message):
            return meaning
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Meaning.UNAVAILABLE if status >= _SERVER_ERROR else Meaning.REFUSED


def text_of(value: object) -> str:
    """Return a field of an answer as text, whatever its type; empty for None."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return ""


def status_in(value: object) -> int | None:
    """Read an HTTP status, which a container may have written; None where it is no such number."""
    try:
        status = int(value)  # type: ignore[call-overload]  # whatever it is, that is the question
    except (TypeError, ValueError, OverflowError):
        return None
    return status if 0 <= status <= _LARGEST_STATUS and not isinstance(value, bool) else None
