"""Read an object of any size piece by piece, across broken connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.calls import AwsCalls
from airflow_sm_plugin.aws.errors import meaning, status_of, translate, words_of
from airflow_sm_plugin.aws.retry import CHANGED, NOTHING_IN_RANGE, Patience
from airflow_sm_plugin.core.s3 import S3Uri, object_not_found
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import SageMakerInferenceError


@dataclass
class Reading:
    """Progress of reading an object, over all connections.

    :param changed: the error when the object is not the one of ``etag``, or of the first connection
    :param etag: as S3 spells it, in quotes; empty takes the object as it is found
    :param done: where to begin, in bytes
    """

    location: str
    changed: type[SageMakerInferenceError]
    etag: str = ""
    done: int = 0
    _patience: Patience = field(default_factory=Patience, init=False)
    _is_over: bool = field(default=False, init=False)

    async def chunks(self, calls: AwsCalls) -> AsyncGenerator[bytes]:
        """Yield the object's bytes from ``done`` on; broken connections are endured as in :func:`repeated`."""
        while not self._is_over:
            async with aclosing(self._rest(calls)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _rest(self, calls: AwsCalls) -> AsyncGenerator[bytes]:
        uri = S3Uri.parse_object(self.location)
        rest = {"Range": f"bytes={self.done}-"} if self.done else {}
        if self.etag:
            rest["IfMatch"] = self.etag
        try:
            async with calls.opened("GetObject", Bucket=uri.bucket, Key=uri.key, **rest) as response:
                self.etag = response.get("ETag", "")
                async for chunk in response["Body"]:
                    self.done += len(chunk)
                    self._patience.succeeded()
                    yield chunk
            self._is_over = True
        except (ClientError, BotoCoreError) as error:
            await self._endure(error)

    async def _endure(self, error: ClientError | BotoCoreError) -> None:
        """Pause before the next connection; raise our error unless reading on may fare better."""
        if self.done and isinstance(error, ClientError) and status_of(error) == NOTHING_IN_RANGE:
            self._is_over = True  # it ends here
        elif not await self._patience.allows(f"s3:GetObject {self.location}", error):
            raise self._unreadable(error) from None

    def _unreadable(self, error: ClientError | BotoCoreError) -> SageMakerInferenceError:
        if isinstance(error, ClientError) and meaning(error) is Meaning.NOT_FOUND:
            return object_not_found(self.location, code=words_of(error)[0])
        if isinstance(error, ClientError) and status_of(error) == CHANGED:
            return self.changed(f"s3:GetObject {self.location}: another process wrote it meanwhile")
        return translate(error, f"s3:GetObject {self.location}")
