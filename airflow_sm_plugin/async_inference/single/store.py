"""The state of one invocation in S3: the objects of :mod:`airflow_sm_plugin.async_inference.single.state`."""

from __future__ import annotations

import msgspec

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.single.state import Intent, InvocationState
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed, ServiceError
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

log = get_log(__name__)


class InvocationStore:
    """The objects of one folder. Reading takes one listing and a GET for each object, mostly two.

    :param folder: ``s3://bucket/prefix/``, of one request of one task instance
    """

    def __init__(self, s3: S3Objects, folder: str) -> None:
        self._s3 = s3
        self._folder = folder

    async def read(self) -> InvocationState:
        """Read the state.

        :raises InvalidRequest: an object's content is no such state
        :raises ServiceError: S3 refused or did not answer; the role needs ``s3:ListBucket`` and ``s3:GetObject``
        """
        prefix = S3Uri.parse(self._folder, name="state_prefix").key
        names = [key.removeprefix(prefix) for key in await names_below(self._s3, self._folder)]
        bodies = [(name, await self._s3.read_if_any(self._folder + name)) for name in names]
        objects = {name: body for name, body in bodies if body is not None}
        return InvocationState.read(objects, folder=self._folder)

    async def intend(self, intent: Intent) -> bool:
        """Write an intent; False when another process has written that number.

        :raises ServiceError: S3 refused or did not answer: then nothing may be sent
        """
        location, body = self._folder + intent.object_name("intent"), msgspec.json.encode(intent)
        try:
            await self._s3.write(location, body, only_if_new=True)
        except PreconditionFailed:
            return False
        return True

    async def withdraw(self, intent: Intent) -> None:
        """Delete the intent of a request that surely was not accepted. Never raises: it follows another error."""
        location = self._folder + intent.object_name("intent")
        try:
            await self._s3.delete(location)
        except ServiceError as error:
            log.warning(
                "%s marks a request as in doubt which was refused, and could not be removed: %s",
                location,
                error,
            )

    async def record(self, intent: Intent, invocation: AsyncInvocation) -> None:
        """Write SageMaker's answer. Never raises: a retry can wait for the result that the intent expects."""
        location, body = self._folder + intent.object_name("accepted"), msgspec.json.encode(invocation)
        try:
            await self._s3.write(location, body, only_if_new=True)
        except ServiceError as error:
            log.warning(
                "inference %s was accepted, which could not be written below %s: a retry will find it in doubt: %s",
                invocation.inference_id,
                self._folder,
                error,
            )


async def record_loss(
    connection: AwsConnection, folder: str, task_try: TaskTry, *, options: ObjectOptions = PLAIN
) -> None:
    """Mark the latest round as lost with its endpoint, so that the next run sends a new one.

    :param folder: as in :class:`InvocationStore`
    :raises FencedOff: a later try has taken over
    """
    async with S3Objects.open(connection, options=options) as s3:
        try:
            state = await InvocationStore(s3, folder).read()
            state.check_not_fenced(task_try)
            latest = state.latest(task_try)
            if latest is None or latest.lost:
                return
            body = msgspec.json.encode({"why": "the endpoint was deleted", "task_try": task_try})
            await s3.write(folder + latest.intent.object_name("lost"), body)
        except ServiceError as error:
            log.warning(
                "the endpoint is gone, which could not be written below %s: a run before the inference's time to live "
                "is over waits for it again, unless it is cleared with on_rerun='restart': %s",
                folder,
                error,
            )
