"""Numbers, durations and names as people read them at a glance."""

from __future__ import annotations

from datetime import UTC, datetime

THIN = "\u202f"
"""A narrow space at which no line breaks."""

_UNITS = (
    (1, 60, 3_600, ("min", "s")),
    (60, 3_600, 86_400, ("h", "min")),
    (3_600, 86_400, float("inf"), ("d", "h")),
)
"""Seconds of the lesser and the greater unit, the duration below which both are used, their names."""

_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A, 0x0D)}


def count(number: int) -> str:
    """Format a whole number with its thousands apart: 12 345."""
    return f"{number:,}".replace(",", THIN)


def amount(number: float) -> str:
    """Format a number with about three digits: 0.12, 4.5, 67, 12 345."""
    if number < 1:
        return f"{number:.2f}".rstrip("0").rstrip(".")
    if number < 9.95:  # noqa: PLR2004 - what one decimal rounds up to two digits
        return f"{number:.1f}".removesuffix(".0")
    return count(round(number))


def duration(seconds: float) -> str:
    """Format a duration in its two greatest units: 340 ms, 4.2 s, 3 min 42 s, 2 h 3 min, 1 d 4 h."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.9995:  # noqa: PLR2004 - what rounds up to a second
        return f"{amount(seconds * 1_000)} ms"
    if seconds < 59.5:  # noqa: PLR2004 - what rounds up to a minute
        return f"{amount(seconds)} s"
    lesser, greater, _, names = next(unit for unit in _UNITS if round(seconds / unit[0]) * unit[0] < unit[2])
    above, rest = divmod(round(seconds / lesser), greater // lesser)
    return f"{count(above)} {names[0]} {rest} {names[1]}" if rest else f"{count(above)} {names[0]}"


def share(part: float, whole: float) -> str:
    """Format a part in percent; little is not rounded to nothing, nor nearly all to all."""
    if not whole or not part:
        return f"0{THIN}%"
    percent = 100 * part / whole
    if percent < 0.01:  # noqa: PLR2004 - percent, where two decimals would show nothing
        return f"< 0.01{THIN}%"
    if 99.99 < percent < 100:  # noqa: PLR2004 - percent, as above
        return f"> 99.99{THIN}%"
    return f"{percent:.2f}".rstrip("0").rstrip(".") + f"{THIN}%"


def plural(number: int, noun: str) -> str:
    """Format a count of things: 1 model, 2 models."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def ordinal(number: int) -> str:
    """Format the position in a row: 1st, 2nd, 3rd, 11th."""
    is_teen = number % 100 in (11, 12, 13)
    ending = "th" if is_teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{count(number)}{ending}"


def day(epoch_seconds: float) -> str:
    """Format the day of a time in epoch seconds, in UTC: 26 Nov 2026."""
    moment = datetime.fromtimestamp(epoch_seconds, UTC)
    return f"{moment.day} {moment:%b %Y}"


def clock(epoch_seconds: float, *, seconds: bool = True) -> str:
    """Format the time of day of a time in epoch seconds, in UTC: 03:04:05."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%H:%M:%S" if seconds else "%H:%M")


def period(began: float, ended: float) -> str:
    """Format a period, with each day named once: 26 Nov 2026, 03:04:05 to 03:06:00 UTC."""
    until = clock(ended) if day(began) == day(ended) else f"{day(ended)}, {clock(ended)}"
    return f"{day(began)}, {clock(began)} to {until} UTC"


def shortened(name: str, most: int) -> str:
    """Leave out the middle of a name that is longer than ``most`` characters."""
    if len(name) <= most:
        return name
    begin = (most - 1) // 2
    return f"{name[:begin]}…{name[len(name) - (most - 1 - begin) :]}"


def legible(text: str) -> str:
    """Replace the control characters that no HTML page holds."""
    return text.translate(_CONTROLS)
