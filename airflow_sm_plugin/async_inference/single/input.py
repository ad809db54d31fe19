"""What one asynchronous invocation is to send, and its input: looked at, or uploaded, before it is sent."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from hashlib import sha256

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.single.state import OnUnknown
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.batches.text_input import SENT_AS_IT_IS, format_by_name
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.s3 import Presence, S3Uri, check_input_location
from airflow_sm_plugin.exceptions import InputNotFound, InvalidRequest, ServiceError
from airflow_sm_plugin.invoke.async_request import MAX_INLINE_BYTES, AsyncRequest

log = get_log(__name__)

LOOKS = 5
"""At an input, while S3 does not tell of it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Sending:
    """What is to be sent, and how this try stands to those before. It has no repr: the request holds secrets.

    :param owner: names the task instance over all its tries
    :param task_try: this try
    :param is_repeated: whether an earlier try may have sent it
    :param check_input: look whether the input object exists
    :param state_prefix: ``s3://bucket/prefix`` to remember below what was sent; None remembers nothing
    :param upload_prefix: ``s3://bucket/prefix`` for bodies that do not go inline; None refuses them
    :param is_waited_for: whether an object that lies where the output will be would be taken for it
    """

    request: AsyncRequest
    owner: str
    task_try: TaskTry
    is_repeated: bool
    check_input: bool = True
    state_prefix: str | None = None
    upload_prefix: str | None = None
    on_unknown: OnUnknown = OnUnknown.WAIT
    is_waited_for: bool = False

    def checked(self) -> Sending:
        """Return it when every limit holds.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
        for name, value in (("state_prefix", self.state_prefix), ("upload_prefix", self.upload_prefix)):
            if value is not None:
                S3Uri.parse(value, name=name)
        request = self.request
        if isinstance(request.body, bytes):
            is_too_large = len(request.body) > MAX_INLINE_BYTES
            if is_too_large and self.upload_prefix is None:
                raise InvalidRequest(
                    f"the inline body has {len(request.body)} bytes, SageMaker takes up to {MAX_INLINE_BYTES}: upload "
                    f"it to S3 and pass input_location, or pass upload_prefix, which does so"
                )
            if self.upload_prefix is not None and request.input_location is None:
                # Of a smaller body as well: a botocore that is older than inline bodies has it uploaded.
                check_input_location(
                    str(self.uploaded().input_location), name="the payload's location below upload_prefix"
                )
                request = self.uploaded() if is_too_large else request
        request.checked()
        return self

    def uploaded(self) -> AsyncRequest:
        """Return the request with its body in S3, at a place that is its own by content."""
        body = self.request.body or b""
        name = f"{self.owner}-{sha256(body).hexdigest()[:16]}"
        place = f"{str(self.upload_prefix).rstrip('/')}/{name}"
        return replace(self.request, body=None, input_location=place)


class RequestInput:
    """The input of one request; ``etag`` is known after :meth:`look`, where it can be told."""

    def __init__(self, sending: Sending, s3: S3Objects) -> None:
        self._sending = sending
        self._s3 = s3
        self._sight = Presence.PRESENT
        self.etag: str | None = None

    async def look(self) -> None:
        """Look whether the input is there and which: a listing tells its ETag, a HEAD needs fewer permissions.

        While S3 does not answer it looks again, up to five times in all: without state a result's name tells of the
        ETag, so a retry that sees what this try could not see would not find it.
        """
        location = self._sending.request.input_location
        if location is None or not self._sending.check_input or not location.startswith("s3://"):
            return
        for attempt in range(1, LOOKS + 1):
            self._sight = await self._look_at(location)
            if self._sight is not Presence.UNKNOWN or attempt == LOOKS:
                return
            await asyncio.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter

    async def _look_at(self, location: str) -> Presence:
        uri = S3Uri.parse_object(location, name="input_location")
        try:
            page = await self._s3.list_objects(uri.bucket, uri.key)
        except ServiceError as error:
            log.debug("no listing of %s: %s", location, error)
        else:
            self.etag = next((one.etag for one in page.objects if one.key == uri.key), None)
        return Presence.PRESENT if self.etag else await self._s3.sight(location)

    def check_there(self) -> None:
        """Refuse an input that was looked for and is not there.

        :raises InputNotFound: it does not exist
        """
        if self._sight is Presence.ABSENT:
            location = self._sending.request.input_location
            raise InputNotFound(
                f"the input object {location} does not exist: upload it first, or mend input_location"
            )

    async def prepared(self, request: AsyncRequest) -> AsyncRequest:
        """Have the input in S3, or say that it is missing, just before the request is sent.

        :raises InputNotFound: it does not exist
        :raises ServiceError: the upload failed
        """
        if request.body is not None:
            return await self.uploaded(request) if len(request.body) > MAX_INLINE_BYTES else request
        self.check_there()
        if looks := format_by_name(request.input_location or "", request.content_type):
            log.warning(
                "the input %s may not be what content_type says (%s, sent as %s): %s",
                request.input_location,
                looks,
                request.content_type,
                SENT_AS_IT_IS,
            )
        if self._sight is not Presence.PRESENT:
            log.warning(
                "could not look at input %s (%s); sending it all the same",
                request.input_location,
                self._sight.value,
            )
        return request

    async def uploaded(self, request: AsyncRequest) -> AsyncRequest:
        """Upload the body; return the request for the object.

        :raises ServiceError: S3 refused or did not answer
        """
        body, place = request.body or b"", str(self._sending.uploaded().input_location)
        kind = request.content_type or "application/octet-stream"
        await self._s3.write(place, body, content_type=kind)
        log.info("the payload, %d bytes, is at %s", len(body), place)
        return replace(request, body=None, input_location=place)
