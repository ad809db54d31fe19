"""Access to AWS: the four arguments every AWS operator takes, as one value. Importing this costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AwsConnection:
    """The arguments of the Amazon provider's hooks.

    :param aws_conn_id: Airflow connection; None uses boto's default credential chain (MWAA's execution role)
    :param region_name: AWS region; None takes it from the connection or the environment
    :param verify: whether, or against which CA bundle, TLS is verified
    :param botocore_config: keyword arguments of :class:`botocore.config.Config`; not in the repr, since a proxy's URL
        may hold a password
    """

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: Mapping[str, Any] | None = field(default=None, repr=False)

    def hook_arguments(self) -> dict[str, Any]:
        """Make keyword arguments for any hook built on the provider's ``AwsBaseHook``."""
        return {
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "config": dict(self.botocore_config) if self.botocore_config else None,
        }

    def as_mapping(self) -> dict[str, Any]:
        """Convert to JSON values, for a trigger's arguments; ``AwsConnection(**mapping)`` reads them back."""
        arguments = self.hook_arguments()
        return {"botocore_config": arguments.pop("config"), **arguments}
