"""Access to AWS: the four arguments every AWS operator takes, as one value, and the session that its hooks share.

Importing this costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class SharedSession:
    """The session of all hooks of one connection: the first hook fills it (:mod:`airflow_sm_plugin.aws.hook`).

    Each session of its own would read Airflow's connection, search for credentials, and log both.

    :param is_logged: whether the connection was logged, which happens once
    """

    def __init__(self, *, is_logged: bool = False) -> None:
        self.lock = threading.RLock()
        """Held while a session or a client is made: boto3's session is not safe for that in several threads."""
        self.is_logged = is_logged
        self.conn_config: Any = None
        self.made: dict[str | None, tuple[Any, Any]] = {}
        """boto3's session and its credentials, by region."""


@dataclass(frozen=True, kw_only=True)
class AwsConnection:
    """The arguments of the Amazon provider's hooks.

    :param aws_conn_id: Airflow connection; None uses boto's default credential chain (MWAA's execution role)
    :param region_name: AWS region; None takes it from the connection or the environment
    :param verify: whether, or against which CA bundle, TLS is verified
    :param botocore_config: keyword arguments of :class:`botocore.config.Config`; not in the repr, since a proxy's URL
        may hold a password
    :param shared: the session of its hooks
    """

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: Mapping[str, Any] | None = field(default=None, repr=False)
    shared: SharedSession = field(default_factory=SharedSession, repr=False, compare=False)

    def hook_arguments(self) -> dict[str, Any]:
        """Make keyword arguments for our hooks, which share a session then."""
        values = self.as_mapping()
        return {"config": values.pop("botocore_config"), **values, "shared": self.shared}

    def as_mapping(self) -> dict[str, Any]:
        """Convert to JSON values, for a trigger's arguments; ``AwsConnection(**mapping)`` reads them back."""
        return {
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "botocore_config": dict(self.botocore_config) if self.botocore_config else None,
        }
