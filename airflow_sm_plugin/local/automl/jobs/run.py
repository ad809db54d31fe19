"""Run an AutoML job: fetch the data, train in a process, write the candidates to S3, update the record."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
import uuid
from pathlib import Path

from airflow_sm_plugin.local.account.operations import Params, handler_of
from airflow_sm_plugin.local.account.s3_objects import (
    BadManifest,
    Location,
    ObjectFailure,
    objects_below,
    objects_in_manifest,
    read,
    write,
)
from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.automl.jobs import candidates, step_jobs
from airflow_sm_plugin.local.automl.jobs.layout import CandidateLayout, JobLayout
from airflow_sm_plugin.local.automl.jobs.request import InputChannel, JobRequest
from airflow_sm_plugin.local.automl.training.plan import (
    ENSEMBLING,
    TUNING,
    Analyzed,
    ChannelFiles,
    Explained,
    Started,
    Trained,
    TrainingEvent,
    TrainingPlan,
)
from airflow_sm_plugin.local.automl.training.process import TrainingCache, TrainingCrashed, TrainingProcess
from airflow_sm_plugin.local.protocol.errors import ServiceFailure

_INSTANCE = "ml.m5.2xlarge"
_POLL_SECONDS = 0.1
"""Seconds between polls of a step's endpoint: short beside its start, so that a job is hardly delayed by it."""
_LARGE = 100 * 1024**2
"""From this size in bytes on, mode AUTO is hyperparameter tuning instead of ensembling."""
_REASON_LENGTH = 1024
"""Characters: the limit of FailureReason in SageMaker's API."""


class AutoMLFailure(Exception):
    """The job fails; the message is its FailureReason."""


def fetch(region: Region, channel: InputChannel, folder: Path) -> tuple[ChannelFiles, int]:
    """Copy the channel's objects into ``folder``; return them and their size in bytes. Raises AutoMLFailure."""
    folder.mkdir(parents=True)
    listed = objects_in_manifest if channel.kind == "ManifestFile" else objects_below
    try:
        sources = [listed_object.location for listed_object in listed(region, Location.parse(channel.uri))]
        if not sources:
            raise AutoMLFailure(f"No object was found at the S3 location {channel.uri}.")
        files = []
        for position, source in enumerate(sources):
            # Two objects can have the same file name, which messages repeat.
            path = folder / f"{position:05d}-{source.key.rsplit('/', 1)[-1]}"
            path.write_bytes(read(region, source))
            files.append(path)
    except ObjectFailure as failure:
        raise AutoMLFailure(f"The input data could not be read: {failure}.") from failure
    except BadManifest as error:
        raise AutoMLFailure(f"{error}.") from error
    size = sum(path.stat().st_size for path in files)
    return {"files": [str(path) for path in files], "gzipped": channel.gzipped}, size


def deploy(region: Region, request: JobRequest, candidate: Record, *, interrupted: threading.Event) -> str:
    """Create model, configuration and endpoint; return the endpoint's name once it is in service.

    Returns early when ``interrupted``. Raises AutoMLFailure.
    """
    name = f"{request.name[:40]}-{uuid.uuid4().hex[:8]}"
    endpoint = str((request.deploy or {}).get("EndpointName") or name)
    variant = {
        "VariantName": "main",
        "ModelName": name,
        "InstanceType": _INSTANCE,
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }
    model = {"ExecutionRoleArn": request.role, "Containers": candidate["InferenceContainers"]}
    try:
        _call(region, "CreateModel", {"ModelName": name, **model})
        _call(region, "CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]})
        _call(region, "CreateEndpoint", {"EndpointName": endpoint, "EndpointConfigName": name})
        return _in_service(region, endpoint, interrupted)
    except ServiceFailure as error:
        raise AutoMLFailure(f"The best candidate could not be deployed: {error.message}") from error


def _in_service(region: Region, endpoint: str, interrupted: threading.Event) -> str:
    while not interrupted.is_set():
        endpoint_record = _call(region, "DescribeEndpoint", {"EndpointName": endpoint})
        if endpoint_record["EndpointStatus"] == "Failed":
            raise AutoMLFailure(f"Endpoint {endpoint} failed: {endpoint_record.get('FailureReason', '')}")
        if endpoint_record["EndpointStatus"] == "InService":
            break
        interrupted.wait(_POLL_SECONDS)
    return endpoint


def _call(region: Region, operation: str, params: Params) -> Record:
    handler = handler_of(operation)
    if handler is None:
        raise AutoMLFailure(f"{operation} is not available.")
    return handler(region, params)


class _Ended(Exception):
    """The job's end: status, secondary status and reason."""

    def __init__(self, status: str, secondary: str, reason: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.secondary = secondary
        self.reason = reason


class AutoMLRun:
    """A job, run once in a thread of the region; ``stop`` can be called from any other thread."""

    def __init__(self, region: Region, record: Record, request: JobRequest) -> None:
        self._region = region
        self._record = record
        self._request = request
        self._started = time.monotonic()
        self._interrupted = threading.Event()
        self._expired = False
        self._process: TrainingProcess | None = None
        self._lock = threading.Lock()
        self._problem_type = ""
        self._objective = ""
        self._layouts: dict[int, CandidateLayout] = {}
        self._stored: set[str] = set()
        self._layout: JobLayout

    def stop(self) -> None:
        with self._lock:
            self._interrupted.set()
            if self._process is not None:
                self._process.kill()

    def run(self) -> None:
        """Run the job until its end; any error becomes its FailureReason."""
        limit = self._request.most_seconds
        timer = threading.Timer(limit, self._expire) if limit else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            with tempfile.TemporaryDirectory(prefix="automl-", ignore_cleanup_errors=True) as folder:
                self._carry_out(Path(folder))
        except _Ended as end:
            self._end(end)
        except (AutoMLFailure, ObjectFailure) as failure:
            self._end(_Ended("Failed", "Failed", str(failure)))
        except TrainingCrashed as crash:
            self._end(_Ended("Failed", "Failed", f"InternalServerError: the training process ended: {crash}"))
        except Exception:
            self._end(_Ended("Failed", "Failed", "InternalServerError: the embedded SageMaker failed."))
            raise
        finally:
            if timer:
                timer.cancel()

    def _carry_out(self, folder: Path) -> None:
        self._enter("AnalyzingData", 0.1)
        plan = self._plan(folder)
        process = TrainingProcess(folder)
        with self._lock:
            self._process = process
            if self._interrupted.is_set():
                process.kill()
        cache = self._region.training_cache
        with contextlib.closing(
            TrainingCache(cache).events(plan, process.events) if cache else process.events(plan)
        ) as events:
            for event in events:
                self._handle(event, plan)
        self._check()
        if plan["definitions_only"]:
            raise _Ended("Completed", "CandidateDefinitionsGenerated")
        self._enter("GeneratingModelInsightsReport", 0.9)
        self._wait(1.0)
        if self._request.deploy:
            self._deploy()
        raise _Ended("Completed", "Completed")

    def _plan(self, folder: Path) -> TrainingPlan:
        request = self._request
        training, size = fetch(self._region, request.training, folder / "training")
        validation = None
        if request.validation:
            validation, _ = fetch(self._region, request.validation, folder / "validation")
        mode = request.mode
        if mode == "AUTO":
            mode = TUNING if size >= _LARGE else ENSEMBLING
        self._layout = JobLayout(request.name, request.output, self._region.name, mode, uuid.uuid4().hex[:8])
        output = folder / "output"
        output.mkdir()
        return {
            "training": training,
            "validation": validation,
            "target": request.target,
            "weight": request.weight,
            "problem_type": request.problem_type,
            "objective": request.objective,
            "mode": mode,
            "max_candidates": request.max_candidates,
            "algorithms": list(request.algorithms),
            "validation_fraction": request.validation_fraction,
            "definitions_only": request.definitions_only,
            "output": str(output),
        }

    def _handle(self, event: TrainingEvent, plan: TrainingPlan) -> None:
        self._check()
        if event["event"] == "failed":
            raise _Ended("Failed", "Failed", event["reason"])
        if event["event"] == "analyzed":
            self._analyzed(event, plan)
        elif event["event"] == "started":
            self._candidate_started(event)
        elif event["event"] == "trained":
            self._candidate_trained(event)
        else:
            self._explained(event)

    def _analyzed(self, event: Analyzed, plan: TrainingPlan) -> None:
        self._problem_type, self._objective = event["problem_type"], event["objective"]
        self._write(self._layout.data_exploration, notebook("# Data exploration", event["report"]))
        self._write(self._layout.candidate_definition, notebook("# Candidate definitions", settings_of(plan)))
        with self._region.lock:
            self._record["AutoMLJobArtifacts"] = {
                "CandidateDefinitionNotebookLocation": self._layout.candidate_definition,
                "DataExplorationNotebookLocation": self._layout.data_exploration,
            }
            self._record["_resolved"] = {"ProblemType": self._problem_type, "MetricName": self._objective}
        ensembling = plan["mode"] == ENSEMBLING
        self._enter("PreTraining" if ensembling else "FeatureEngineering", 0.3)
        if not plan["definitions_only"]:
            self._enter("TrainingModels" if ensembling else "ModelTuning", 0.5)

    def _candidate_started(self, event: Started) -> None:
        layout = self._layout.candidate(event["number"], event["algorithm"], event["processor"])
        self._layouts[event["number"]] = layout
        with self._region.lock:
            step_jobs.begin(self._region, self._request, self._layout, layout)
            self._record["_candidates"][layout.name] = candidates.started(self._layout, layout)

    def _candidate_trained(self, event: Trained) -> None:
        layout, scores = self._layouts[event["number"]], event["scores"]
        for role, path in event["archives"].items():
            target = layout.archives[role]
            if target not in self._stored:
                self._write(target, Path(path).read_bytes())
                self._stored.add(target)
        self._write(f"{self._layout.insights(layout.name)}/statistics.json", json.dumps(scores).encode())
        with self._region.lock:
            record = self._record["_candidates"][layout.name]
            record |= candidates.trained(
                self._layout, layout, self._problem_type, self._objective, event["scores"]
            )
            step_jobs.complete(
                self._region, self._request, layout, record["InferenceContainers"], event["scores"]
            )
            self._record["BestCandidate"] = candidates.best(self._record["_candidates"].values())
            self._touch()

    def _explained(self, event: Explained) -> None:
        prefix = self._layout.explainability(self._layouts[event["number"]].name)
        report = {"method": "permutation", "metric": self._objective, "importances": event["importances"]}
        self._write(f"{prefix}/analysis.json", json.dumps(report).encode())

    def _deploy(self) -> None:
        self._set("DeployingModel")
        with self._region.lock:
            candidate = dict(self._record["BestCandidate"])
        endpoint = deploy(self._region, self._request, candidate, interrupted=self._interrupted)
        self._check()
        with self._region.lock:
            self._record["ModelDeployResult"] = {"EndpointName": endpoint}

    def _enter(self, secondary: str, share: float) -> None:
        """Begin a phase, after its share of the least time that a job takes."""
        self._wait(share)
        self._set(secondary)

    def _set(self, secondary: str) -> None:
        with self._region.lock:
            if self._record["AutoMLJobStatus"] == "InProgress":
                self._record["AutoMLJobSecondaryStatus"] = secondary
                self._touch()

    def _wait(self, share: float) -> None:
        self._region.wait(
            lambda: 0.0 if self._interrupted.is_set() else share * self._region.settings.automl_seconds,
            since=self._started,
        )
        self._check()
        if self._region.closed.is_set():
            raise _Ended("Stopped", "Stopped")

    def _check(self) -> None:
        if not self._interrupted.is_set():
            return
        if not self._expired:
            raise _Ended("Stopped", "Stopped")
        if self._record.get("BestCandidate"):
            raise _Ended("Completed", "MaxAutoMLJobRuntimeReached")
        raise _Ended(
            "Failed",
            "MaxAutoMLJobRuntimeReached",
            "MaxAutoMLJobRuntimeInSeconds passed before any candidate was ready.",
        )

    def _expire(self) -> None:
        self._expired = not self._interrupted.is_set()
        self.stop()

    def _end(self, end: _Ended) -> None:
        with self._region.lock:
            step_jobs.stop(self._region, self._record["AutoMLJobArn"])
            for candidate in self._record["_candidates"].values():
                if candidate["CandidateStatus"] == "InProgress":
                    candidate |= {"CandidateStatus": "Stopped", "ObjectiveStatus": "Failed", "EndTime": now()}
            if end.status == "Failed":
                self._record["BestCandidate"] = None
                self._record["FailureReason"] = (end.reason or "")[:_REASON_LENGTH]
            self._record["AutoMLJobStatus"] = end.status
            self._record["AutoMLJobSecondaryStatus"] = end.secondary
            self._touch()
            self._record["EndTime"] = self._record["LastModifiedTime"]

    def _touch(self) -> None:
        self._record["LastModifiedTime"] = now()

    def _write(self, uri: str, body: bytes) -> None:
        write(self._region, Location.parse(uri), body)


def settings_of(plan: TrainingPlan) -> str:
    shown = {
        "mode": plan["mode"],
        "target": plan["target"],
        "problem type": plan["problem_type"] or "detected in the data",
        "objective": plan["objective"] or "the problem type's default",
        "candidates at most": plan["max_candidates"] or "one of each kind",
        "algorithms": ", ".join(plan["algorithms"]) or "all",
    }
    return "\n".join(f"- {name}: {value}" for name, value in shown.items())


def notebook(title: str, text: str) -> bytes:
    cell = {"cell_type": "markdown", "metadata": {}, "source": [f"{title}\n\n", text]}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 2}).encode()
