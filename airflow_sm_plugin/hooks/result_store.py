"""Inputs, outputs and failure objects of asynchronous inference in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from airflow_sm_plugin.core.async_inference import AsyncInvocation, Look, Sight
from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import InputNotFound
from airflow_sm_plugin.hooks.errors import meaning, translate, translated

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
        """Say whether an object is there; an error of the service is no verdict.

        :raises SageMakerInferenceError: nothing was asked and nothing ever will be: no credentials, no region, a
            location that botocore refuses
        """
        uri = S3Uri.parse_object(location)
        try:
            self.client.head_object(Bucket=uri.bucket, Key=uri.key)
        except (ClientError, BotoCoreError) as error:
            return _sight_of(error, location)
        return Sight.PRESENT

    def why_blind(self, location: str) -> str:
        """Look once more and say what keeps S3 from answering, for an error's text."""
        uri = S3Uri.parse_object(location)
        try:
            self.client.head_object(Bucket=uri.bucket, Key=uri.key)
        except (ClientError, BotoCoreError) as error:
            if _sight_of(error, location) is Sight.UNKNOWN:
                return str(translate(error, _looking_at(location)))
        return "it answers again now"

    def look(self, invocation: AsyncInvocation) -> Look:
        """Look at an invocation's output and, unless it is there, at its failure object."""
        output = self.sight(invocation.output_location)
        if output is Sight.PRESENT or invocation.failure_location is None:
            return Look(output, Sight.ABSENT)
        return Look(output, self.sight(invocation.failure_location))

    def read(self, location: str, *, limit: int) -> bytes:
        """Return an object, or its first ``limit`` bytes when it has more.

        :raises InputNotFound: it does not exist
        :raises ServiceError: S3 refused or did not answer
        """
        uri = S3Uri.parse_object(location)
        with translated(f"s3:GetObject {location}"):
            try:
                answer = self.client.get_object(Bucket=uri.bucket, Key=uri.key)
            except ClientError as error:
                if meaning(error) is not Meaning.NOT_FOUND:
                    raise
                raise InputNotFound(
                    f"the object {location} does not exist: upload it first, or mend its name"
                ) from error
            with answer["Body"] as stream:
                return stream.read(limit)

    def write(self, location: str, body: bytes, *, content_type: str | None = None) -> None:
        """Write an object.

        :raises ServiceError: S3 refused or did not answer
        """
        uri = S3Uri.parse_object(location)
        extra: dict[str, Any] = {"ContentType": content_type} if content_type else {}
        with translated(f"s3:PutObject {location}"):
            self.client.put_object(Bucket=uri.bucket, Key=uri.key, Body=body, **extra)

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
        return _sight_of(error, location)
    return Sight.PRESENT


def _sight_of(error: ClientError | BotoCoreError, location: str) -> Sight:
    if isinstance(error, ClientError):
        return _SIGHTS.get(meaning(error), Sight.UNKNOWN)
    ours = translate(error, _looking_at(location))
    # Credentials that could not be fetched just now may be fetched at the next look.
    if ours.retryable or isinstance(error, CredentialRetrievalError):
        return Sight.UNKNOWN
    raise ours from error


def _looking_at(location: str) -> str:
    return f"s3:HeadObject {location}"
