"""Run a transform job: start its containers, send them the input in payloads, store their answers.

Format and keys of captured data: Developer Guide, "Capture data from batch transform job".
"""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import itertools
import json
import logging
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from airflow_sm_plugin.core.names import TRANSFORM_JOBS_LOG_GROUP, transform_job_streams
from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.s3_objects import (
    BadManifest,
    InputObject,
    Location,
    ObjectFailure,
    objects_below,
    objects_in_manifest,
)
from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.containers.container_logs import DataLog
from airflow_sm_plugin.local.containers.containers import (
    ContainerFailed,
    ContainerInput,
    ContainerReply,
    ContainerSpec,
    LogTarget,
    container_specs,
)
from airflow_sm_plugin.local.containers.pipelines import Pipeline
from airflow_sm_plugin.local.protocol.errors import ModelFailure
from airflow_sm_plugin.local.transform.data_processing import (
    ProcessingFailed,
    output_format,
    with_inference_ids,
)
from airflow_sm_plugin.local.transform.transform_plan import (
    MOST_CONCURRENT,
    MOST_INSTANCES,
    BadInput,
    Capture,
    TransformPlan,
    assemble,
    payloads,
)

log = logging.getLogger(__name__)
CLIENT_ERROR = "ClientError: See job logs for more information"
ALGORITHM_ERROR = "AlgorithmError: See job logs for more information"
_RETRY_SECONDS = 0.1
"""Pause before a failed request is sent again: the container is on this machine, and most failures are not overload."""
_WAITING_REQUESTS = 2 * MOST_CONCURRENT * MOST_INSTANCES
"""Payloads and answers in memory, 128: twice those in flight, so that no request waits for an answer to be written."""
NO_PING = (
    "AlgorithmError: Model container failed to respond to ping. Please ensure /ping endpoint is implemented "
    "and responds with an HTTP 200 status code"
)


class _Stopped(Exception):
    """The job is to end early."""


class TransformJob:
    """A job, which is run once and updates its record. ``stop`` can be called from any thread, at any time.

    An object that fails does not end the job: as in the service, the other objects are transformed before the job is
    Failed. An output is written by a single request, so a failed object has none.
    """

    def __init__(self, region: Region, record: Record, model: Record) -> None:
        self._region = region
        self._record = record
        self._name = str(record["TransformJobName"])
        self._plan = TransformPlan.of(record)
        self._specs = tuple(self._with_environment(spec) for spec in container_specs(model))
        self._streams = [
            f"{transform_job_streams(self._name)}i-{uuid.uuid4().hex[:17]}"
            for _ in range(self._plan.instances)
        ]
        self._stopping = threading.Event()
        self._pipelines: list[Pipeline] = []
        self._next_pipelines: Iterator[Pipeline] = iter(())
        self._lock = threading.Lock()
        self._started = now()
        self._data_log: DataLog

    def stop(self) -> None:
        """End the job early: no further request is sent, and requests in flight are abandoned. Returns at once."""
        self._stopping.set()
        self._region.in_background(f"stop-{self._name}", self._stop_pipelines)

    def run(self) -> None:
        began, self._started = time.monotonic(), now()
        forget_close = self._region.at_close(self.stop)
        self._update(TransformStartTime=self._started)
        failure: str | None = ALGORITHM_ERROR  # an unforeseen error must not end as a success
        try:
            log_target = LogTarget(TRANSFORM_JOBS_LOG_GROUP, self._streams[0])
            with DataLog(self._region, log_target) as self._data_log:
                failure = self._transform_all()
        except ContainerFailed as error:
            failure = NO_PING if "ping health check" in str(error) else f"ClientError: {error}"
        except (BadInput, BadManifest, ObjectFailure) as error:
            failure = f"ClientError: {error}"
        finally:
            self._stop_pipelines()
            settings = self._region.settings
            self._region.wait(
                lambda: 0.0 if self._stopping.is_set() else settings.transform_seconds, since=began
            )
            self._end(failure)
            forget_close()

    def _stop_pipelines(self) -> None:
        with self._lock:
            pipelines = list(self._pipelines)
        for pipeline in pipelines:
            pipeline.stop()

    def _end(self, failure: str | None) -> None:
        with self._region.lock:
            if self._stopping.is_set() or self._region.closed.is_set():
                status: Record = {"TransformJobStatus": "Stopped"}
            elif failure:
                status = {"TransformJobStatus": "Failed", "FailureReason": failure[:1024]}
            else:
                status = {"TransformJobStatus": "Completed"}
            self._update(TransformEndTime=now(), **status)
        log.info("transform job %s: %s", self._name, status["TransformJobStatus"])

    def _update(self, **changes: object) -> None:
        with self._region.lock:
            self._record.update(changes, LastModifiedTime=now())

    def _with_environment(self, spec: ContainerSpec) -> ContainerSpec:
        environment = {**spec.environment, **self._plan.environment, **self._record.get("Environment", {})}
        return dataclasses.replace(spec, environment=environment)

    def _transform_all(self) -> str | None:
        """Transform every object; return the job's FailureReason, if any."""
        listed = objects_in_manifest if self._plan.is_manifest else objects_below
        sources = list(listed(self._region, self._plan.source))
        self._start_pipelines()
        self._data_log.write(self._plan.log_line)
        width = self._plan.concurrent * len(self._pipelines)
        with ThreadPoolExecutor(width) as objects, ThreadPoolExecutor(width) as requests:
            failures = [
                failure
                for failure in objects.map(lambda source: self._transform(source, requests), sources)
                if failure
            ]
        capture = self._plan.capture
        if not failures and capture and not self._stopping.is_set():
            write_manifests(self._region, capture, sources, self._plan.output, started=self._started)
        return failures[0] if failures else None

    def _start_pipelines(self) -> None:
        with ThreadPoolExecutor(len(self._streams)) as starting:
            for started in [starting.submit(self._start_pipeline, stream) for stream in self._streams]:
                started.result()
        self._next_pipelines = itertools.cycle(self._pipelines)

    def _start_pipeline(self, stream: str) -> None:
        pipeline = Pipeline.start(self._region, self._specs, LogTarget(TRANSFORM_JOBS_LOG_GROUP, stream))
        with self._lock:
            self._pipelines.append(pipeline)
        if self._stopping.is_set():
            pipeline.stop()

    def _transform(self, source: InputObject, requests: ThreadPoolExecutor) -> str | None:
        """Transform an object; return the failure's reason, if any."""
        if self._stopping.is_set():
            return None
        try:
            data = s3_objects.read(self._region, source.location)
            batches = payloads(
                gzip.decompress(data) if self._plan.gzip else data,
                split_type=self._plan.split_type,
                batch_strategy=self._plan.batch_strategy,
                max_payload_bytes=self._plan.max_payload_bytes,
            )
            output = assemble(self._answers(requests, batches), self._plan.assemble_with)
            location = self._plan.output.below(f"{source.relative}.out")
            s3_objects.write(self._region, location, output, kms_key_id=self._plan.kms_key_id)
        except _Stopped:
            return None
        except ModelFailure as error:
            return self._model_failure(source, error)
        except (BadInput, ProcessingFailed, ObjectFailure, OSError, EOFError) as error:
            self._log_failure(source, f"ClientError: {error}")
            return CLIENT_ERROR
        return None

    def _answers(self, requests: ThreadPoolExecutor, batches: Iterator[Sequence[bytes]]) -> Iterator[bytes]:
        """Yield the answers in order, with a bounded number of requests waiting."""
        waiting: deque[Future[bytes]] = deque()
        try:
            for batch in batches:
                waiting.append(requests.submit(self._answer, batch))
                if len(waiting) > _WAITING_REQUESTS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for request in waiting:
                request.cancel()

    def _answer(self, batch: Sequence[bytes]) -> bytes:
        """Make the output of a batch of records. Raises ModelFailure, ProcessingFailed."""
        if self._stopping.is_set():
            raise _Stopped
        body = b"".join(batch)
        processing = self._plan.processing
        reply = self._invoke(processing.request_body(body) if processing else body)
        answer = processing.output(body, reply.body) if processing else reply.body
        if self._plan.capture and self._plan.capture.generates_ids:
            kind = output_format(self._plan.accept or reply.content_type, self._plan.split_type)
            return with_inference_ids(answer, kind, started=self._started)
        return answer

    def _invoke(self, body: bytes) -> ContainerReply:
        payload = ContainerInput(body, self._plan.content_type, self._plan.accept)
        tries_left = self._plan.retries
        while True:
            with self._lock:
                pipeline = next(self._next_pipelines)
            try:
                return pipeline.invoke(payload, timeout=self._plan.timeout)
            except ModelFailure as error:
                if not tries_left or _is_client_error(error) or self._stopping.wait(_RETRY_SECONDS):
                    raise
            tries_left -= 1

    def _model_failure(self, source: InputObject, error: ModelFailure) -> str:
        if _is_client_error(error):
            self._log_failure(source, f"ClientError: {error.original_status}")
        elif error.original_status:
            self._log_failure(source, f"Bad HTTP status received from algorithm: {error.original_status}")
        else:
            self._log_failure(source, "Unable to get response from algorithm")
        self._log_failure(source, "", "Message:", error.original_message)
        return CLIENT_ERROR if _is_client_error(error) else ALGORITHM_ERROR

    def _log_failure(self, source: InputObject, *texts: str) -> None:
        """Write to the data log. No other output has the reason of a failed object."""
        lines = [line for text in texts for line in text.splitlines() or [""]]
        path = f"{source.location.bucket}/{source.location.key}"
        self._data_log.write("\n".join(f"{path}: {line}" for line in lines))


def _is_client_error(error: ModelFailure) -> bool:
    return 400 <= error.original_status < 500


def write_manifests(
    region: Region,
    capture: Capture,
    sources: Sequence[InputObject],
    output: Location,
    *,
    started: datetime.datetime,
) -> None:
    """Write the manifests of a completed job, with the hour of its start in their keys. Raises ObjectFailure."""
    outputs = [(f"{output.below('').uri.rstrip('/')}/", f"{source.relative}.out") for source in sources]
    for folder, entries in (("input", map(_split, sources)), ("output", outputs)):
        for manifest in manifests(entries):
            name = f"{folder}/{started:%Y/%m/%d/%H}/{uuid.uuid4()}.jsonl"
            body = json.dumps(manifest).encode()
            s3_objects.write(region, capture.destination.below(name), body, kms_key_id=capture.kms_key_id)


def manifests(entries: Iterable[tuple[str, str]]) -> list[list[object]]:
    """Build a manifest, ``[{"prefix": "s3://bucket/p/"}, "name", …]``, for each prefix of (prefix, name) pairs."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for prefix, name in entries:
        names[prefix].append(name)
    return [[{"prefix": prefix}, *below] for prefix, below in names.items()]


def _split(source: InputObject) -> tuple[str, str]:
    uri = source.location.uri
    if uri.endswith(f"/{source.relative}"):
        return uri.removesuffix(source.relative), source.relative
    folder, _, name = uri.rpartition("/")
    return f"{folder}/", name
