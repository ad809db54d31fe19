"""Clean foreign text before it is shown, logged or stored: no credentials, no control characters, only UTF-8.

This module imports no other of this package: even the errors use it.
"""

from __future__ import annotations

import json
import re

_MASK = "***"

_USERINFO = re.compile(r"(?<!s3:)//(?:[^\s\"'<>/?#:@]*:[^\s\"'<>]*|[^\s\"'<>/?#]+)@")
"""User and password between ``//`` and a host, also where the password holds a slash or an ``@``. S3 keys can hold
both."""

_SECRET_PARAMETERS = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Security-Token|Credential)|AWSAccessKeyId|Signature|"
    r"Policy|Key-Pair-Id|aws_session_token|aws_secret_access_key)=[^\s&\"'<>,;)]+"
)
_AUTHORIZATION = re.compile(
    r"(?i)\b((?:Proxy-)?Authorization['\"]?\s*[:=]\s*['\"]?(?:Basic|Bearer)\s+)[^\s\"',;]+"
)

_ESCAPED = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
} | {0x09: "\t", 0x0A: "\\n", 0x0D: "\\r", 0x1B: "\\x1b"}
"""Control characters, line ends of every kind, and characters that change the reading direction."""

_NOT_IN_ALL_READERS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""Characters that JSON permits, but that some readers take for line ends."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def masked(text: str) -> str:
    """Replace credentials by ``***``: user and password in URLs, a presigned URL's signature and token."""
    text = _USERINFO.sub(f"//{_MASK}@", text)
    text = _SECRET_PARAMETERS.sub(rf"\1={_MASK}", text)
    return _AUTHORIZATION.sub(rf"\1{_MASK}", text)


def in_one_line(text: str) -> str:
    """Escape line ends, control characters and lone surrogates, so that no text can imitate another line of a log."""
    if text.isascii() and text.isprintable():
        return text
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text.translate(_ESCAPED))


def presentable(text: str) -> str:
    """Convert a text to one line without credentials, for errors and logs."""
    return in_one_line(masked(text))


def is_text(text: str) -> bool:
    """Check that a text can be encoded as UTF-8: it holds no lone surrogate."""
    return text.isascii() or not _SURROGATE.search(text)


def storable(value: object) -> object:
    """Replace NUL and lone surrogates, which no database stores, by U+FFFD in the texts of a JSON value."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def as_utf8(text: str) -> bytes:
    """Encode a text, with lone surrogates escaped as in JSON: inside of JSON the escape means the same."""
    return text.encode(errors="backslashreplace")


def json_line(value: object) -> bytes:
    """Encode a value as JSON in UTF-8, in one line by every reader's definition, without a final line end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return as_utf8(text.translate(_NOT_IN_ALL_READERS) if not text.isascii() else text)
