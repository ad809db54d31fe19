"""The task instance that made a resource, as people and other tasks can read it in the resource's tags.

A tag holds up to 256 letters, digits, spaces and ``_.:/=+-@``. Airflow's ids can hold other characters (``~``), which
are escaped as in MIME's quoted-printable.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from airflow_sm_plugin.core.names import CREATED_IN_TAG, DEPLOYED_IN_TAG, OWNER_TAG, owner_of

_LONGEST = 256
_PLAIN = "_.:+-"
_ESCAPED = re.compile(r"=([0-9A-F]{2})")
_PARTS = 3
_SITE_LENGTH = 8
_LOCAL = (".local", ".internal", ".localhost", ".localdomain")


def airflow_site(base_url: str) -> str:
    """Shorten an Airflow's address to a name that tells two Airflows of one AWS account apart; empty without one."""
    plain = base_url.strip().rstrip("/").lower()
    return hashlib.sha256(plain.encode()).hexdigest()[:_SITE_LENGTH] if plain else ""


def is_distinct(base_url: str) -> bool:
    """Check whether an Airflow's address tells it from others: it names a host beyond one machine or one network.

    ``localhost``, ``webserver`` or ``host.docker.internal`` are another host at each Airflow.
    """
    host = (urlsplit(base_url.strip()).hostname or "").rstrip(".")
    try:
        return not (address := ip_address(host)).is_loopback and not address.is_unspecified
    except ValueError:
        return "." in host and not host.endswith(_LOCAL)


@dataclass(frozen=True)
class MadeIn:
    """A task instance of an Airflow.

    :param site: the result of :func:`airflow_site`
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    site: str = ""

    @property
    def owner(self) -> str:
        """Return the value of :data:`~airflow_sm_plugin.core.names.OWNER_TAG` for this task instance."""
        return owner_of(
            dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, map_index=self.map_index
        )

    def as_tag(self) -> str | None:
        """Spell ``<DAG>/<run>/<task>[/<map index>]@<site>``; None where that is longer than a tag."""
        parts = [
            self.dag_id,
            self.run_id,
            self.task_id,
            *([str(self.map_index)] if self.map_index >= 0 else []),
        ]
        value = "/".join(map(_escaped, parts)) + f"@{self.site}"
        return value if len(value) <= _LONGEST else None

    @classmethod
    def from_tag(cls, value: str | None) -> MadeIn | None:
        """Read :meth:`as_tag`'s value; None for anything else."""
        parts, at, site = (value or "").rpartition("@")
        pieces = parts.split("/")
        if not at or not _PARTS <= len(pieces) <= _PARTS + 1 or not all(pieces):
            return None
        index = pieces[_PARTS] if len(pieces) > _PARTS else "-1"
        if not re.fullmatch(r"-1|[0-9]{1,9}", index):
            return None
        try:
            dag_id, run_id, task_id = map(_unescaped, pieces[:_PARTS])
        except UnicodeDecodeError:
            return None
        made = cls(dag_id, run_id, task_id, int(index), site)
        return made if made.as_tag() == value else None


def creator_in(tags: Mapping[str, str]) -> MadeIn | None:
    """Read the task instance that created a resource; None unless both of its tags name the same one."""
    made = MadeIn.from_tag(tags.get(CREATED_IN_TAG))
    return made if made is not None and made.owner == tags.get(OWNER_TAG) else None


def deployer_in(tags: Mapping[str, str]) -> MadeIn | None:
    """Read the task instance that deployed to an endpoint last, perhaps its creator; None where it is unreadable."""
    return MadeIn.from_tag(tags.get(DEPLOYED_IN_TAG)) if DEPLOYED_IN_TAG in tags else creator_in(tags)


def _escaped(text: str) -> str:
    return "".join(
        character
        if character in _PLAIN or unicodedata.category(character)[0] in "LN"
        else "".join(f"={byte:02X}" for byte in character.encode(errors="replace"))
        for character in text
    )


def _unescaped(text: str) -> str:
    pieces = _ESCAPED.split(text)
    raw = b"".join(
        bytes.fromhex(piece) if position % 2 else piece.encode() for position, piece in enumerate(pieces)
    )
    return raw.decode()
