"""Names of SageMaker resources: checked, and derived from content so that a retry finds what it made.

SageMaker: models, endpoint configurations and endpoints are named ``[a-zA-Z0-9](-*[a-zA-Z0-9])*``, up to 63
characters; AutoML candidates up to 64.
"""

from __future__ import annotations

import hashlib
import json
import re

from airflow_sm_plugin.exceptions import InvalidName

MAX_NAME_LENGTH = 63
_DIGEST_LENGTH = 12
_DIGEST = rf"[0-9a-f]{{{_DIGEST_LENGTH}}}"
_STEM_ROOM = MAX_NAME_LENGTH - _DIGEST_LENGTH - 1
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_NOT_ALLOWED = re.compile(r"[^a-zA-Z0-9-]+")


def check_name(value: str, kind: str) -> str:
    """Return the name, or say what is wrong with it.

    :param kind: what is named, e.g. ``"model name"``
    :raises InvalidName: empty, over 63 characters, or with another character than letters, digits, inner hyphens
    """
    if not value:
        raise InvalidName(f"the {kind} is empty")
    if len(value) > MAX_NAME_LENGTH:
        raise InvalidName(
            f"the {kind} {value!r} has {len(value)} characters, SageMaker takes up to {MAX_NAME_LENGTH}: shorten it"
        )
    if not _NAME.fullmatch(value):
        bad = sorted({character for character in value if not re.match(r"[a-zA-Z0-9-]", character)})
        reason = f"holds {' '.join(map(repr, bad))}" if bad else "begins or ends with a hyphen"
        raise InvalidName(
            f"the {kind} {value!r} {reason}; SageMaker takes letters, digits, and hyphens between them"
        )
    return value


def digest(content: object) -> str:
    """Return a short digest of JSON-able content: equal content, equal digest; the order of lists counts."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def content_name(stem: str, content: object) -> str:
    """Return ``<stem>-<digest of stem and content>``, the stem made fit and cut to have at most 63 characters in all.

    The whole stem is in the digest, so that two long stems which are alike up to the cut do not share a name.
    """
    return f"{content_stem(stem)}-{digest([stem, content])}"


def content_stem(stem: str) -> str:
    """Return what the names derived from a stem begin with: the stem made fit, and cut to leave room for a digest."""
    fit = _NOT_ALLOWED.sub("-", stem).strip("-") or "x"
    return fit[:_STEM_ROOM].rstrip("-")


def is_content_name(name: str, stem: str) -> bool:
    """Say whether a name is one that :func:`content_name` makes from this stem, or from one that shares its cut.

    Others give such names as well (``churn-202611281200``), so that it proves nothing.
    """
    return re.fullmatch(rf"{re.escape(content_stem(stem))}-{_DIGEST}", name) is not None


def joined_to(target_model: str, *, prefix_ends_in_slash: bool | None) -> str:
    """Return a target model's name as it has to be sent: SageMaker joins model prefix and name as they are.

    :param prefix_ends_in_slash: None where that is not known: then the name is sent as it was given
    """
    if prefix_ends_in_slash is None:
        return target_model
    return f"{'' if prefix_ends_in_slash else '/'}{target_model.lstrip('/')}"
