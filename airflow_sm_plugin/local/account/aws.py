"""Clients of the AWS services around the embedded SageMaker, which moto answers behind the same address."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.session import Session

from airflow_sm_plugin.local.protocol.access import OWN_ACCESS_KEY

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

ACCOUNT_ID = "123456789012"

_NOT_THE_USERS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""botocore's session variables (config name, environment name, default, conversion): a profile set for the
user's own account must not reach, or stop, these clients."""


class AwsClients:
    """Boto3 clients by service and region, each created once. Thread-safe."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], object] = {}
        self._session = boto3.Session(
            aws_access_key_id=OWN_ACCESS_KEY,
            aws_secret_access_key="embedded",  # noqa: S106 - not a secret: moto takes any
            botocore_session=Session(session_vars=_NOT_THE_USERS),
        )

    @property
    def url(self) -> str:
        return self._url()

    def s3(self, region: str) -> S3Client:
        return cast("S3Client", self._client("s3", region))

    def sns(self, region: str) -> SNSClient:
        return cast("SNSClient", self._client("sns", region))

    def logs(self, region: str) -> CloudWatchLogsClient:
        return cast("CloudWatchLogsClient", self._client("logs", region))

    def cloudwatch(self, region: str) -> CloudWatchClient:
        return cast("CloudWatchClient", self._client("cloudwatch", region))

    def autoscaling(self, region: str) -> ApplicationAutoScalingClient:
        return cast("ApplicationAutoScalingClient", self._client("application-autoscaling", region))

    def _client(self, service: str, region: str) -> object:
        with self._lock:
            if (service, region) not in self._clients:
                make = cast("Callable[..., Any]", self._session.client)
                self._clients[service, region] = make(
                    service,
                    region_name=region,
                    endpoint_url=self._url(),
                    config=Config(
                        s3={"addressing_style": "path"},
                        proxies={},
                        retries={"mode": "standard", "total_max_attempts": 2},
                        max_pool_connections=32,
                    ),
                )
            return self._clients[service, region]
