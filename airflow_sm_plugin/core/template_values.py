"""Read what templates render: Airflow makes text of all that is not, and ``None`` or nothing of what is absent."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def is_given(value: object) -> bool:
    """Say whether a value is there: not None, no empty text, and not the text that a template makes of None."""
    return value is not None and str(value).strip() not in ("", "None")


def boolean(value: object, name: str) -> bool:
    """Return a boolean for true or false, yes or no, 1 or 0, as text in any case or as they are.

    :param name: what the value is, for the message
    :raises InvalidRequest: anything else
    """
    said = _TRUTH.get(str(value).strip().lower())
    if said is None:
        raise InvalidRequest(f"{name} must be true or false, not {value!r:.80}")
    return said


def number(value: object, name: str) -> float:
    """Return a finite number.

    :param name: what the value is, for the message
    :raises InvalidRequest: no number, infinite, or not a number by its own name
    """
    try:
        found = float(str(value))
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a number, not {value!r:.80}") from error
    if not math.isfinite(found) or isinstance(value, bool):
        raise InvalidRequest(f"{name} must be a number, not {value!r:.80}")
    return found


def whole_number(value: object, name: str, *, at_least: int = 0) -> int:
    """Return a whole number.

    :param name: what the value is, for the message
    :raises InvalidRequest: no whole number, or a smaller one than ``at_least``
    """
    found = number(value, name)
    if not found.is_integer() or found < at_least:
        raise InvalidRequest(f"{name} must be a whole number, {at_least} or more, not {value!r:.80}")
    return int(found)


def seconds(value: object, name: str, *, positive: bool = False) -> float:
    """Return a duration in seconds.

    :param name: what the value is, for the message
    :param positive: whether 0 is refused as well, e.g. for the pause between looks
    :raises InvalidRequest: no number, or a negative one
    """
    found = number(value, name)
    if found < 0 or (positive and found == 0):
        raise InvalidRequest(
            f"{name} must be {'more than 0' if positive else '0 or more'} seconds, not {value!r:.80}"
        )
    return found


def choice(value: object, name: str, choices: Sequence[str]) -> str:
    """Return the one of ``choices`` that the value is.

    :param name: what the value is, for the message
    :raises InvalidRequest: it is none of them; case counts, since most are AWS's own words
    """
    if value not in choices:
        raise InvalidRequest(f"{name} must be one of {', '.join(choices)}, not {value!r:.80}")
    return str(value)


def mapping(value: object, name: str) -> Mapping[str, Any] | None:
    """Return a mapping with text keys, as it is or read off text: JSON, or what Python writes; None when not given.

    :param name: what the value is, for the message, which shows nothing of the value: it may be a secret
    :raises InvalidRequest: anything else
    """
    if not is_given(value):
        return None
    found = _parsed(value)
    if not isinstance(found, Mapping):
        raise InvalidRequest(
            f"{name} must be a mapping, or text of one as JSON or Python writes it{_not_so(value)}"
        )
    if not all(isinstance(key, str) for key in found):
        raise InvalidRequest(f"{name} must be a mapping whose keys are all text: put them in quotes")
    return found


def sequence(value: object, name: str) -> Sequence[Any] | None:
    """Return a list or its like, as it is or read off text: JSON, or what Python writes; None when not given.

    :param name: what the value is, for the message, which shows nothing of the value: it may be a secret
    :raises InvalidRequest: anything else; one text is no list of its characters
    """
    if not is_given(value):
        return None
    found = _parsed(value)
    if not isinstance(found, Sequence) or isinstance(found, str | bytes | bytearray):
        raise InvalidRequest(
            f"{name} must be a list, or text of one as JSON or Python writes it{_not_so(value)}"
        )
    return found


def mappings(value: object, name: str) -> list[Mapping[str, Any]] | None:
    """Return a list of mappings, each as :func:`mapping` takes it; None when the list is not given.

    :param name: what the value is, for the message, which shows nothing of the value: it may be a secret
    :raises InvalidRequest: anything else
    """
    found = sequence(value, name)
    if found is None:
        return None
    return [mapping(item, f"{name}[{number}]") or {} for number, item in enumerate(found)]


def _parsed(value: object) -> object:
    """Return what a text spells, None when nothing; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            found: object = read(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        return found
    return None


def _not_so(value: object) -> str:
    return ", and this text is neither" if isinstance(value, str) else f", not {type(value).__name__}"
