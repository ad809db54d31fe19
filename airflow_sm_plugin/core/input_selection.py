"""Which objects below a prefix are inputs: none that is hidden, and of the others those that patterns select.

A name is hidden as Spark and Hadoop have it: it begins with ``.``, or with ``_`` and holds no ``=``, as a partition
does. So are checksums (``.crc``), files that Hadoop is still copying, and what Windows leaves in folders. Markers of
folders (``x/``, ``x_$folder$``) are never inputs.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable

from airflow_sm_plugin.core.key_fields import relative_key
from airflow_sm_plugin.core.template_values import sequence
from airflow_sm_plugin.exceptions import InvalidRequest

_HADOOP_FOLDER = "_$folder$"
_FOLDERS, _EXCLUDED, _NOT_INCLUDED = "folder markers", "excluded", "not included"
_SUFFIXES = (".crc", "._COPYING_")
_NAMES = ("Thumbs.db", "desktop.ini")
_KINDS = (
    "*.crc",
    "*._COPYING_",
    *_NAMES,
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
"""Kinds of hidden names, for the log: the first that matches is a name's. The last two match every other one."""

_EXAMPLES = 3
_LONGEST_PATTERN = 1_024


def hidden_names(key: str, *, prefix: str = "") -> dict[str, str]:
    """Return the hidden names among a key's folders and its own, each with its kind.

    :param prefix: what the key was listed by: a name that begins in it was given, and so is not hidden
    """
    if key == prefix:
        return {}
    names = key[len(prefix) :].split("/")
    if prefix and not prefix.endswith("/"):
        del names[0]
    hidden = [name for name in names if _is_hidden(name)]
    if key.endswith(_SUFFIXES):
        hidden.append(key.rpartition("/")[2])
    return {name: _kind(name) for name in hidden}


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name in _NAMES


def _kind(name: str) -> str:
    return next(kind for kind in _KINDS if fnmatch.fnmatchcase(name, kind))


def patterns(value: object, name: str) -> tuple[str, ...]:
    """Return a list of patterns, as it is or read off text; none when it is not given.

    :param name: the argument, for the message
    :raises InvalidRequest: no list, an empty one, or an entry that can be no pattern of a relative key
    """
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


class _Pattern:
    """A pattern as the shell has them, whose ``*`` matches slashes, too."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matches = re.compile(fnmatch.translate(text)).match
        self.hidden = tuple(hidden_names(text))
        self.is_idle = True


class InputSelection:
    """Choose inputs among the objects below a prefix, and count what is passed over.

    :param prefix: key prefix that the objects were listed by; a name that begins in it is never hidden
    :param include: patterns of relative keys (:func:`~airflow_sm_plugin.core.key_fields.relative_key`); one has to
        match, and none at all takes everything. What is hidden is taken only where a pattern itself names it:
        ``_raw/*`` takes ``_raw/a.csv``, and neither ``_raw/_SUCCESS`` nor ``_other/a.csv``
    :param exclude: patterns of relative keys that are passed over; they win
    """

    def __init__(self, prefix: str, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._prefix = prefix
        self._include = [_Pattern(text) for text in include]
        self._exclude = [_Pattern(text) for text in exclude]
        self._counts: Counter[str] = Counter()
        self._examples: list[str] = []

    def takes(self, key: str, *, even_hidden: bool = False) -> bool:
        """Decide whether an object is an input.

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
        """Return why an object is no input; None where it is one."""
        if key.endswith("/") or (key.endswith(_HADOOP_FOLDER) and key != self._prefix):
            return _FOLDERS
        hidden = {} if even_hidden else hidden_names(key, prefix=self._prefix)
        relative = relative_key(self._prefix, key)
        included, excluded = _matching(self._include, relative), _matching(self._exclude, relative)
        if hidden and not any(_names_all(pattern, hidden) for pattern in included):
            return next(iter(hidden.values()))
        if self._include and not included:
            return _NOT_INCLUDED
        return _EXCLUDED if excluded else None

    @property
    def passed_over(self) -> int:
        """How many objects were no inputs."""
        return self._counts.total()

    @property
    def idle_include(self) -> list[str]:
        """Patterns of ``include`` that matched no key."""
        return _idle(self._include)

    @property
    def idle_exclude(self) -> list[str]:
        """Patterns of ``exclude`` that matched no key."""
        return _idle(self._exclude)

    def counts_in_words(self) -> str:
        """Return what was passed over, the most frequent kind first: ``3 excluded, 1 _SUCCESS``."""
        return ", ".join(f"{count} {kind}" for kind, count in self._counts.most_common())

    def why_nothing(self) -> str:
        """Return why no object is an input, as a clause; empty where there were no objects."""
        if not self.passed_over:
            return ""
        what = "the only object" if self.passed_over == 1 else f"all {self.passed_over} objects"
        examples = ", ".join(f"{key!r:.200}" for key in self._examples)
        idle = "".join(f"; no object matches include {pattern}" for pattern in self.idle_include)
        verb = "is" if self.passed_over == 1 else "are"
        return f"; {what} there {verb} passed over ({self.counts_in_words()}): {examples}{idle}"


def _matching(several: list[_Pattern], relative: str) -> list[_Pattern]:
    found = [pattern for pattern in several if pattern.matches(relative)]
    for pattern in found:
        pattern.is_idle = False
    return found


def _idle(several: list[_Pattern]) -> list[str]:
    return [f"{pattern.text!r:.120}" for pattern in several if pattern.is_idle]


def _names_all(pattern: _Pattern, hidden: Iterable[str]) -> bool:
    """Tell whether each hidden name is named by a part of the pattern that is hidden itself."""
    return all(any(fnmatch.fnmatchcase(name, part) for part in pattern.hidden) for name in hidden)
