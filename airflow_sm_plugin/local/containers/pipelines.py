"""An instance's containers, called one after the other by every invocation; a single container is a pipeline, too."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.containers.container_client import RawAnswer, TooSlow, Unreachable
from airflow_sm_plugin.local.containers.container_process import ContainerProcess
from airflow_sm_plugin.local.containers.containers import (
    ContainerFailed,
    ContainerInput,
    ContainerReply,
    ContainerSpec,
    LogTarget,
)
from airflow_sm_plugin.local.containers.model_host import ModelHost
from airflow_sm_plugin.local.containers.target_models import TargetModel
from airflow_sm_plugin.local.faults.recorded import container_answer, recorded
from airflow_sm_plugin.local.protocol.errors import ModelFailure

_IDLE_POLL_SECONDS = 0.05
"""Seconds between checks for running invocations; also the time that a late caller has to begin one."""


@dataclass(frozen=True)
class Lease:
    """A target model that stays loaded until the block ends: ``wait`` for it, then invoke the ``pipeline``."""

    pipeline: Pipeline
    models: Sequence[tuple[ModelHost, TargetModel]]

    def wait(self, *, seconds: float) -> None:
        """Wait until the model is loaded. Raises ModelNotReadyException, or the error of a failed load."""
        deadline = time.monotonic() + seconds
        for host, model in self.models:
            host.wait(model, seconds=max(deadline - time.monotonic(), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipeline.give_back(self)


class Pipeline:
    """An instance's running containers."""

    def __init__(self, region: Region, logs: LogTarget, containers: Sequence[ContainerProcess]) -> None:
        self._region = region
        self.logs = logs
        self._containers = tuple(containers)
        self._lock = threading.Lock()
        self._in_flight = 0
        self._restarting = False
        self._hosts = {
            container: ModelHost(region, container, functools.partial(self.failure, container.spec.name))
            for container in self._containers
            if container.spec.multi_model
        }
        self._forget_close = region.at_close(self.stop)

    @classmethod
    def start(
        cls, region: Region, specs: Sequence[ContainerSpec], logs: LogTarget, *, variant: str = ""
    ) -> Pipeline:
        """Start the containers in parallel, and wait until all answer their ping.

        Raises ContainerFailed with the text for FailureReason, which names ``variant``; no container runs then.
        """
        several = len(specs) > 1
        streams = [f"{logs.stream}/{spec.name}" if several else logs.stream for spec in specs]
        containers = [
            ContainerProcess(region, spec, replace(logs, stream=stream))
            for spec, stream in zip(specs, streams, strict=True)
        ]
        pipeline = cls(region, logs, containers)
        with ThreadPoolExecutor(max_workers=max(len(containers), 1)) as pool:
            starting = {pool.submit(_begin, container): container for container in containers}
        failed = [(error, container) for start, container in starting.items() if (error := start.exception())]
        if region.closed.is_set() and not failed:
            pipeline.stop()
            raise ContainerFailed("The endpoint was removed while it started.")
        if failed:
            pipeline.stop()
            error, container = failed[0]
            raise _failure(error, container, variant) from error
        return pipeline

    @property
    def hosts(self) -> tuple[ModelHost, ...]:
        return tuple(self._hosts.values())

    def holds(self, target_model: str) -> bool:
        return any(host.holds(target_model) for host in self._hosts.values())

    @property
    def models_held(self) -> int:
        return sum(len(host) for host in self._hosts.values())

    def lease(self, target_model: str, *, hostname: str | None = None) -> Lease:
        """Protect a target model and this instance until the lease is given back; begin to load a missing model.

        :param hostname: of the only container that loads it; None for all
        """
        with self._lock:
            self._in_flight += 1
        hosts = [host for container, host in self._hosts.items() if hostname in (None, container.spec.name)]
        return Lease(self, [(host, host.lease(target_model)) for host in hosts])

    def give_back(self, lease: Lease) -> None:
        for host, model in lease.models:
            host.give_back(model)
        with self._lock:
            self._in_flight -= 1

    def invoke(
        self,
        payload: ContainerInput,
        *,
        timeout: float,
        lease: Lease | None = None,
        hostname: str | None = None,
    ) -> ContainerReply:
        """Send ``payload`` through the containers in order, or to the one called ``hostname``.

        A container's output is the input of the next. The request's Accept is for the last container; the others have
        their own (SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT). Custom attributes go to every container; those of the last are
        answered. Multi-model containers need a loaded ``lease``. Raises ModelFailure when a container answers an error
        or has ended, or when all together take over ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        containers = [container for container in self._containers if hostname in (None, container.spec.name)]
        with self._lock:
            self._in_flight += 1
        try:
            answer = RawAnswer(200, payload.body, payload.content_type, None)
            for container in containers:
                step = replace(
                    payload,
                    body=answer.body,
                    content_type=answer.content_type,
                    accept=payload.accept if container is containers[-1] else None,
                )
                answer = self._ask(container, step, deadline, self._path(container, lease))
            return ContainerReply(answer.body, answer.content_type, answer.custom_attributes)
        finally:
            with self._lock:
                self._in_flight -= 1

    def stop(self) -> None:
        self._forget_close()
        for host in self._hosts.values():
            host.close()
        for container in self._containers:
            container.stop()
        for host in self._hosts.values():
            host.finish()

    def retire(self, *, timeout: float) -> None:
        """Stop once no invocation runs, at the latest after ``timeout`` seconds.

        A caller that chose this pipeline just before its removal has the time of a poll to begin its invocation.
        """
        deadline = time.monotonic() + timeout
        while not self._region.closed.wait(_IDLE_POLL_SECONDS):
            with self._lock:
                is_idle = self._in_flight == 0
            if is_idle or time.monotonic() > deadline:
                break
        self.stop()

    def _path(self, container: ContainerProcess, lease: Lease | None) -> str:
        host = self._hosts.get(container)
        if host is None:
            return "/invocations"
        if lease is None:
            raise self.failure(container.spec.name, 400, "The request names no target model.")
        return f"/models/{dict(lease.models)[host].key}/invoke"

    def _ask(
        self, container: ContainerProcess, payload: ContainerInput, deadline: float, path: str
    ) -> RawAnswer:
        name = container.spec.name
        try:
            timeout = max(deadline - time.monotonic(), 0.001)
            answer = container.client.invoke(payload, timeout=timeout, path=path)
        except TooSlow:
            answered = container_answer("no answer within 60 seconds", container=name)
            raise self.failure(name, *answered) from None
        except Unreachable:
            self._restart(container)
            raise self.failure(name, *container_answer("the model process exited")) from None
        if not 200 <= answer.status < 300:
            raise self.failure(name, answer.status, answer.body.decode(errors="replace"))
        return answer

    def failure(self, name: str, status: int, message: str) -> ModelFailure:
        side = "client" if 400 <= status < 500 else "server"
        region, group = self._region.name, self.logs.group
        answer = recorded(
            "a container answered an error",
            side=side,
            status=status,
            container=name,
            text=message,
            region=region,
            group=group,
            account=ACCOUNT_ID,
            arn=f"arn:aws:logs:{region}:{ACCOUNT_ID}:log-group:{group}",
        )
        return ModelFailure(
            answer.message,
            original_status=status,
            original_message=message,
            log_stream_arn=str(answer.body["LogStreamArn"]),
        )

    def _restart(self, container: ContainerProcess) -> None:
        """Restart a container that has ended, as SageMaker does: in the background, one restart at a time.

        A multi-model container has lost its models; the next load restarts it.
        """
        if container in self._hosts:
            self._hosts[container].lost()
            return
        with self._lock:
            if self._restarting or container.is_alive:
                return
            self._restarting = True

        def restart() -> None:
            try:
                with contextlib.suppress(ContainerFailed):  # the next invocation restarts it
                    container.start()
            finally:
                with self._lock:
                    self._restarting = False

        self._region.in_background(f"restart {self.logs.stream}", restart)


def _begin(container: ContainerProcess) -> None:
    """Start a container, unless it is multi-model: then the first load starts it."""
    container.announce()
    if not container.spec.multi_model:
        container.start()


def _failure(error: BaseException | None, container: ContainerProcess, variant: str) -> ContainerFailed:
    if isinstance(error, ContainerFailed) and str(error):
        return error
    of_variant = f" for production variant {variant}" if variant else ""
    return ContainerFailed(
        f"The {container.spec.name} container{of_variant} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
