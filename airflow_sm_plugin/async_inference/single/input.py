"""The request of one asynchronous invocation, and its input: checked, or uploaded, before the request is sent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.single.result import poll_until_known
from airflow_sm_plugin.async_inference.single.state import arguments_digest, state_folder
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.batches.text_input import SENT_AS_IT_IS, format_by_name
from airflow_sm_plugin.core.s3 import Presence, S3Uri, check_input_location, object_not_found
from airflow_sm_plugin.exceptions import InvalidRequest, ServiceError
from airflow_sm_plugin.invoke.async_request import MAX_INLINE_BYTES, AsyncRequest

log = get_log(__name__)


@dataclass(frozen=True, kw_only=True, repr=False)
class Sending:
    """A request, and the try that is to send it. It has no repr: the request holds secrets.

    :param owner: names the task instance over all its tries
    :param is_repeated: whether an earlier try may have sent the request
    :param state_prefix: ``s3://bucket/prefix`` for the state; None stores none
    :param upload_prefix: ``s3://bucket/prefix`` for bodies that do not go inline; None refuses them
    :param resend: send a request in doubt again, instead of waiting for its result
    :param is_waited_for: the task waits, and would take an earlier object at the output's location for its output
    """

    request: AsyncRequest
    owner: str
    task_try: TaskTry
    is_repeated: bool
    check_input: bool = True
    state_prefix: str | None = None
    upload_prefix: str | None = None
    resend: bool = False
    is_waited_for: bool = False

    def checked(self) -> Sending:
        """Return the object itself when every limit holds.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
        for name, prefix in (("state_prefix", self.state_prefix), ("upload_prefix", self.upload_prefix)):
            if prefix is not None:
                S3Uri.parse(prefix, name=name)
        request = self.request
        size = len(request.body) if isinstance(request.body, bytes) else 0
        if size > MAX_INLINE_BYTES and self.upload_prefix is None:
            raise InvalidRequest(
                f"the inline body has {size} bytes, SageMaker takes up to {MAX_INLINE_BYTES}: upload it to S3 and pass "
                f"input_location, or pass upload_prefix, which does so"
            )
        if size and self.upload_prefix is not None and request.input_location is None:
            # For smaller bodies as well: with a botocore that is older than inline bodies they are uploaded.
            check_input_location(self.upload_location, name="the payload's location below upload_prefix")
            if size > MAX_INLINE_BYTES:
                request = replace(request, body=None, input_location=self.upload_location)
        request.checked()
        return self

    @property
    def state_folder(self) -> str | None:
        if self.state_prefix is None:
            return None
        return state_folder(self.state_prefix, self.owner, arguments_digest(self.request))

    @property
    def upload_location(self) -> str:
        name = f"{self.owner}-{sha256(self.request.body or b'').hexdigest()[:16]}"
        return f"{str(self.upload_prefix).rstrip('/')}/{name}"


class RequestInput:
    """The input of one request. :meth:`poll` sets ``etag``, where S3 permits it.

    :param takes_bodies: whether the installed botocore knows inline bodies; otherwise ``upload_prefix`` serves all
    """

    def __init__(self, sending: Sending, s3: S3Objects, *, takes_bodies: bool) -> None:
        self._sending = sending
        self._s3 = s3
        self._takes_bodies = takes_bodies
        self._presence = Presence.PRESENT
        self._refusal = ""
        """S3's code where it refused a listing."""
        self.etag: str | None = None

    async def poll(self) -> None:
        """Ask S3 whether the input exists, and for its ETag.

        Repeated while S3 does not answer: without state a result's name depends on the ETag, so that a retry which
        reads an ETag would not find the result of a try which could not.
        """
        location = self._sending.request.input_location
        if location is not None and self._sending.check_input and location.startswith("s3://"):
            self._presence = await poll_until_known(
                lambda: self._poll_once(location), lambda presence: presence is not Presence.UNKNOWN
            )

    async def _poll_once(self, location: str) -> Presence:
        """List the object, which shows its ETag; where that is not permitted a HEAD needs fewer permissions."""
        uri = S3Uri.parse_object(location, name="input_location")
        try:
            page = await self._s3.list_objects(uri.bucket, uri.key)
        except ServiceError as error:
            log.debug("no listing of %s: %s", location, error)
            self._refusal = error.reason.partition(":")[0]
        else:
            self.etag = next((listed.etag for listed in page.objects if listed.key == uri.key), None)
        return Presence.PRESENT if self.etag else await self._s3.presence(location)

    def check_exists(self) -> None:
        """Refuse a missing input; :meth:`poll` comes first.

        :raises InputNotFound: it does not exist
        """
        if self._presence is Presence.ABSENT:
            location = str(self._sending.request.input_location)
            raise object_not_found(location, code=self._refusal, what="input object")

    async def prepared(self, request: AsyncRequest) -> AsyncRequest:
        """Upload a body that cannot go inline, or check the input object, just before the request is sent.

        :raises InputNotFound: it does not exist
        :raises ServiceError: the upload failed
        """
        if request.body is not None:
            can_go_inline = self._takes_bodies or self._sending.upload_prefix is None
            is_small = len(request.body) <= MAX_INLINE_BYTES
            return request if is_small and can_go_inline else await self._uploaded(request, request.body)
        self.check_exists()
        location = request.input_location
        if other_format := format_by_name(location or "", request.content_type):
            log.warning(
                "the input %s may not be what content_type says (%s, sent as %s): %s",
                location,
                other_format,
                request.content_type,
                SENT_AS_IT_IS,
            )
        if self._presence is not Presence.PRESENT:
            log.warning(
                "could not check the input %s (%s); sending it all the same", location, self._presence.value
            )
        return request

    async def _uploaded(self, request: AsyncRequest, body: bytes) -> AsyncRequest:
        location = self._sending.upload_location
        await self._s3.write(location, body, content_type=request.content_type or "application/octet-stream")
        log.info("the payload, %d bytes, is at %s", len(body), location)
        return replace(request, body=None, input_location=location)
