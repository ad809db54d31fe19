"""Select the inputs below a prefix: no hidden objects, and of the others those that patterns match.

A name is hidden as Spark and Hadoop have it: it begins with ``.``, or with ``_`` and holds no ``=``, as a partition
does. So are checksums (``.crc``), files that Hadoop is still copying, and what Windows leaves in folders. ``.`` and
``..`` are names like any others. Files that Athena (``q.csv.metadata``) and Redshift (``manifest``) write beside data
are recognized by the data listed before them. Markers of folders (``x/``, ``x_$folder$``) are never inputs.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Iterable

from airflow_sm_plugin.core.s3 import relative_key
from airflow_sm_plugin.core.template_values import is_given, parsed, sequence
from airflow_sm_plugin.exceptions import InvalidRequest

_HADOOP_FOLDER = "_$folder$"
_FOLDERS, _EXCLUDED, _NOT_INCLUDED = "folder markers", "excluded", "not included"
_SUFFIXES = (".crc", "._COPYING_")
_WINDOWS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information")
"""In lower case: Windows ignores case."""
_OFFICE = "~$"
"""The prefix of the file that Office keeps beside an open document."""
_METADATA, _MANIFEST = ".metadata", "manifest"
_QUERY_RESULTS = (".csv", ".txt")
_UNLOADED = re.compile(r"(?:\d{4}_part_\d{2,}|\d{3})(?:\.[A-Za-z0-9.]+)?\Z")
"""How the name of a file of Redshift's UNLOAD ends, with and without PARALLEL; its manifest has the same beginning."""
_WILD = re.compile(r"[*?\[]")
_SET = re.compile(r"\[[_.]+\]")
_KINDS = (
    "*.crc",
    "*._COPYING_",
    *_WINDOWS,
    f"{_OFFICE}*",
    "_SUCCESS",
    "_committed_*",
    "_started_*",
    "_delta_log",
    "_temporary",
    "_spark_metadata",
    "_metadata",
    "_common_metadata",
    ".DS_Store",
    "._*",
    "_*",
    ".*",
)
"""Kinds of hidden names, for the log: the first match counts. The last two match every other hidden name."""

_MISTAKES = {
    r"\{[^{}]*,[^{}]*\}": "braces are no alternatives: give a pattern for each",
    r"\A!": "an exclamation mark negates only in brackets: give exclude instead",
    r"\A\./": "keys relative to inputs begin with no './'",
    r"\A\^|\$\Z|.\.\*|\\": "it is no regular expression: '*' is any characters, '?' one, '[*]' an asterisk",
}
"""Frequent mistakes in a pattern that matched nothing: an expression that finds the mistake, and the remedy."""

_EXAMPLES = 3
_LONGEST_PATTERN = 1_024


def hidden_names(key: str, *, prefix: str = "") -> list[str]:
    """Return the hidden names among a key's folders and its own, in order.

    :param prefix: of the listing: a name that begins in it was given by the user, and so is not hidden
    """
    if key == prefix:
        return []
    names = key[len(prefix) :].split("/")
    if prefix and not prefix.endswith("/"):
        del names[0]
    hidden = [name for name in names if _is_hidden(name)]
    last = key.rpartition("/")[2]
    if key.endswith(_SUFFIXES) and not (hidden and hidden[-1] == last):
        hidden.append(last)
    return hidden


def _is_hidden(name: str) -> bool:
    if name in (".", ".."):
        return False
    if name.startswith((".", _OFFICE)) or name.lower() in _WINDOWS:
        return True
    return name.startswith("_") and "=" not in name


def _kind(name: str) -> str:
    spellings = (name, name.lower())
    return next(kind for kind in _KINDS if any(fnmatch.fnmatchcase(name, kind) for name in spellings))


class _Companions:
    """Recognize files that Athena and Redshift write beside data by the data, which S3 lists before them.

    S3 lists in the order of the keys, so all keys between ``q.csv`` and ``q.csv.metadata`` begin with ``q.csv``, and
    all between ``u/0000_part_00`` and ``u/manifest`` with ``u/``: nothing else has to be remembered.
    """

    def __init__(self) -> None:
        self._expected: dict[str, tuple[str, str]] = {}

    def kind_of(self, key: str) -> str | None:
        """Classify the next object of a listing: its kind of companion, None for any other object."""
        if self._expected:
            self._expected = {
                companion: (begin, kind)
                for companion, (begin, kind) in self._expected.items()
                if key.startswith(begin)
            }
        if key.endswith(_QUERY_RESULTS):
            self._expected[f"{key}{_METADATA}"] = (key, f"*{_METADATA}")
        if unloaded := _UNLOADED.search(key, key.rfind("/") + 1):
            begin = key[: unloaded.start()]
            self._expected[f"{begin}{_MANIFEST}"] = (begin, f"*{_MANIFEST}")
        return self._expected[key][1] if key in self._expected else None


def patterns(value: object, name: str) -> tuple[str, ...]:
    """Read a list of patterns, from a list or text of one; empty when it is not given.

    :param name: of the argument, for the message
    :raises InvalidRequest: no list, an empty one, or an entry that can be no pattern of a relative key
    """
    if isinstance(value, str) and is_given(value) and parsed(value) is None:
        raise InvalidRequest(
            f"{name} must be a list, or text of one as JSON or Python writes it: give "
            f"{json.dumps([value.strip()[:80]])}, not {value!r:.80}"
        )
    given = sequence(value, name)
    if given is None:
        return ()
    if not given:
        raise InvalidRequest(f"{name} is an empty list: leave it out, or give patterns such as '*.csv'")
    for number, pattern in enumerate(given):
        _check_pattern(pattern, f"{name}[{number}]")
    return tuple(given)


def _check_pattern(pattern: object, name: str) -> None:
    if not isinstance(pattern, str) or not pattern:
        kind = "empty" if pattern == "" else type(pattern).__name__
        raise InvalidRequest(f"{name} must be a pattern such as '*.csv', not {kind}")
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidRequest(
            f"{name} has {len(pattern)} characters; a key, and so a pattern, has up to {_LONGEST_PATTERN}"
        )
    if pattern.startswith(("/", "s3://")):
        raise InvalidRequest(
            f"{name} is {pattern!r:.120}: it must match keys relative to inputs, such as 'day=1/a.csv', which begin "
            f"with no slash and no bucket"
        )
    if pattern.endswith("/"):
        raise InvalidRequest(
            f"{name} is {pattern!r:.120}: a pattern matches whole keys, and no input's ends in a slash; all below a "
            f"folder is {f'{pattern}*'!r:.120}"
        )


class _Pattern:
    """A shell pattern; ``*`` matches slashes, too, and ``**/`` matches no folder at all as well."""

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = (_expression(piece) for piece in re.split(r"(?:(?<=/)|(?<=\A))\*\*/", text))
        self.matches = re.compile(f"(?:{'(?:.*/)?'.join(pieces)})\\Z", re.DOTALL).match
        self._hidden = [part for part in text.split("/") if _is_hidden(part) or _SET.match(part)]
        last = text.rpartition("/")[2]
        if last.endswith((*_SUFFIXES, _METADATA, _MANIFEST)) and last not in self._hidden[-1:]:
            self._hidden.append(last)
        self.is_idle = True

    def names(self, hidden: Iterable[str]) -> bool:
        """Return whether each of the hidden names is named by a part of its own that is hidden itself, in order."""
        parts = iter(self._hidden)
        return all(any(fnmatch.fnmatchcase(name, part) for part in parts) for name in hidden)

    def described(self, prefix: str) -> str:
        """Describe the pattern for a message that it matched nothing, with a hint at the mistake."""
        hint = self._hint(prefix)
        return f"{self.text!r:.120}" + (f" ({hint})" if hint else "")

    def _hint(self, prefix: str) -> str:
        if hint := next((hint for sign, hint in _MISTAKES.items() if re.search(sign, self.text)), None):
            return hint
        if prefix and self.text.startswith(prefix):
            return f"it matches keys relative to inputs: leave {prefix!r:.120} out"
        if _WILD.search(self.text):
            return ""
        return f"it matches this very key alone; all below a folder is {f'{self.text}/*'!r:.120}"


def _expression(pattern: str) -> str:
    """Translate a pattern to a regular expression without its end."""
    expression = fnmatch.translate(pattern)
    return expression[: expression.rindex(")") + 1]


class InputSelection:
    """Select inputs among the objects below a prefix, and count the objects passed over.

    :param prefix: key prefix that the objects were listed by; a name that begins in it is never hidden
    :param include: patterns of relative keys (:func:`~airflow_sm_plugin.core.s3.relative_key`), one of which has to
        match; without patterns everything is taken. A hidden object is taken only where a pattern itself names it:
        ``_raw/*`` takes ``_raw/a.csv``, and neither ``_raw/_SUCCESS`` nor ``_other/a.csv``. Each hidden name needs a
        part of its own: ``_*/*`` takes no ``_raw/_SUCCESS``
    :param exclude: patterns of relative keys that are passed over; they win over ``include``
    """

    def __init__(self, prefix: str, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._prefix = prefix
        self._include = [_Pattern(text) for text in include]
        self._exclude = [_Pattern(text) for text in exclude]
        self._companions = _Companions()
        self._counts: Counter[str] = Counter()
        self._examples: list[str] = []

    def takes(self, key: str, *, even_hidden: bool = False) -> bool:
        """Decide whether the next object of the listing, which is in order of the keys, is an input.

        :param even_hidden: go by the patterns alone
        """
        reason = self._reason(key, even_hidden=even_hidden)
        if reason is None:
            return True
        self._counts[reason] += 1
        if len(self._examples) < _EXAMPLES:
            self._examples.append(key)
        return False

    def _reason(self, key: str, *, even_hidden: bool) -> str | None:
        """Return why an object is no input; None for an input."""
        companion = self._companions.kind_of(key)
        if key.endswith("/") or (key.endswith(_HADOOP_FOLDER) and key != self._prefix):
            return _FOLDERS
        hidden = [] if even_hidden else hidden_names(key, prefix=self._prefix)
        kind = _kind(hidden[0]) if hidden else companion
        last = key.rpartition("/")[2]
        if companion and last not in hidden[-1:] and key != self._prefix and not even_hidden:
            hidden.append(last)
        relative = relative_key(self._prefix, key)
        included, excluded = _matching(self._include, relative), _matching(self._exclude, relative)
        if hidden and not any(pattern.names(hidden) for pattern in included):
            return kind
        if self._include and not included:
            return _NOT_INCLUDED
        return _EXCLUDED if excluded else None

    @property
    def passed_over(self) -> int:
        return self._counts.total()

    @property
    def idle_include(self) -> list[str]:
        """Patterns of ``include`` that matched no key."""
        return [pattern.described(self._prefix) for pattern in self._include if pattern.is_idle]

    @property
    def idle_exclude(self) -> list[str]:
        """Patterns of ``exclude`` that matched no key."""
        return [pattern.described(self._prefix) for pattern in self._exclude if pattern.is_idle]

    def counts_in_words(self) -> str:
        """Summarise the objects passed over, the most frequent kind first: ``3 excluded, 1 _SUCCESS``."""
        return ", ".join(f"{count} {kind}" for kind, count in self._counts.most_common())

    def why_nothing(self) -> str:
        """Explain in a clause why no object is an input; empty where there were no objects and no likely mistake."""
        if not self.passed_over:
            return self._why_no_objects()
        objects = "the only object" if self.passed_over == 1 else f"all {self.passed_over} objects"
        examples = ", ".join(f"{key!r:.200}" for key in self._examples)
        idle = "".join(f"; no object matches include {pattern}" for pattern in self.idle_include)
        verb = "is" if self.passed_over == 1 else "are"
        return f"; {objects} there {verb} passed over ({self.counts_in_words()}): {examples}{idle}"

    def _why_no_objects(self) -> str:
        """Explain an empty listing by a pattern where a prefix is meant."""
        wild = _WILD.search(self._prefix)
        if wild is None:
            return ""
        cut = self._prefix.rfind("/", 0, wild.start()) + 1
        folder, pattern = self._prefix[:cut], self._prefix[cut:]
        pattern = f"{pattern}*" if pattern.endswith("/") else pattern
        end = f"let inputs end in {folder!r:.200}" if folder else "let inputs be the bucket"
        return f"; S3 takes {wild[0]!r} in a prefix as it is: {end}, and give include={json.dumps([pattern]):.200}"


def _matching(several: list[_Pattern], relative: str) -> list[_Pattern]:
    matching = [pattern for pattern in several if pattern.matches(relative)]
    for pattern in matching:
        pattern.is_idle = False
    return matching
