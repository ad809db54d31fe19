"""Read an object of any size piece by piece, on over connections that break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.errors import cause_of, meaning, status_of, translate
from airflow_sm_plugin.aws.retry import CHANGED, NOTHING_IN_RANGE, Patience, may_pass, pause
from airflow_sm_plugin.aws.s3.calls import S3Calls
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import InputNotFound, SageMakerInferenceError


def missing(location: str) -> InputNotFound:
    """Return the error for an object that is not there."""
    return InputNotFound(f"the object {location} does not exist: upload it first, or mend its name")


@dataclass
class Reading:
    """How far an object has been read, over all connections.

    :param changed: what is raised when the object is not the one of ``etag``, or of the first connection
    :param etag: as S3 spells it, in quotes; empty takes the object as it is found
    :param done: where to begin, in bytes
    """

    location: str
    changed: type[SageMakerInferenceError]
    etag: str = ""
    done: int = 0
    _patience: Patience = field(default_factory=Patience, init=False)
    _over: bool = field(default=False, init=False)

    async def chunks(self, calls: S3Calls) -> AsyncGenerator[bytes]:
        """Yield the object's bytes from ``done`` on; connections may break as :func:`repeated` endures it."""
        uri = S3Uri.parse_object(self.location)
        while not self._over:
            async with aclosing(self._rest(calls, uri)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _rest(self, calls: S3Calls, uri: S3Uri) -> AsyncGenerator[bytes]:
        try:
            async with calls.opened(uri, self.done, self.etag) as found:
                self.etag = found.etag
                async for chunk in found.chunks:
                    self.done += len(chunk)
                    if self._patience.failed:
                        self._patience = Patience()
                    yield chunk
            self._over = True
        except (ClientError, BotoCoreError) as error:
            await self._broke(error)

    async def _broke(self, error: ClientError | BotoCoreError) -> None:
        """Raise unless reading on may fare better, after a pause."""
        if self.done and isinstance(error, ClientError) and status_of(error) == NOTHING_IN_RANGE:
            self._over = True  # it ends here
            return
        if not may_pass(error) or self._patience.is_spent():
            raise self._unreadable(error) from cause_of(error)
        await pause(f"s3:GetObject {self.location}", error, self._patience.failed)

    def _unreadable(self, error: ClientError | BotoCoreError) -> SageMakerInferenceError:
        if isinstance(error, ClientError) and meaning(error) is Meaning.NOT_FOUND:
            return missing(self.location)
        if isinstance(error, ClientError) and status_of(error) == CHANGED:
            return self.changed(f"s3:GetObject {self.location}: somebody wrote it anew meanwhile")
        return translate(error, f"s3:GetObject {self.location}")
