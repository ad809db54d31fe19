"""Endpoints that serve: their variants, and each variant's instances."""

from __future__ import annotations

import functools
import math
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.containers.containers import (
    LogTarget,
    container_specs,
    is_direct,
    is_multi_model,
)
from airflow_sm_plugin.local.containers.pipelines import Lease, Pipeline
from airflow_sm_plugin.local.endpoints.data_capture import CaptureConfig, DataCapture
from airflow_sm_plugin.local.endpoints.invocation_metrics import count_invocation
from airflow_sm_plugin.local.faults.recorded import recorded

KIND = "endpoint"
MAX_PROCESSES = 4
"""Instances of a variant that are really started: each costs a process per container. Further instances are only
counted; the started ones share their requests."""

_SECONDS_COUNTED = 600
"""For so many seconds back, a variant remembers how many invocations each second had."""

_NOT_SERVING = ("Creating", "OutOfService", "Failed", "Deleting")

Hook = Callable[[Region, str], None]
SERVING_HOOKS: list[Hook] = []
"""Called in the background after each creation, update or scaling of an endpoint, with its name."""
DELETED_HOOKS: list[Hook] = []
"""Called in the background after each deletion of an endpoint, with its name."""


class LiveVariant:
    """A production variant that serves: ``instance_count`` instances behind a round robin."""

    def __init__(self, region: Region, endpoint: str, config: Record, model: Record) -> None:
        self.name: str = config["VariantName"]
        self.config = config
        self.model = model
        self.is_multi_model = is_multi_model(model)
        self.is_direct = is_direct(model)
        self.is_serverless = bool(config.get("ServerlessConfig"))
        self.specs = container_specs(model)
        self.weight = float(config.get("InitialVariantWeight", 1.0))
        self.instance_count = 0
        self.wanted_count = int(config.get("InitialInstanceCount", 1))
        self._region = region
        self._endpoint = endpoint
        self._group = f"/aws/sagemaker/Endpoints/{endpoint}"
        self._lock = threading.Lock()
        self._pipelines: list[Pipeline] = []
        self._next = 0
        self._last_used = -math.inf
        self._invocations: Counter[int] = Counter()

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        with self._lock:
            return tuple(self._pipelines)

    def next_pipeline(self) -> Pipeline:
        """Choose the next instance by round robin. Raises ServiceUnavailable when there is none.

        A serverless variant that was idle first takes its cold start's time.
        """
        self._wake_up()
        with self._lock:
            return self._from_next()[0]

    def lease(self, target_model: str, *, hostname: str | None = None) -> Lease:
        """Lease a target model on an instance that has it, else on that with the fewest models.

        Raises ServiceUnavailable when there is no instance.
        """
        self._wake_up()
        with self._lock:
            instances = self._from_next()
            holding = (instance for instance in instances if instance.holds(target_model))
            chosen = next(holding, None) or min(instances, key=lambda instance: instance.models_held)
            return chosen.lease(target_model, hostname=hostname)

    def _from_next(self) -> list[Pipeline]:
        """Count an invocation, and list the instances with the next of the round robin first."""
        self._count()
        if not self._pipelines:
            raise recorded("no instance serves", variant=self.name)
        self._next = (self._next + 1) % len(self._pipelines)
        return self._pipelines[self._next :] + self._pipelines[: self._next]

    def invocations(self, seconds: float) -> int:
        first = int(time.monotonic() - seconds)
        with self._lock:
            for old in [second for second in self._invocations if second < first]:
                del self._invocations[old]
            return self._invocations.total()

    def _count(self) -> None:
        count_invocation(self._region, self._endpoint, self.name)
        self._invocations[int(time.monotonic())] += 1
        if len(self._invocations) > _SECONDS_COUNTED:
            del self._invocations[min(self._invocations)]

    def _wake_up(self) -> None:
        settings = self._region.settings
        moment = time.monotonic()
        with self._lock:
            cold = moment - self._last_used > settings.serverless_idle_seconds
            self._last_used = moment
        if cold and self.is_serverless:
            self._region.wait(lambda: settings.serverless_cold_start_seconds)

    def scale_to(self, count: int) -> list[Pipeline]:
        """Start or remove instances until there are ``count``; return the removed ones, for the caller to end.

        Raises ContainerFailed when a new instance does not start; then nothing has changed.
        """
        processes = min(count, MAX_PROCESSES)
        with self._lock:
            missing = processes - len(self._pipelines)
        started = self._start(missing) if missing > 0 else []
        with self._lock:
            self._pipelines.extend(started)
            removed, self._pipelines = self._pipelines[processes:], self._pipelines[:processes]
            self.instance_count = self.wanted_count = count
        return removed

    def _start(self, count: int) -> list[Pipeline]:
        def start() -> Pipeline:
            logs = LogTarget(self._group, f"{self.name}/i-{uuid.uuid4().hex[:17]}")
            return Pipeline.start(self._region, self.specs, logs, variant=self.name)

        with ThreadPoolExecutor(max_workers=count) as pool:
            starting = [pool.submit(start) for _ in range(count)]
        errors = [error for future in starting if (error := future.exception())]
        if errors:
            for started in [future.result() for future in starting if not future.exception()]:
                started.stop()
            raise errors[0]
        return [future.result() for future in starting]


class LiveEndpoint:
    """The instances behind an endpoint's name until the next update replaces them."""

    def __init__(self, region: Region, name: str, config: Record, models: Mapping[str, Record]) -> None:
        self.name = name
        self.config = config
        self.variants = {
            variant["VariantName"]: LiveVariant(region, name, variant, models[variant["ModelName"]])
            for variant in config["ProductionVariants"]
        }
        capture = CaptureConfig.of(config)
        self.data_capture = DataCapture(region, name, capture) if capture else None

    @property
    def is_async(self) -> bool:
        return bool(self.config.get("AsyncInferenceConfig"))

    def start(self) -> None:
        """Start every variant's instances. Raises ContainerFailed; nothing is left running then."""
        with ThreadPoolExecutor(max_workers=len(self.variants)) as pool:
            starting = [
                pool.submit(variant.scale_to, variant.wanted_count) for variant in self.variants.values()
            ]
        errors = [error for future in starting if (error := future.exception())]
        if errors:
            self.retire(timeout=0)
            raise errors[0]

    def retire(self, *, timeout: float) -> None:
        """End every instance once it is idle, at the latest after ``timeout`` seconds, and write the captured data."""
        for variant in self.variants.values():
            for pipeline in variant.scale_to(0):
                pipeline.retire(timeout=timeout)
        if self.data_capture:
            self.data_capture.flush()

    def choose_variant(self, target_variant: str | None) -> LiveVariant:
        """Choose the target variant, or any by weight. Raises ValidationError for an unknown one."""
        if target_variant is None:
            variants = list(self.variants.values())
            weights = [variant.weight for variant in variants]
            return random.choices(variants, weights if any(weights) else None)[0]  # noqa: S311 - traffic, not a secret
        if target_variant not in self.variants:
            raise recorded("the variant is not known", variant=target_variant, endpoint=self.name)
        return self.variants[target_variant]


def endpoint_in_service(region: Region, name: str) -> LiveEndpoint:
    """Find an endpoint that serves or is being updated. Raises ValidationError with the runtime's message.

    For the runtime, an endpoint that is being created or has failed does not exist. While traffic shifts, the new
    instances get their share of the calls.
    """
    with region.table(KIND) as endpoints:
        record = endpoints.get(name, {})
        live = record.get("_live")
        pending, serves = record.get("_pending"), record.get("EndpointStatus") not in _NOT_SERVING
    if live is not None and pending and pending["stage"] and random.random() < pending["stage"].share:  # noqa: S311 - traffic, not a secret
        live = pending["live"]
    if not serves or not isinstance(live, LiveEndpoint):
        raise recorded("no such endpoint at the runtime", endpoint=name, account=ACCOUNT_ID)
    return live


def notify(hooks: list[Hook], region: Region, name: str) -> None:
    for hook in hooks:
        region.in_background(f"{hook.__name__} {name}", functools.partial(hook, region, name))
