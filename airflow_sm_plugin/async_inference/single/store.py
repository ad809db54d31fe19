"""The state of one invocation in S3, as :mod:`airflow_sm_plugin.async_inference.single.state` spells it."""

from __future__ import annotations

import json

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.single.state import Intent, InvocationState
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.listing import listed_names
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed, ServiceError
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

log = get_log(__name__)


class InvocationStore:
    """The objects of one folder. Reading takes one listing and a GET each, of which there are mostly two.

    :param folder: ``s3://bucket/prefix/``, of one request of one task instance
    """

    def __init__(self, s3: S3Objects, folder: str) -> None:
        self._s3 = s3
        self._folder = folder

    async def read(self) -> InvocationState:
        """Return what is there.

        :raises InvalidRequest: an object of our name holds something else
        :raises ServiceError: S3 refused or did not answer; the role needs ``s3:ListBucket`` and ``s3:GetObject``
        """
        uri = S3Uri.parse(self._folder, name="state_prefix")
        names: list[str] = []
        start: str | None = ""
        while start is not None:
            page = await listed_names(self._s3, uri.bucket, uri.key, start_after=start)
            names += [key.removeprefix(uri.key) for key in page.names]
            start = page.next_start_after
        found = {name: await self._s3.read_if_any(self._folder + name) for name in names}
        return InvocationState.read(
            {name: body for name, body in found.items() if body is not None}, folder=self._folder
        )

    async def intend(self, intent: Intent) -> bool:
        """Write an intent; False when somebody else has written that number.

        :raises ServiceError: S3 refused or did not answer: then nothing may be sent
        """
        try:
            await self._s3.write(self._folder + intent.name, intent.as_bytes(), only_if_new=True)
        except PreconditionFailed:
            return False
        return True

    async def withdraw(self, intent: Intent) -> None:
        """Remove an intent that surely came to nothing. Never raises: it follows another error."""
        try:
            await self._s3.delete(self._folder + intent.name)
        except ServiceError as error:
            log.warning(
                "%s%s says that a request is in doubt which was refused, and could not be removed: %s",
                self._folder,
                intent.name,
                error,
            )

    async def record(self, intent: Intent, invocation: AsyncInvocation) -> None:
        """Write what SageMaker answered. Never raises: it was accepted, and a retry can wait for what was intended."""
        body = json.dumps(invocation.as_mapping()).encode()
        try:
            await self._s3.write(self._folder + intent.accepted_name, body, only_if_new=True)
        except ServiceError as error:
            log.warning(
                "inference %s was accepted, which could not be written below %s: a retry will find it in doubt: %s",
                invocation.inference_id,
                self._folder,
                error,
            )

    async def lose(self, task_try: TaskTry) -> None:
        """Write that the latest round gives no result any more, so that the next run sends a new one.

        :raises FencedOff: a later try has taken over, and knows better
        """
        try:
            state = await self.read()
            state.check_not_fenced(task_try)
            known = state.latest(task_try)
            if known is None or known.lost:
                return
            body = json.dumps({"why": "the endpoint was deleted", "try": task_try.as_list()}).encode()
            await self._s3.write(self._folder + known.intent.lost_name, body)
        except ServiceError as error:
            log.warning(
                "the endpoint is gone, which could not be written below %s: a run before the inference's time to live "
                "is over waits for it again, unless it is cleared with on_rerun='restart': %s",
                self._folder,
                error,
            )


async def lose(
    connection: AwsConnection, folder: str, task_try: TaskTry, *, options: ObjectOptions = PLAIN
) -> None:
    """Do as :meth:`InvocationStore.lose` over a connection of its own.

    :param options: how objects are kept
    """
    async with S3Objects.open(connection, options=options) as s3:
        await InvocationStore(s3, folder).lose(task_try)
