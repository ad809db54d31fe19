"""Where the links of a task lead: AWS's console, or the pages of an embedded SageMaker."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urljoin

_PAGES = re.compile(r"https?://[^\s\"'<>/?#@]+/[^\s\"'<>?#]*")


@dataclass(frozen=True)
class Console:
    """The console of one task's endpoints and objects.

    :param endpoint_pages: address of the embedded SageMaker's pages, with a slash at its end, where SageMaker's calls
        go to one; empty for AWS's console
    :param object_pages: the same for S3's calls
    """

    region_name: str
    endpoint_pages: str = ""
    object_pages: str = ""


def pages_named(health: bytes, *, base: str) -> str:
    """Read the address of the pages from an embedded SageMaker's health; empty where this is none.

    :param health: the answer's body
    :param base: address of the server that gave it
    """
    try:
        answer = json.loads(health)
    except (ValueError, RecursionError):
        return ""
    named = answer.get("ui") if isinstance(answer, dict) else None
    if not isinstance(named, str) or not named.endswith("/"):
        return ""
    address = urljoin(base, named)
    return address if _PAGES.fullmatch(address) else ""
