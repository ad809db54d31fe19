"""Read rendered templates: text of any value, objects that other tasks returned, ``None`` for absent values.

Each reader takes the value's name for its message, and raises :class:`InvalidRequest` where it cannot read the value.
Messages of the readers of texts, mappings and lists show nothing of the value: it may be a secret.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest

_SPELLED = (bool, int, float, Decimal, date, time, timedelta)
"""Types that become text by ``str()``, as in a template without native rendering."""
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def is_given(value: object) -> bool:
    """Return whether a value is not None, no empty text, and not the text that a template makes of None."""
    return value is not None and str(value).strip() not in ("", "None")


def text(value: object, name: str) -> str | None:
    return as_text(value, name) if is_given(value) else None


def as_text(value: object, name: str) -> str:
    """Read a value as text.

    Mappings and lists become JSON. A tuple of numbers, which is what native rendering makes of ``1,2,3``, is joined
    with commas. Numbers, booleans and dates are spelled as Python spells them.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, _SPELLED):
        return str(value)
    if isinstance(value, tuple):
        if value and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            return ",".join(map(str, value))
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        try:
            return json.dumps(dict(value) if isinstance(value, Mapping) else list(value), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            pass
    raise InvalidRequest(
        f"{name} must be text, not {type(value).__name__}: write it as text in the task before, and hand over that "
        f"task's output"
    )


def boolean(value: object, name: str) -> bool:
    """Read true or false, yes or no, 1 or 0, as text in any case or as they are."""
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise InvalidRequest(f"{name} must be true or false, not {value!r:.80}")
    return truth


def _finite(value: object) -> float | None:
    """Read a finite number or text of one; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        result = float(str(value))
    except ValueError:
        return None
    return result if math.isfinite(result) else None


def number(value: object, name: str, *, above: float | None = None) -> float:
    """Read a finite number; with ``above`` only a greater one."""
    result = _finite(value)
    if result is None or (above is not None and result <= above):
        limit = "" if above is None else f" greater than {above:g}"
        raise InvalidRequest(f"{name} must be a number{limit}, not {value!r:.80}")
    return result


def whole_number(value: object, name: str, *, at_least: int | None = 0) -> int:
    """Read a whole number; ``at_least=None`` leaves its limit to the caller."""
    result = _finite(value)
    if result is None or not result.is_integer() or (at_least is not None and result < at_least):
        limit = "" if at_least is None else f", {at_least} or more"
        raise InvalidRequest(f"{name} must be a whole number{limit}, not {value!r:.80}")
    return int(result)


def seconds(value: object, name: str, *, positive: bool = False) -> float:
    """Read a duration in seconds; with ``positive`` 0 is refused as well."""
    result = number(value, name)
    if result < 0 or (positive and result == 0):
        raise InvalidRequest(
            f"{name} must be {'more than 0' if positive else '0 or more'} seconds, not {value!r:.80}"
        )
    return result


def choice(value: object, name: str, choices: Sequence[str]) -> str:
    """Read one of ``choices``. Case counts, since most are AWS's own words."""
    if value not in choices:
        raise InvalidRequest(f"{name} must be one of {', '.join(choices)}, not {value!r:.80}")
    return str(value)


def mapping(value: object, name: str) -> Mapping[str, Any] | None:
    """Read a mapping with text keys, or its text as JSON or Python writes it; None when not given."""
    if not is_given(value):
        return None
    found = parsed(value)
    if not isinstance(found, Mapping):
        raise InvalidRequest(
            f"{name} must be a mapping, or text of one as JSON or Python writes it{_not_so(value)}"
        )
    if not all(isinstance(key, str) for key in found):
        raise InvalidRequest(f"{name} must be a mapping whose keys are all text: put them in quotes")
    return found


def texts_by_name(value: object, name: str) -> dict[str, str] | None:
    """Read a mapping as :func:`mapping` does, each of its values as :func:`as_text` does: tags and the like."""
    found = mapping(value, name)
    if found is None:
        return None
    in_json = isinstance(value, str) and isinstance(_read(json.loads, value), Mapping)
    return {
        key: json.dumps(item) if in_json and isinstance(item, bool) else as_text(item, f"{name}[{key!r:.80}]")
        for key, item in found.items()
    }


def sequence(value: object, name: str) -> Sequence[Any] | None:
    """Read a list or its like, or its text as JSON or Python writes it; None when not given.

    One text is no list of its characters.
    """
    if not is_given(value):
        return None
    found = parsed(value)
    if not isinstance(found, Sequence) or isinstance(found, str | bytes | bytearray):
        raise InvalidRequest(
            f"{name} must be a list, or text of one as JSON or Python writes it{_not_so(value)}"
        )
    return found


def mappings(value: object, name: str) -> list[Mapping[str, Any]] | None:
    items = sequence(value, name)
    if items is None:
        return None
    return [mapping(item, f"{name}[{index}]") or {} for index, item in enumerate(items)]


def names(value: object, name: str) -> list[str] | None:
    items = sequence(value, name)
    return None if items is None else [as_text(item, f"{name}[{index}]") for index, item in enumerate(items)]


def parsed(value: object) -> object:
    """Evaluate text as JSON or a Python literal, None where it is neither; other values stay as they are."""
    if not isinstance(value, str):
        return value
    from_json = _read(json.loads, value)
    return _read(ast.literal_eval, value) if from_json is None else from_json


def _read(reader: Callable[[str], object], value: str) -> object:
    try:
        return reader(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _not_so(value: object) -> str:
    return ", and this text is neither" if isinstance(value, str) else f", not {type(value).__name__}"
