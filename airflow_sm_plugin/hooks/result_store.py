"""Objects in S3 for blocking tasks: payloads and outputs of real-time inference, ETags of artefacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translated, words_of
from airflow_sm_plugin.aws.hook import AwsHook
from airflow_sm_plugin.core.s3 import S3Uri, object_not_found
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import AccessDenied, RequestRefused
from airflow_sm_plugin.resources.containers import artefact_of
from airflow_sm_plugin.resources.model import ModelSpec

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client


class _S3Hook(AwsHook):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "s3"
        super().__init__(*args, **kwargs)

    @property
    def client(self) -> S3Client:
        return cast("S3Client", self.get_conn())


class ResultStoreHook(_S3Hook):
    """Read and write whole objects. Takes the arguments of the provider's ``AwsBaseHook``."""

    def read(self, location: str, *, limit: int) -> bytes:
        """Read an object, or its first ``limit`` bytes when it is larger.

        :raises InputNotFound: it does not exist
        :raises ServiceError: S3 refused or did not answer
        """
        uri = S3Uri.parse_object(location)
        with translated(f"s3:GetObject {location}"):
            try:
                response = self.client.get_object(Bucket=uri.bucket, Key=uri.key)
            except ClientError as error:
                if meaning(error) is not Meaning.NOT_FOUND:
                    raise
                raise object_not_found(location, code=words_of(error)[0]) from None
            with closing(response["Body"]) as stream:  # as its own context it is another, that checks nothing
                return _read(stream, limit)

    def write(self, location: str, body: bytes, *, content_type: str | None = None) -> None:
        """Write an object.

        :param content_type: as the container sent it; omitted if no header can carry it
        :raises ServiceError: S3 refused or did not answer
        """
        uri = S3Uri.parse_object(location)
        fits = content_type and content_type.isascii() and content_type.isprintable()
        extra: dict[str, Any] = {"ContentType": content_type} if fits else {}
        with translated(f"s3:PutObject {location}"):
            self.client.put_object(Bucket=uri.bucket, Key=uri.key, Body=body, **extra)


def _read(stream: StreamingBody, limit: int) -> bytes:
    """Read to the limit or to the end: botocore detects a truncated object only at its end."""
    body = b""
    while len(body) < limit and (piece := stream.read(limit - len(body))):
        body += piece
    return body


class ArtefactHook(_S3Hook):
    """Read ETags of artefacts. Takes the arguments of the provider's ``AwsBaseHook``."""

    def with_etags(self, spec: ModelSpec) -> ModelSpec:
        """Return the spec with the ETags of its containers' artefacts, so far as they can be read.

        :raises ServiceError: as :meth:`etags`
        """
        etags = self.etags(map(artefact_of, spec.containers))
        return dataclasses.replace(spec, artefact_etags=etags if any(etags) else ())

    def etags(self, locations: Iterable[str | None]) -> list[str | None]:
        """Return the artefacts' ETags in their order; one HEAD for each different location.

        None stands for no artefact, one that this role is not permitted to read (SageMaker reads with its own), and one
        that does not exist: CreateModel refuses that, but an existing model may be reused, so it is warned of.

        :raises ServiceError: S3 could not answer now; a name derived without the ETag would be another one
        """
        given = list(locations)
        etags = {location: self._etag(location) for location in dict.fromkeys(given) if location is not None}
        return [None if location is None else etags[location] for location in given]

    def _etag(self, location: str) -> str | None:
        uri = S3Uri.parse_object(location, name="model_data_url")
        try:
            with translated(f"s3:HeadObject {location}"):
                return self.client.head_object(Bucket=uri.bucket, Key=uri.key)["ETag"].strip('"')
        except RequestRefused as error:
            cause = error.__context__
            if isinstance(cause, ClientError) and meaning(cause) is Meaning.NOT_FOUND:
                self.log.warning(
                    "the artefact %s does not exist: no new model can be made of it, and where one is reused, no "
                    "instance of it starts",
                    location,
                )
            else:
                self.log.info("changes of the artefact %s cannot be seen: %s", location, error)
        except AccessDenied as denied:
            self.log.info("changes of the artefact %s cannot be seen: %s", location, denied)
        return None
