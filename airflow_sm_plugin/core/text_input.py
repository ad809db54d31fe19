"""What the bytes of a text input (CSV, JSON Lines) must be like before it is cut into records.

Names of formats and their first bytes are those of their specifications. Nothing is decoded here.
"""

from __future__ import annotations

import re

from airflow_sm_plugin.exceptions import InvalidRequest

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
HEAD = 32
"""Bytes of an input's beginning that tell what it is."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Of UTF-8: Excel's "CSV UTF-8" begins so. It says how the text is encoded and is no part of the first record."""

_MORE_TEXT = ("application/x-jsonlines", "application/jsonl", "application/x-ndjson")

_COMPRESSED = "decompress it, or write it with gzip and set compression_type='Gzip'"
_GZIP = "set compression_type='Gzip', or, where it is set, compress the object once only"
_TABLE = (
    "write it as text; an object in its own format needs split_type='None' and a content_type of that format"
)
_ENCODED = "write it as UTF-8"

_BINARY = {
    b"\x1f\x8b": ("gzip", _GZIP),
    b"PK\x03\x04": ("a ZIP file (an Excel workbook is one)", _COMPRESSED),
    b"\x28\xb5\x2f\xfd": ("Zstandard", _COMPRESSED),
    b"\xfd7zXZ\0": ("xz", _COMPRESSED),
    b"\x04\x22\x4d\x18": ("LZ4", _COMPRESSED),
    b"\xff\x06\0\0sNaPpY": ("Snappy", _COMPRESSED),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip file", _COMPRESSED),
    b"Obj\x01": ("Avro", _TABLE),
    b"ARROW1\0\0": ("Arrow", _TABLE),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Excel workbook", _TABLE),
    b"\xff\xfe\0\0": ("UTF-32", _ENCODED),
    b"\0\0\xfe\xff": ("UTF-32", _ENCODED),
    b"\xff\xfe": ("UTF-16", _ENCODED),
    b"\xfe\xff": ("UTF-16", _ENCODED),
}
"""By the first bytes, which no text in UTF-8 or another encoding that has US-ASCII begins with."""

_IN_LETTERS = {b"PAR1": ("Parquet", _TABLE), b"ORC": ("ORC", _TABLE)}
"""By letters that a column's name may begin with: bytes follow that no text holds."""

_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_WIDE = re.compile(rb"(?:[^\0]\0){4}|(?:\0[^\0]){4}|(?:[^\0]\0\0\0){2}|(?:\0\0\0[^\0]){2}")
"""US-ASCII in UTF-16 or UTF-32 without a byte order mark."""

SENT_AS_IT_IS = "SageMaker hands an object to the container as it is, and decompresses nothing"
"""What a warning about :func:`format_by_name` explains."""

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

# After an opening quote at a field's beginning: the field up to its closing quote, in one line. Another quote is text.
_SEPARATORS = b",;\t|"
_BEGIN = _SEPARATORS + rb"\n"
_QUOTES = re.compile(
    rb'(?:[^"]*+"(?:(?:(?<=[' + _BEGIN + rb']")|(?<=\A"))[^"\n]*+(?:""[^"\n]*+)*+"'
    rb"|(?<![" + _BEGIN + rb']")(?<!\A")))*+'
)
_QUOTED = re.compile(rb"(?:(?<=[" + _BEGIN + rb'])|\A)"[^"\n]*+(?:""[^"\n]*+)*+"')
_LONE_CR = re.compile(rb"\r[^\r\n]")  # the line end of old Macs
_WIDE_CHARSET = re.compile(r"(?i)charset=[\"']?(?:utf-?(?:16|32)|ucs)")


def media_type(content_type: str | None) -> str:
    """Return a content type without its parameters, in lower case; empty for None."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_text(content_type: str | None) -> bool:
    """Say whether a content type promises text that can be read as US-ASCII where it is US-ASCII."""
    kind = media_type(content_type)
    return kind.startswith("text/") or kind.endswith("+json") or kind in (JSON, JSON_LINES, *_MORE_TEXT)


def check_head(head: bytes, content_type: str | None, *, is_split: bool) -> None:
    """Refuse an input that is no text although its content type says so, before anything of it is sent.

    :param head: its first :data:`HEAD` bytes, all if it has fewer
    :param content_type: one that :func:`is_text` accepts
    :param is_split: whether it is cut at line feeds; else it may be in the encoding that the content type names
    :raises InvalidRequest: saying what the input looks like, and the remedy
    """
    looks = _format_of(head[:HEAD])
    if looks is None:
        return
    name, remedy = looks
    if remedy == _ENCODED and not is_split and _WIDE_CHARSET.search(str(content_type)):
        return
    raise InvalidRequest(
        f"the input looks like {name}, not like {media_type(content_type)}, its content_type: {remedy}. Nothing of it "
        f"was sent"
    )


def _format_of(head: bytes) -> tuple[str, str] | None:
    """Return what the first bytes are the sign of, with the remedy."""
    for signs in (_BINARY, _IN_LETTERS):
        for sign, looks in signs.items():
            if head.startswith(sign) and (signs is _BINARY or _NO_TEXT.search(head)):
                return looks
    if _BZIP2.match(head):
        return "bzip2", _COMPRESSED
    if _WIDE.match(head):
        return "UTF-16 or UTF-32", _ENCODED
    return None


def format_by_name(key: str, content_type: str | None) -> str | None:
    """Return the format that an object's name speaks of, where its content type promises text; else None."""
    if not is_text(content_type):
        return None
    return _SUFFIXES.get(key[key.rfind(".") :].lower())


def whole_csv_lines(block: bytes) -> int:
    """Return how many bytes of a block of lines are lines that each are a whole record of CSV.

    A line is none when a quoted field begins on it and does not end on it, or when a carriage return divides it. As
    RFC 4180 has it a quote begins a quoted field at a field's beginning only: in ``5" pipe`` it is text. Other
    separators than the comma count as well.

    :param block: lines, the last one perhaps without its end; where it begins a line begins
    """
    quote = _open_quote(block)
    whole = len(block) if quote < 0 else block.rfind(b"\n", 0, quote) + 1
    place = 0
    while b"\r" in block and (lone := _LONE_CR.search(block, place, whole)):
        begin, place = (
            block.rfind(b"\n", 0, lone.start()) + 1,
            block.find(b"\n", lone.start(), whole) + 1 or whole,
        )
        if _holds_lone_cr(block[begin:place]):
            return begin
    return whole


class CsvLine:
    """A line of CSV that comes in pieces and is not kept: whether it is a whole record, as :func:`whole_csv_lines`."""

    def __init__(self) -> None:
        self._before = b""
        self._has_lone_cr = False

    @property
    def is_whole(self) -> bool:
        """Whether the pieces so far are a whole record."""
        return not self._has_lone_cr and self._before != b'"'

    def add(self, piece: bytes) -> None:
        """Read a piece, without the line's end."""
        text = self._before + piece
        quote = _open_quote(text)
        self._has_lone_cr = self._has_lone_cr or _holds_lone_cr(text if quote < 0 else text[:quote])
        # The shortest text behind which the next piece means the same.
        if quote >= 0:
            self._before = b'"'
        elif text.endswith(b'"') and _open_quote(text + b'"') >= 0:
            self._before = b'""'
        elif text.endswith(b"\r"):
            self._before = b"_\r"
        else:
            self._before = b"" if text[-1:] in _SEPARATORS else b"_"


def _open_quote(text: bytes) -> int:
    """Return where a quoted field begins that does not end on its line; -1 where there is none."""
    if b'"' not in text:
        return -1
    understood = _QUOTES.match(text)
    return text.find(b'"', understood.end() if understood else 0)


def _holds_lone_cr(text: bytes) -> bool:
    """Say whether a carriage return lies outside of quoted fields and before the line's end."""
    return _LONE_CR.search(text) is not None and _LONE_CR.search(_QUOTED.sub(b"_", text)) is not None
