"""CustomAttributes: the one header that travels from the caller to the model and back, for trace ids and the like.

AWS: up to 1024 visible US-ASCII characters of an HTTP/1.1 header value. botocore sends longer and other values
mangled (measured with 1.43.117), so they are checked before the call.
"""

from __future__ import annotations

from airflow_sm_plugin.exceptions import InvalidCustomAttributes

MAX_LENGTH = 1024


def validate(value: str) -> str:
    """Check a value for a request. Errors name the character or length, never the value: it is sensitive.

    Permitted are 0x21-0x7E and spaces inside, at most 1024. Values of *responses* are never checked.

    :raises InvalidCustomAttributes: empty, too long, or with another character
    """
    if not isinstance(value, str):
        raise InvalidCustomAttributes(f"CustomAttributes must be text, not {type(value).__name__}")
    if not value:
        raise InvalidCustomAttributes("CustomAttributes are empty: pass None to send none")
    if len(value) > MAX_LENGTH:
        raise InvalidCustomAttributes(
            f"CustomAttributes are {len(value)} characters long, SageMaker takes up to {MAX_LENGTH}: "
            f"send an id and keep the rest elsewhere"
        )
    for position, character in enumerate(value, start=1):
        if not " " <= character <= "~":
            raise InvalidCustomAttributes(
                f"character {position} of the CustomAttributes is U+{ord(character):04X}; only visible US-ASCII "
                f"(0x21-0x7E) and inner spaces are allowed: percent-encode or base64-encode the value"
            )
    if value.strip(" ") != value:
        raise InvalidCustomAttributes(
            "CustomAttributes begin or end with a space, which HTTP drops: strip them"
        )
    return value
