"""Inputs, outputs and failure objects of asynchronous inference in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.core.async_inference import AsyncInvocation, Look, Sight
from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.hooks.errors import meaning, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from types_aiobotocore_s3 import S3Client as AsyncS3Client

_SIGHTS = {Meaning.NOT_FOUND: Sight.ABSENT, Meaning.ACCESS_DENIED: Sight.FORBIDDEN}


class ResultStoreHook(AwsBaseHook):
    """Look at and read result objects. Takes the arguments of the provider's ``AwsBaseHook``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "s3"
        super().__init__(*args, **kwargs)

    @property
    def client(self) -> S3Client:
        """Return the boto3 client."""
        return cast("S3Client", self.get_conn())

    def sight(self, location: str) -> Sight:
        """Say whether an object is there; an error of the service is no verdict."""
        uri = S3Uri.parse_object(location)
        try:
            self.client.head_object(Bucket=uri.bucket, Key=uri.key)
        except (ClientError, BotoCoreError) as error:
            return _sight_of(error)
        return Sight.PRESENT

    def look(self, invocation: AsyncInvocation) -> Look:
        """Look at an invocation's output and, unless it is there, at its failure object."""
        output = self.sight(invocation.output_location)
        if output is Sight.PRESENT or invocation.failure_location is None:
            return Look(output, Sight.ABSENT)
        return Look(output, self.sight(invocation.failure_location))

    def read_start(self, location: str, limit: int) -> str:
        """Return the first ``limit`` bytes of an object as text; what is no UTF-8 becomes U+FFFD."""
        uri = S3Uri.parse_object(location)
        with translated(f"s3:GetObject {location}"):
            answer = self.client.get_object(Bucket=uri.bucket, Key=uri.key)
            with answer["Body"] as stream:
                return stream.read(limit).decode("utf-8", errors="replace")


async def look(client: AsyncS3Client, invocation: AsyncInvocation) -> Look:
    """Look once from a triggerer's event loop."""
    output = await _sight(client, invocation.output_location)
    if output is Sight.PRESENT or invocation.failure_location is None:
        return Look(output, Sight.ABSENT)
    return Look(output, await _sight(client, invocation.failure_location))


async def _sight(client: AsyncS3Client, location: str) -> Sight:
    uri = S3Uri.parse_object(location)
    try:
        await client.head_object(Bucket=uri.bucket, Key=uri.key)
    except (ClientError, BotoCoreError) as error:
        return _sight_of(error)
    return Sight.PRESENT


def _sight_of(error: ClientError | BotoCoreError) -> Sight:
    return _SIGHTS.get(meaning(error), Sight.UNKNOWN) if isinstance(error, ClientError) else Sight.UNKNOWN
