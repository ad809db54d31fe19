"""Thirty models' records through a multi-model endpoint on a real scheduler, on a bad day, then what was missing.

Models load slowly and push each other out; calls are throttled, fail, break off; one model is missing, some records are
bad. One shard's worker is killed, its next one frozen and left behind, to be thawed while the third works; the other's
is killed with its supervisor. Every record is in one output once; the models themselves count what they were asked.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import psutil
import pytest
import requests

from airflow_sm_plugin.local.stack.airflow_api import Json, RunStatus
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.multi_model.plan.plan import ShardPlan
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.records import Failure, JournalPart, Run
from tests.e2e.conftest import until
from tests.e2e.workers import Worker
from tests.support import IMAGE, ROLE, Account, archive, unique

DAG, BATCH = "e2e_multi_model", "scores.batch"
SECRET, PAYLOAD = "planted-trace", "planted-payload"
MODELS = [f"m{number:02d}" for number in range(30)]
MISSING = "m22"
RECORDS = 40
BAD = {("m05", 13), ("m20", 0), ("m20", 39), ("m11", 25), ("m11", 26)}
MODEL = """
import os, pathlib, time

def model_fn(model_dir):
    counts = os.open(os.environ["COUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return pathlib.Path(model_dir, "name.txt").read_text(), counts

def transform_fn(model, data, content_type, accept, context):
    name, counts = model
    payload, kind, number = data.decode().split()
    trace = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    os.write(counts, f"{name} {number} {trace}\\n".encode())
    time.sleep(0.05)
    if kind == "bad":
        error = ValueError("it cannot be scored")
        error.status_code = 400
        raise error
    return f"{name}/{number}", accept
"""
FAULTS: list[dict[str, Any]] = [
    {"fault": "throttle", "probability": 0.05},
    {"fault": "error", "code": "InternalFailure", "probability": 0.01},
    {"fault": "error", "code": "ServiceUnavailable", "probability": 0.01},
    {"fault": "drop", "probability": 0.005},
    {"fault": "lost_answer", "probability": 0.005},
]


class Record(NamedTuple):
    """One record of a model's only input."""

    model: str
    number: int


class Call(NamedTuple):
    """One that reached a model, as the model saw it."""

    record: Record
    trace: str

    @property
    def model(self) -> str:
        return self.record.model


@dataclass(frozen=True)
class Day:
    """The endpoint, where things lie, and the run."""

    account: Account
    stack: AirflowStack
    endpoint: str
    counts: Path
    run_id: str

    @property
    def root(self) -> str:
        return f"s3://{self.account.bucket}/{self.endpoint}"

    def asked(self) -> list[Call]:
        """Return the calls that reached a model, in order."""
        lines = self.counts.read_text().splitlines() if self.counts.exists() else []
        rows = (line.split() for line in lines)
        return [Call(Record(model, int(number)), trace) for model, number, trace in rows]

    def shard(self, number: int) -> tuple[ShardFolder, list[str]]:
        """Return where a shard lies, and its models: of each it has one input."""
        plan = cast("dict[str, Any]", self.xcom("scores.plan", key="plan"))
        folder = MultiModelPlanFolder(plan["plan_location"]).shard(number)
        models = ShardPlan.from_json(self.account.read(folder.plan)).models
        return folder, [work.target_model.removesuffix(".tar.gz") for work in models]

    def written(self, number: int) -> set[Record]:
        """Return the records of a shard whose end is written down for good."""
        folder, models = self.shard(number)
        bucket, _, prefix = folder.journal.removeprefix("s3://").partition("/")
        found = self.account.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        parts = [JournalPart.from_json(self.account.read(f"s3://{bucket}/{one['Key']}")) for one in found]
        rows: list[Run | Failure] = [run for part in parts for run in part.runs]
        rows += [failure for part in parts for failure in part.failures if not failure.retryable]
        return {
            Record(models[one.entry], one.first_record + number)
            for one in rows
            for number in range(one.records or 0)
        }

    def xcom(self, task: str, *, key: str = "return_value", map_index: int = -1) -> Any:  # noqa: ANN401 - JSON
        return self.stack.api.xcom(DAG, self.run_id, task, key=key, map_index=map_index)

    def worker(self, shard: int) -> Worker:
        return Worker(self.stack, DAG, self.run_id, BATCH, map_index=shard)

    def try_of(self, shard: int) -> tuple[int, str | None]:
        tasks = self.stack.api.task_instances(DAG, self.run_id)
        return next(
            (task.try_number, task.state)
            for task in tasks
            if (task.task_id, task.map_index) == (BATCH, shard)
        )

    def output(self, model: str, suffix: str = ".out") -> bytes | None:
        try:
            return self.account.read(f"{self.root}/out/model={model}/day.txt{suffix}")
        except self.account.s3.exceptions.NoSuchKey:
            return None

    def errors(self, model: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output(model, ".errors.jsonl") or b"").splitlines()]

    def end(self) -> RunStatus:
        """Wait for the run's end; a busy machine's API server may take longer than a request of ours waits."""
        while True:
            try:
                return self.stack.api.wait_for_run(DAG, self.run_id, seconds=1700)
            except requests.exceptions.ReadTimeout:
                continue

    def logs(self, run_status: RunStatus) -> str:
        """Return the logs of all tries of all tasks."""
        return "\n".join(
            self.stack.api.log_text(
                DAG, self.run_id, task.task_id, try_number=number, map_index=task.map_index
            )
            for task in run_status.tasks
            for number in range(1, task.try_number + 1)
        )


class Kept(NamedTuple):
    """Results that were written down before a worker was killed, and the number of calls by then."""

    calls: int
    written: set[Record]


@dataclass(frozen=True)
class Ended:
    """A day and what was seen at its end."""

    day: Day
    run_status: RunStatus
    asked: list[Call]
    report: Mapping[str, Any]
    kept: Sequence[Kept]


def _plan_faults(account: Account, endpoint: str) -> None:
    rules = [{"operation": "InvokeEndpoint", "resource": endpoint, **fault} for fault in FAULTS]
    url = f"{account.url}/_embedded/faults"
    requests.post(url, json=rules, timeout=1700).raise_for_status()


def _forget_faults(account: Account, endpoint: str) -> None:
    url = f"{account.url}/_embedded/faults"
    requests.delete(url, params={"resource": endpoint}, timeout=1700).raise_for_status()


def _upload_model(account: Account, endpoint: str, model: str) -> None:
    body = archive({"code/inference.py": MODEL, "name.txt": model})
    account.s3.put_object(Bucket=account.bucket, Key=f"{endpoint}/models/{model}.tar.gz", Body=body)


def _create_endpoint(account: Account, name: str, counts: Path) -> None:
    account.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": IMAGE,
            "Mode": "MultiModel",
            "ModelDataUrl": f"s3://{account.bucket}/{name}/models/",
            "Environment": {"COUNTS": str(counts)},
        },
    )
    account.create_config(name, name=name)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    account.wait_for_endpoint(name)


@pytest.fixture(scope="module")
def endpoint(module_account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A multi-model endpoint that holds 8 models, each of which takes a while to load; its inputs."""
    account, name = module_account, unique("many")
    counts = tmp_path_factory.mktemp("counts") / "counts"
    for model in MODELS:
        if model != MISSING:
            _upload_model(account, name, model)
        kinds = ("bad" if (model, number) in BAD else "good" for number in range(RECORDS))
        text = "".join(f"{PAYLOAD} {kind} {number}\n" for number, kind in enumerate(kinds))
        account.upload(text, f"{name}/in/model={model}/day.txt")
    _create_endpoint(account, name, counts)
    with account.settings(
        multi_model_capacity=8, multi_model_load_seconds=0.3, multi_model_ready_wait_seconds=0.2
    ):
        yield name, counts
    account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture(scope="module")
def bad_day(airflow_stack: AirflowStack, module_account: Account, endpoint: tuple[str, Path]) -> Ended:
    """The run on a bad day, at its end."""
    name, counts = endpoint
    root = f"s3://{module_account.bucket}/{name}"
    conf: dict[str, Json] = {
        "endpoint": name,
        "inputs": f"{root}/in/",
        "outputs": f"{root}/out",
        "secret": SECRET,
        "ratio": 0.01,
    }
    _plan_faults(module_account, name)
    (airflow_stack.home / "brake").touch()
    airflow_stack.api.wait_for_dag(DAG)
    day = Day(module_account, airflow_stack, name, counts, airflow_stack.api.trigger(DAG, conf=conf))
    kept = _harm(day)
    run_status = day.end()
    _forget_faults(module_account, name)
    report = json.loads(module_account.read(f"{root}/out/report.json"))
    return Ended(day, run_status, day.asked(), report, kept)


def _harm(day: Day) -> list[Kept]:
    """Kill both workers, one with its supervisor; orphan the other's next, frozen, and thaw it later.

    While there is a brake no worker ends: each stops after the DAG's ANSWERS.
    """
    until(lambda: bool(day.asked()))
    models = set(day.shard(0)[1])

    def progress() -> int:
        return sum(call.model in models for call in day.asked())

    def goes_on(number: int, calls: int) -> None:
        until(lambda: day.try_of(0) == (number, "running") and progress() >= calls)

    def kept(shard: int) -> Kept:
        until(lambda: bool(day.written(shard)))
        written = day.written(shard)
        return Kept(len(day.asked()), written)

    goes_on(1, 50)
    before = [kept(1), kept(0)]
    day.worker(1).kill()
    day.worker(0).kill_task()
    goes_on(2, progress() + 50)
    before.append(kept(0))
    orphan = day.worker(0)
    orphan.freeze_and_orphan()
    goes_on(3, progress() + 30)
    orphan.task.send_signal(signal.SIGCONT)
    (day.stack.home / "brake").unlink()
    psutil.wait_procs([orphan.task], timeout=1700)
    assert not orphan.task.is_running(), "the orphan goes on"
    return before


def test_a_small_batch_is_planned_spread_and_merged(
    airflow_stack: AirflowStack, account: Account, tmp_path: Path
) -> None:
    """Undisturbed: two models, a shard each, and every record once in its model's output."""
    name, counts = unique("few"), tmp_path / "counts"
    for model in ("m0", "m1"):
        _upload_model(account, name, model)
        text = "".join(f"{PAYLOAD} good {number}\n" for number in range(3))
        account.upload(text, f"{name}/in/model={model}/day.txt")
    _create_endpoint(account, name, counts)
    root = f"s3://{account.bucket}/{name}"
    conf: dict[str, Json] = {
        "endpoint": name,
        "inputs": f"{root}/in/",
        "outputs": f"{root}/out",
        "secret": SECRET,
        "ratio": 0,
    }
    airflow_stack.api.wait_for_dag(DAG)
    day = Day(account, airflow_stack, name, counts, airflow_stack.api.trigger(DAG, conf=conf))
    run_status = day.end()
    states = {task.label: (task.state, task.try_number) for task in run_status.tasks}
    assert {label: state for label, state in states.items() if label.startswith("scores.")} == {
        "scores.plan": ("success", 1),
        "scores.batch[0]": ("success", 1),
        "scores.batch[1]": ("success", 1),
        "scores.merge": ("success", 1),
    }, day.logs(run_status)
    for model in ("m0", "m1"):
        assert (day.output(model) or b"").decode().splitlines() == [f"{model}/{n}" for n in range(3)]
    assert Counter(day.asked()) == Counter(
        Call(Record(model, n), f"{SECRET}/{model}/{n}") for model in ("m0", "m1") for n in range(3)
    )
    summary = day.xcom("scores.merge")
    assert (summary["records"], summary["succeeded"], summary["shards"]) == (6, 6, 2)
    written = day.logs(run_status) + json.dumps(summary)
    assert SECRET not in written
    assert PAYLOAD not in written
    account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.slow
def test_the_batch_tasks_survive_and_the_merge_judges(bad_day: Ended) -> None:
    """Tolerated is one record in a hundred; a missing model is more."""
    states = {task.label: (task.state, task.try_number) for task in bad_day.run_status.tasks}
    assert states["scores.plan"] == ("success", 1), states
    assert states["scores.batch[0]"] == ("success", 3), states
    assert states["scores.batch[1]"] == ("success", 2), states
    assert states["scores.merge"] == ("failed", 1), states
    log = bad_day.day.stack.api.log_text(DAG, bad_day.day.run_id, "scores.merge")
    assert "BatchFailed" in log
    assert f"{MISSING}.tar.gz" in log


@pytest.mark.slow
def test_every_record_is_once_in_output_or_errors_and_in_order(bad_day: Ended) -> None:
    for model in MODELS:
        lost = [
            number
            for row in bad_day.day.errors(model)
            for number in range(row["first_record"], row["first_record"] + row["record_count"])
        ]
        failing = set(range(RECORDS)) if model == MISSING else {n for name, n in BAD if name == model}
        assert lost == sorted(failing)
        expected = [f"{model}/{number}" for number in range(RECORDS) if number not in failing]
        assert (bad_day.day.output(model) or b"").decode().splitlines() == expected


@pytest.mark.slow
def test_the_report_adds_up(bad_day: Ended) -> None:
    summary, failed = bad_day.report, RECORDS + len(BAD)
    records = len(MODELS) * RECORDS
    assert (summary["inputs"], summary["records"]) == (len(MODELS), records)
    assert (summary["failed"], summary["succeeded"]) == (failed, records - failed)
    assert (summary["shards"], summary["shards_missing"]) == (2, 0)
    page = bad_day.day.account.read(f"{bad_day.day.root}/out/report.html").decode()
    assert MISSING in page


@pytest.mark.slow
def test_what_was_written_down_before_a_kill_is_not_invoked_again(bad_day: Ended) -> None:
    asked = [call.record for call in bad_day.asked]
    assert set(asked) == {Record(m, n) for m in MODELS if m != MISSING for n in range(RECORDS)}
    for calls, written in bad_day.kept:
        assert not written.intersection(asked[calls:])


@pytest.mark.slow
def test_each_call_carried_its_own_custom_attributes(bad_day: Ended) -> None:
    wrong = [call for call in bad_day.asked if call.trace != f"{SECRET}/{call.model}/{call.record.number}"]
    assert wrong == []


@pytest.mark.slow
def test_payloads_and_custom_attributes_reach_neither_logs_nor_xcom(bad_day: Ended) -> None:
    day = bad_day.day
    written = day.logs(bad_day.run_status) + json.dumps(
        [
            day.xcom("scores.plan"),
            day.xcom("scores.plan", key="plan"),
            day.xcom("scores.merge", key="sagemaker_endpoint_link"),
        ]
        + [day.xcom(BATCH, map_index=shard) for shard in (0, 1)]
    )
    assert "batch report: " in written
    assert SECRET not in written
    assert PAYLOAD not in written


@pytest.mark.slow
def test_cleared_as_a_whole_only_what_failed_is_invoked_again(bad_day: Ended) -> None:
    """The missing model has been brought; the bad records are bad as ever, and few enough to be tolerated."""
    day = bad_day.day
    kept = {model: day.output(model) for model in MODELS if model != MISSING}
    _upload_model(day.account, day.endpoint, MISSING)
    body: dict[str, Json] = {
        "dry_run": False,
        "only_failed": False,
        "dag_run_id": day.run_id,
        "task_ids": ["scores.plan"],
        "include_downstream": True,
    }
    day.stack.api._call("POST", f"/dags/{DAG}/clearTaskInstances", json=body)
    run_status = day.end()
    assert run_status.state == "success", day.logs(run_status)
    again = Counter(call.record for call in day.asked()[len(bad_day.asked) :])
    assert again == Counter({*BAD, *((MISSING, number) for number in range(RECORDS))})
    assert (day.output(MISSING) or b"").decode().splitlines() == [f"{MISSING}/{n}" for n in range(RECORDS)]
    assert day.errors(MISSING) == []
    assert {model: day.output(model) for model in kept} == kept
    summary = day.xcom("scores.merge")
    assert (summary["records"], summary["failed"]) == (len(MODELS) * RECORDS, len(BAD))
