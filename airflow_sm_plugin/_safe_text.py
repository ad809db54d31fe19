"""Make texts from outside fit to be shown, logged and stored: no credentials, no control characters, only UTF-8.

This module imports nothing of ours: even the errors use it.
"""

from __future__ import annotations

import json
import re

_MASK = "***"

_USERINFO = re.compile(r"(?<!s3:)//(?:[^\s\"'<>/?#:@]*:[^\s\"'<>]*|[^\s\"'<>/?#]+)@")
"""What stands between ``//`` and a host, also where a password holds a slash or an ``@``. S3 keys may hold one."""

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
"""Control characters, line ends of every kind, and what turns the reading direction."""

_NOT_IN_ALL_READERS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""Allowed in JSON, but readers that split by lines, and some that show text, stumble over it."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def masked(text: str) -> str:
    """Replace credentials by ``***``: user and password in URLs, a presigned URL's signature and token."""
    text = _USERINFO.sub(f"//{_MASK}@", text)
    text = _SECRET_PARAMETERS.sub(rf"\1={_MASK}", text)
    return _AUTHORIZATION.sub(rf"\1{_MASK}", text)


def in_one_line(text: str) -> str:
    """Escape line ends, control characters and lone surrogates, so that no text can pass for another line of a log."""
    if text.isascii() and text.isprintable():
        return text
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text.translate(_ESCAPED))


def presentable(text: str) -> str:
    """Return a text as errors and logs show it: one line, without credentials."""
    return in_one_line(masked(text))


def is_text(text: str) -> bool:
    """Return whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
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
    """Encode a text. A lone surrogate becomes its escape, as JSON writes it: inside of JSON it means the same."""
    return text.encode(errors="backslashreplace")


def json_line(value: object) -> bytes:
    """Return a value as JSON in UTF-8, in one line whatever a reader takes for a line's end, without the line's end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return as_utf8(text.translate(_NOT_IN_ALL_READERS) if not text.isascii() else text)
