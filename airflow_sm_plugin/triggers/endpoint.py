"""Wait for an endpoint: until it can be changed, or until it serves a configuration."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from asgiref.sync import sync_to_async
from botocore.exceptions import ClientError

from airflow_sm_plugin._compat import on_kill_seconds, task_state
from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.errors import meaning
from airflow_sm_plugin.core.names import created_at, endpoint_log_group
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.endpoints.cleanup import CreatedByTask, DeploymentCleanup
from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling
from airflow_sm_plugin.endpoints.options import DeploymentNote, DeploymentOptions
from airflow_sm_plugin.endpoints.ownership import EndpointClaim
from airflow_sm_plugin.exceptions import AccessDenied, EndpointNotFound, SageMakerInferenceError, TaskKilled
from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.container_start import ContainerLines, ContainerStart
from airflow_sm_plugin.resources.endpoint_status import EndpointState, Step, judge, next_step
from airflow_sm_plugin.triggers.polling import PollingTrigger

log = get_log(__name__)

_COSTS = (
    "What the task created stays and costs money until a retry has gone on with it, or "
    "SageMakerDeleteEndpointOperator or a person has deleted it"
)
_DOWN = (
    ". The scaling that the task took down stays down, noted in the endpoint's tags, until the next deployment of the "
    "endpoint puts it back"
)
_GIVEN_UP = frozenset({None, "failed", "up_for_retry", "skipped", "upstream_failed", "removed"})
"""Task states without a try that works on, or waits for, the endpoint; None is a task that was just cleared.

In every other state the task goes on (its trigger was moved, or fired in another triggerer, or its next try has begun),
or it has succeeded, also where a person marked it so: then the endpoint is kept.
"""
_ENDED = _GIVEN_UP | {"success"}
_UNKNOWN = "in a state that is not known"
_FOR_LAST_CALLS = 5.0
"""Seconds of Airflow's time for ``on_kill`` that are kept for the last calls."""

_LONGEST_PAUSE = 2.0
"""Seconds between polls of an endpoint that is still being created when its task is killed: there is little time."""


_LINES_READ = 100
"""First lines of a container that are searched for errors."""


class EndpointTrigger(PollingTrigger):
    """The base of the triggers that wait for an endpoint and the configuration wanted for it.

    :param note: values for the task, returned in the event (``dag.test()`` loses ``defer``'s own kwargs)
    :param cleanup: :meth:`Deployment.cleanup_after_kill`: the work to delete when the task is killed during the wait
    :param container_log_lines: 0 shows nothing of the containers' logs while the endpoint is Creating
    """

    client_type = "sagemaker"

    def __init__(
        self,
        *,
        endpoint_name: str,
        wanted_config: str,
        note: Mapping[str, Any],
        deadline: float,
        poll_interval: float,
        aws: Mapping[str, Any],
        cleanup: Mapping[str, Any] | None = None,
        container_log_lines: int = 0,
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, aws=aws)
        self.endpoint_name = endpoint_name
        self.awaited = f"endpoint {endpoint_name}"
        self.wanted_config = wanted_config
        self.note = dict(note)
        self.cleanup_after_kill = None if cleanup is None else dict(cleanup)
        self.container_log_lines = container_log_lines
        self._start: ContainerStart | None = None
        self._logs: ContainerLogsHook | None = None

    def arguments(self) -> dict[str, Any]:
        own = {
            "endpoint_name": self.endpoint_name,
            "wanted_config": self.wanted_config,
            "note": self.note,
            "cleanup": self.cleanup_after_kill,
            "container_log_lines": self.container_log_lines,
        }
        return own | super().arguments()

    def error_event(self, error: Exception) -> dict[str, Any]:
        return super().error_event(error) | {"note": self.note}

    @abstractmethod
    def judged(self, description: Mapping[str, Any] | None, *, is_late: bool) -> dict[str, Any] | None:
        """Make the event's items beside status and note; None to go on. *description* is None without an endpoint."""

    async def poll(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        description: Mapping[str, Any] | None = None
        try:
            description = await client.describe_endpoint(EndpointName=self.endpoint_name)
        except ClientError as error:
            if meaning(error) is not Meaning.NOT_FOUND:
                raise
        log.debug("endpoint %s is %s", self.endpoint_name, (description or {}).get("EndpointStatus", "gone"))
        result = self.judged(description, is_late=now >= self.deadline)
        if result is not None:
            return {"status": "over", **result, "note": self.note}
        if description is not None:
            await self.while_waiting(description, now=now)
        return None

    async def while_waiting(self, description: Mapping[str, Any], *, now: float) -> None:
        """Report what is known of the containers of an endpoint that is Creating: no event of SageMaker does."""
        is_creating = description.get("EndpointStatus") == "Creating" and not _is_serverless(description)
        if not is_creating or self.container_log_lines <= 0:
            return
        began = created_at(description)
        start = self._start = self._start or ContainerStart(
            self.endpoint_name, began=now if began is None else began
        )
        if not start.is_due(now):
            return
        try:
            found = await self._first_lines(start.began)
        except SageMakerInferenceError as error:
            denied = isinstance(error, AccessDenied)
            self._start, report = start.unchecked(error.as_sentence, now=now, is_denied=denied)
        else:
            self._start, report = start.checked(found, now=now)
        if report is not None:
            level = logging.WARNING if report.is_warning else logging.INFO
            log.log(level, "\n".join(["%s"] * (1 + len(report.lines))), report.message, *report.lines)

    async def _first_lines(self, since: float) -> ContainerLines | None:
        if self._logs is None:
            hook = ContainerLogsHook(**self.new_connection().hook_arguments())
            # As in the provider: a triggerer reads Airflow's connections through the event loop.
            await sync_to_async(lambda: hook.conn_config)()
            self._logs = hook
        group = endpoint_log_group(self.endpoint_name)
        return await asyncio.to_thread(self._logs.first_lines, group, since=since, lines=_LINES_READ)

    async def on_kill(self) -> None:
        """Delete what the task created, and put back the scaling that it took down.

        Airflow 3.3 and later call this when a deferred task is killed. SageMaker deletes no endpoint that is still
        being created, so its creation is waited for as long as ``[triggerer] on_kill_timeout`` permits. The task's log
        names what stays. Airflow also calls this for a trigger that another triggerer has taken over, so the task's
        state decides: nothing is deleted when the task goes on, has succeeded (or was marked as successful), or when
        its state is not known. Scaling is put back if the endpoint serves by then; else the log names what is left and
        what puts it back.
        """
        if self._has_ended or (self.cleanup_after_kill is None and not self.note.get("taken_down")):
            return
        permitted = on_kill_seconds()
        end = time.monotonic() + permitted
        work = asyncio.ensure_future(self._after_kill(end - min(_FOR_LAST_CALLS, permitted / 2)))
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                # Airflow 3.3 cancels a killed trigger again each second, its on_kill included.
                if time.monotonic() >= end:
                    work.cancel()
                    raise

    async def _state(self) -> str | None:
        if self.task_instance is None:
            return None
        try:
            return await task_state(self.task_instance)
        except Exception as error:  # noqa: BLE001 - whatever Airflow's API raises
            log.warning(
                "endpoint %s is left as it is: Airflow does not report whether its task was killed (%s). %s",
                self.endpoint_name,
                type(error).__name__,
                self._what_is_left(),
            )
            return _UNKNOWN

    def _what_is_left(self) -> str:
        return f"{_COSTS}{_DOWN}" if self.note.get("taken_down") else _COSTS

    async def _after_kill(self, give_up: float) -> None:
        """Clean up and put back, until *give_up* (monotonic), in a thread that sends no calls after a cancellation."""
        state = await self._state()
        if state not in _ENDED:
            log.info("the task of endpoint %s is %s: nothing is cleaned up", self.endpoint_name, state)
            return
        connection = self.new_connection()
        hook = SageMakerControlPlaneHook(**connection.hook_arguments())
        is_over = threading.Event()

        def check_in_time() -> None:
            if is_over.is_set():
                raise TaskKilled("the triggerer waits no longer for the cleaning up")

        scaling = EndpointScaling(connection, before_call=check_in_time)
        hook.before_call = check_in_time
        # As in the provider: a triggerer reads Airflow's connections through the event loop.
        await sync_to_async(lambda: [each.conn_config for each in (hook, scaling.variants, scaling.alarms)])()
        is_given_up = state in _GIVEN_UP

        def work() -> None:
            if is_given_up and self.cleanup_after_kill is not None:
                self._clean_up(hook, self.cleanup_after_kill, give_up)
            self._put_back(NotedScaling(hook, self.endpoint_name, scaling))

        try:
            await asyncio.to_thread(work)
        except asyncio.CancelledError:
            is_over.set()
            log.warning(
                "cleaning up after the killed task was cut short: check whether endpoint %s is still there. %s",
                self.endpoint_name,
                self._what_is_left(),
            )
            raise

    def _clean_up(self, hook: SageMakerControlPlaneHook, cleanup: Mapping[str, Any], give_up: float) -> None:
        note = DeploymentNote.from_mapping(self.note)
        claim = EndpointClaim(
            owner=cleanup["owner"],
            try_number=int(cleanup["try_number"]),
            config_name=self.wanted_config,
            created_at=note.created_at,
        )
        seconds = max(0.0, min(give_up - time.monotonic(), float(cleanup["max_wait_seconds"])))
        pause = min(self.poll_interval, _LONGEST_PAUSE)
        options = DeploymentOptions(max_wait=seconds, poll_interval=pause, cleanup_wait=seconds)
        work = CreatedByTask(hook, self.endpoint_name, claim, created=note.created, touched=note.touched)
        log.info(
            "the task was killed while it waited for endpoint %s: what it created is deleted, within %.0f s",
            self.endpoint_name,
            seconds,
        )
        DeploymentCleanup(hook, options, work).within(seconds)

    def _put_back(self, noted: NotedScaling) -> None:
        if taken_down := DeploymentNote.from_mapping(self.note).taken_down:
            try:
                noted.put_back(taken_down=taken_down)
            except SageMakerInferenceError as problem:
                noted.warn(problem, taken_down)


def _is_serverless(description: Mapping[str, Any]) -> bool:
    """Recognize an endpoint whose containers run for requests only."""
    keys = ("CurrentServerlessConfig", "DesiredServerlessConfig")
    variants = description.get("ProductionVariants") or ()
    return any(variant.get(key) for variant in variants for key in keys)


class EndpointChangeableTrigger(EndpointTrigger):
    """End when nothing is in progress that forbids the next step, or the deadline passed; the task then acts again.

    An endpoint that is gone can be created, one that comes to serve ``wanted_config`` needs no change: both end it.
    """

    def judged(self, description: Mapping[str, Any] | None, *, is_late: bool) -> dict[str, Any] | None:
        waits = next_step(description, wanted_config=self.wanted_config) is Step.WAIT_OUT
        return None if waits and not is_late else {}


class EndpointServingTrigger(EndpointTrigger):
    """End when the endpoint serves ``wanted_config``, rolled back, failed, is gone, or the deadline passed.

    The event's ``verdict`` holds state, status, configuration name and SageMaker's reason.
    """

    def judged(self, description: Mapping[str, Any] | None, *, is_late: bool) -> dict[str, Any] | None:
        if description is None:
            raise EndpointNotFound(
                f"there is no endpoint {self.endpoint_name}: it was deleted meanwhile",
                do="find out who deletes it; then run the task again",
            )
        verdict = judge(description, wanted_config=self.wanted_config)
        waits = verdict.state is EndpointState.WAIT
        return None if waits and not is_late else {"verdict": verdict.as_mapping()}
