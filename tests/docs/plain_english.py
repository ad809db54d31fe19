"""The sentences of a Markdown page, and their mean length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import mean

_FENCED = re.compile(r"^(`{3,}|:{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_BLOCKS = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )")
_LIST_MARK = re.compile(r"^(?:[-*]|\d+\.) ")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")
_END = re.compile(r"(?<=[.!?:])\*{0,2}\s+(?=[A-Z*\"x])")
_ABBREVIATED = re.compile(r"\b(e\.g|i\.e)\. ")


def sentences(page: str) -> Iterator[str]:
    """Yield each sentence of at least three words; code, tables, headings and comments aside. Code in a line is `x`."""
    prose = _COMMENT.sub("", _FENCED.sub("", page))
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith(("|", "#", "!", "[")))
    for block in _BLOCKS.split(prose):
        text = _CODE.sub("x", _LINK.sub(r"\1", _LIST_MARK.sub("", " ".join(block.split()))))
        text = _ABBREVIATED.sub(r"\1 ", text)
        yield from (sentence for sentence in _END.split(text) if len(sentence.split()) >= 3)


def mean_length(page: str) -> float:
    """Return the mean number of words of a page's sentences; 0 for a page without any."""
    lengths = [len(sentence.split()) for sentence in sentences(page)]
    return mean(lengths) if lengths else 0.0
