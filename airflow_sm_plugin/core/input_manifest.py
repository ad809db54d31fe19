"""What a batch reads: one input, and the manifest that lists inputs as JSON Lines.

A manifest's line is ``{"source-ref": "s3://bucket/key"}``, as SageMaker's augmented manifests spell it, with
``"content-type"`` and ``"custom-attributes"`` where one input needs its own, and ``"target-model"`` where the batch is
one of many models. A line is an input: an object that is listed twice is sent twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.s3_uri import S3Uri, check_input_location
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest, InvalidS3Uri

_SOURCE, _CONTENT_TYPE, _CUSTOM_ATTRIBUTES = MANIFEST_KEYS = (
    "source-ref",
    "content-type",
    "custom-attributes",
)
TARGET_MODEL = "target-model"
"""The key that only a multi-model batch's manifest may have."""

_SIZE, _ETAG, _OUTPUT = "size", "etag", "output"
_EXAMPLE = '{"source-ref": "s3://bucket/key"}'
_HEADER = re.compile(r"[!-~][ -~]{0,1023}")


@dataclass(frozen=True, kw_only=True)
class BatchInput:
    """One object to infer on.

    :param source: ``s3://bucket/key``
    :param size: bytes, None where nobody looked, or may look
    :param etag: without its quotes, None where nobody looked
    :param content_type: of this input, None for the batch's own
    :param custom_attributes: ready to send; they are sensitive, so no repr shows them
    :param target_model: path below a multi-model endpoint's model prefix, None where there is no such endpoint
    :param output: name of its results below the batch's outputs, without ``.out``; None where nobody chose one
    """

    source: str
    size: int | None = None
    etag: str | None = None
    content_type: str | None = None
    custom_attributes: str | None = field(default=None, repr=False)
    target_model: str | None = None
    output: str | None = None

    def as_line(self) -> str:
        """Return it as one line of JSON without a line break, as :meth:`from_line` reads it."""
        given = {
            _SOURCE: self.source,
            _SIZE: self.size,
            _ETAG: self.etag,
            _CONTENT_TYPE: self.content_type,
            _CUSTOM_ATTRIBUTES: self.custom_attributes,
            TARGET_MODEL: self.target_model,
            _OUTPUT: self.output,
        }
        return json.dumps(
            {name: value for name, value in given.items() if value is not None}, separators=(",", ":")
        )

    @classmethod
    def from_line(cls, line: str) -> BatchInput:
        """Read what :meth:`as_line` wrote; it is not checked again."""
        given = json.loads(line)
        return cls(
            source=given[_SOURCE],
            size=given.get(_SIZE),
            etag=given.get(_ETAG),
            content_type=given.get(_CONTENT_TYPE),
            custom_attributes=given.get(_CUSTOM_ATTRIBUTES),
            target_model=given.get(TARGET_MODEL),
            output=given.get(_OUTPUT),
        )


@dataclass(frozen=True, kw_only=True)
class InputLimits:
    """What an endpoint takes of one input.

    :param most_bytes: of the object, None where it is read piece by piece
    :param remedy: what to do about a larger one, for the message
    :param is_fetched: whether SageMaker fetches the object itself: its location then goes in an HTTP header
    """

    most_bytes: int | None
    remedy: str
    is_fetched: bool = False

    def check(self, one: BatchInput) -> BatchInput:
        """Return the input itself when it keeps every limit.

        :raises InvalidRequest: naming the object, what it has, the limit and the remedy
        """
        if one.size is not None and self.most_bytes is not None and one.size > self.most_bytes:
            raise InvalidRequest(
                f"the input {one.source} has {one.size} bytes, SageMaker takes up to {self.most_bytes}: {self.remedy}"
            )
        if self.is_fetched:
            check_input_location(one.source, name="the location")
        if one.custom_attributes is not None:
            _check_attributes(one.custom_attributes, f"the input {one.source}")
        return one


ASYNC_LIMITS = InputLimits(
    most_bytes=2**30,
    remedy="split it, or let the model read it from S3 itself and send its location",
    is_fetched=True,
)
"""Of asynchronous inference. AWS says "up to 1 GB"; the larger reading is taken, the service has the last word."""


MULTI_MODEL_LIMITS = InputLimits(most_bytes=None, remedy="")
"""Of a multi-model batch, which reads inputs itself and sends their records."""


def input_of(line: str, *, number: int, target_models: bool = False) -> BatchInput | None:
    """Read one line of a manifest; None for an empty one.

    :param number: of the line, from 1, for the message, which never shows the custom attributes
    :param target_models: whether a line may say which model is its input's
    :raises InvalidRequest: it is not what it must be
    """
    text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
    if not text:
        return None
    where = f"line {number} of the manifest"
    given = _object(text, where)
    _check_keys(given, where, target_models=target_models)
    for name, value in given.items():
        if not isinstance(value, str) or not value:
            kind = "empty" if value == "" else type(value).__name__
            raise InvalidRequest(f"{where}: {name} must be a text, not {kind}; leave out what is not needed")
    if _SOURCE not in given:
        raise InvalidRequest(f"{where} has no {_SOURCE}: it says which object in S3 is the input")
    return _checked(cast("dict[str, str]", given), where)


def _check_keys(given: Mapping[str, object], where: str, *, target_models: bool) -> None:
    known = (*MANIFEST_KEYS, TARGET_MODEL) if target_models else MANIFEST_KEYS
    unknown = sorted(set(given) - set(known))
    if unknown == [TARGET_MODEL]:
        raise InvalidRequest(
            f"{where} has the key {TARGET_MODEL!r}: an asynchronous endpoint has no target models; leave it out, or "
            f"take a multi-model batch"
        )
    if unknown:
        raise InvalidRequest(
            f"{where} has the key{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown)):.200}, which mean "
            f"nothing here; it may have {', '.join(known)}"
        )


def _object(text: str, where: str) -> dict[str, object]:
    try:
        given = json.loads(text, object_pairs_hook=_without_twins)
    except _Twin as error:
        raise InvalidRequest(f"{where} has the key {error.args[0]!r:.80} more than once") from None
    except (ValueError, RecursionError) as error:
        # Not chained: a JSONDecodeError keeps the whole line, custom attributes and all.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InvalidRequest(
            f"{where} is not JSON ({reason}); a manifest has one JSON object a line, such as {_EXAMPLE}"
        ) from None
    if not isinstance(given, dict):
        raise InvalidRequest(
            f"{where} is a JSON {type(given).__name__}, not an object; a manifest has one JSON object a line, "
            f"such as {_EXAMPLE}"
        )
    return given


class _Twin(Exception):
    """A key that a JSON object has more than once, of which Python would keep the last."""


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twin(next(name for name in names if names.count(name) > 1))
    return found


def _checked(given: Mapping[str, str], where: str) -> BatchInput:
    try:
        S3Uri.parse_object(given[_SOURCE], name=_SOURCE)
    except InvalidS3Uri as error:
        raise InvalidS3Uri(f"{where}: {error}") from None
    content_type, attributes = given.get(_CONTENT_TYPE), given.get(_CUSTOM_ATTRIBUTES)
    if content_type is not None and not _HEADER.fullmatch(content_type):
        raise InvalidRequest(
            f"{where}: {_CONTENT_TYPE} {content_type!r:.80} is not allowed; it may hold up to 1024 characters of "
            f"visible US-ASCII"
        )
    if attributes is not None:
        _check_attributes(attributes, where)
    return BatchInput(
        source=given[_SOURCE],
        content_type=content_type,
        custom_attributes=attributes,
        target_model=given.get(TARGET_MODEL),
    )


def _check_attributes(value: str, where: str) -> None:
    try:
        validate(value)
    except InvalidCustomAttributes as error:
        raise InvalidCustomAttributes(f"{where}: {error}") from None
