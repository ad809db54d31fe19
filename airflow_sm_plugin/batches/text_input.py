"""Checks of text inputs (CSV, JSON Lines) by their first bytes, before they are split into records.

The first bytes of each format are from its specification. Nothing is decoded here.
"""

from __future__ import annotations

import re

from airflow_sm_plugin.exceptions import InvalidRequest

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"


def _spellings(*subtypes: str) -> frozenset[str]:
    return frozenset(
        f"{top}/{x}{subtype}" for top in ("text", "application") for x in ("", "x-") for subtype in subtypes
    )


TSV = _spellings("tab-separated-values", "tsv")
_LIKE_CSV = _spellings("comma-separated-values", "csv")
HEAD = 4_096
"""Bytes of an input's beginning that are checked: binary formats and UTF-16 have a NUL byte among them."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Of UTF-8: Excel's "CSV UTF-8" begins with it. It is no part of the first record."""

_MORE_TEXT = ("application/x-jsonlines", "application/jsonl", "application/x-ndjson")

_COMPRESSED = "decompress it, or write it with gzip and set compression_type='Gzip'"
_GZIP = "set compression_type='Gzip', or, where it is set, compress the object once only"
_OWN_FORMAT = "an object in its own format needs split_type='None' and a content_type of that format"
_TABLE = f"write it as text; {_OWN_FORMAT}"
_ENCODED = "write it as UTF-8"
_NUL = f"{_ENCODED} text; {_OWN_FORMAT}"

_BINARY = {
    b"\x1f\x8b": ("gzip", _GZIP),
    b"PK\x03\x04": ("a ZIP file (an Excel workbook is one)", _COMPRESSED),
    b"\x28\xb5\x2f\xfd": ("Zstandard", _COMPRESSED),
    b"\xfd7zXZ\0": ("xz", _COMPRESSED),
    b"\x04\x22\x4d\x18": ("LZ4", _COMPRESSED),
    b"\xff\x06\0\0sNaPpY": ("Snappy", _COMPRESSED),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip file", _COMPRESSED),
    b"%PDF-": ("PDF", _TABLE),
    b"HEADER RECORD*******": ("a SAS transport file", _TABLE),
    b"Obj\x01": ("Avro", _TABLE),
    b"ARROW1\0\0": ("Arrow", _TABLE),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Excel workbook", _TABLE),
    b"\xff\xfe\0\0": ("UTF-32", _ENCODED),
    b"\0\0\xfe\xff": ("UTF-32", _ENCODED),
    b"\xff\xfe": ("UTF-16", _ENCODED),
    b"\xfe\xff": ("UTF-16", _ENCODED),
}
"""Formats and remedies by first bytes that no text of records begins with."""

_IN_LETTERS = {b"PAR1": ("Parquet", _TABLE), b"ORC": ("ORC", _TABLE)}
"""Formats that begin with letters, as the name of a column may: they count only if control bytes follow."""

_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_BEHIND_LETTERS = 32
"""First bytes in which a file that begins with such letters must have a control byte: the headers of Parquet and ORC
have binary lengths there. A longer search could meet a stray control byte of a text."""

SENT_AS_IT_IS = "SageMaker hands an object to the container as it is, and decompresses nothing"
"""The explanation in warnings about :func:`format_by_name`."""

_SUFFIXES = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zip": "ZIP",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "Zstandard",
    ".lz4": "LZ4",
    ".snappy": "Snappy",
    ".parquet": "Parquet",
    ".orc": "ORC",
    ".avro": "Avro",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".xls": "an Excel workbook",
    ".xlsx": "an Excel workbook",
}

_WIDE_CHARSET = re.compile(r"(?i)charset=[\"']?(?:utf-?(?:16|32)|ucs)")


def media_type(content_type: str | None) -> str:
    """Strip a content type of its parameters, and convert it to lower case; empty for None."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_csv(content_type: str | None) -> bool:
    """Recognize CSV and tab-separated values."""
    return media_type(content_type) in _LIKE_CSV | TSV


_DIVIDED_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[\[{]([^\r\n]*[\[{,:])?[ \t]*\r?\n")
"""A first line that begins a list or an object and ends where another value has to follow."""


def is_text(content_type: str | None) -> bool:
    """Decide whether a content type stands for text in an encoding that contains US-ASCII."""
    kind = media_type(content_type)
    return kind.startswith("text/") or kind in _MORE_TEXT or _is_json(kind) or is_csv(kind)


def _is_json(content_type: str | None) -> bool:
    kind = media_type(content_type)
    return kind in (JSON, JSON_LINES) or kind.endswith("+json")


def check_head(head: bytes, content_type: str | None, *, is_split: bool) -> None:
    """Refuse a binary input with a content type of text, before anything of it is sent.

    :param head: the input's first :data:`HEAD` bytes, or all if it has fewer
    :param content_type: one that :func:`is_text` accepts
    :param is_split: whether the input is split at line feeds; if not, the charset of the content type is permitted
    :raises InvalidRequest: with the recognized format and the remedy
    """
    other_format = _format_of(head[:HEAD])
    if other_format is None:
        if is_split and _is_json(content_type) and _DIVIDED_JSON.match(head):
            raise InvalidRequest(
                "the input's first line only begins a JSON value, so that a line is no record of it: use "
                'split_type="None" to send it whole, or write one JSON value a line. Nothing of it was sent'
            )
        return
    name, remedy = other_format
    if remedy in (_ENCODED, _NUL) and not is_split and _WIDE_CHARSET.search(str(content_type)):
        return
    raise InvalidRequest(
        f"the input looks like {name}, not like {media_type(content_type)}, its content_type: {remedy}. Nothing of it "
        f"was sent"
    )


def _format_of(head: bytes) -> tuple[str, str] | None:
    """Recognize a binary format; return its name and the remedy."""
    for formats in (_BINARY, _IN_LETTERS):
        for first_bytes, other_format in formats.items():
            if head.startswith(first_bytes) and (
                formats is _BINARY or _NO_TEXT.search(head, 0, _BEHIND_LETTERS)
            ):
                return other_format
    if _BZIP2.match(head):
        return "bzip2", _COMPRESSED
    if _PICKLE.match(head):
        return "a Python pickle", _TABLE
    # Texts hold other control bytes: Hive's separators, shifts of ISO 2022, MS-DOS's end of a file, stray ones.
    return ("UTF-16, UTF-32 or binary data (it holds a NUL byte)", _NUL) if b"\0" in head else None


def format_by_name(key: str, content_type: str | None) -> str | None:
    """Return the binary format of an object's suffix if its content type stands for text; else None."""
    return _SUFFIXES.get(key[key.rfind(".") :].lower()) if is_text(content_type) else None
