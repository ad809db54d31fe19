"""Check texts for HTTP headers, which carry only visible US-ASCII, with spaces inside only, unchanged.

HTTP drops spaces at both ends of a value, so that ``"7 "`` would name the model ``7``; what becomes of other characters
is documented nowhere.
"""

from __future__ import annotations

from airflow_sm_plugin.exceptions import InvalidRequest

LONGEST_HEADER = 1_024
"""Characters that SageMaker takes of most headers."""


def unsendable(value: str) -> str | None:
    """Describe the first character that a header would change, such as ``U+0020 at its end``; else None."""
    bad = next((character for character in value if not " " <= character <= "~"), None)
    if bad is not None:
        return f"U+{ord(bad):04X}"
    if value.startswith(" "):
        return "U+0020 at its beginning"
    return "U+0020 at its end" if value.endswith(" ") else None


def check_header(value: str | None, argument: str, *, longest: int = LONGEST_HEADER) -> None:
    """Refuse a value that SageMaker would not receive unchanged; None is not sent.

    :param argument: name of the value, for the message, which shows the value
    :raises InvalidRequest: empty, too long, or with a character that a header drops or changes
    """
    if value is None:
        return
    if not 1 <= len(value) <= longest:
        raise InvalidRequest(
            f"{argument} has {len(value)} characters, SageMaker takes 1 to {longest}: {value[:80]!r}"
        )
    if bad := unsendable(value):
        raise InvalidRequest(
            f"{argument} {value[:80]!r} is not allowed: it holds {bad}, and SageMaker takes it in an HTTP header of "
            f"visible US-ASCII, with spaces inside only"
        )
