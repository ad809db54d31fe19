"""``--training-cache``: what one service has trained, another need not train again."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_sm_plugin.local.automl.training.plan import TrainingEvent, TrainingPlan
from airflow_sm_plugin.local.automl.training.process import TrainingCache
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.automl.test_jobs import job_v1, put, run
from tests.local.conftest import Clients, clients_of

_ROWS = [f"{number},{number % 7},{'yes' if number % 3 else 'no'}" for number in range(60)]


class Trainer:
    """Stands for the training process: it yields ``events``, and leaves an archive for each candidate."""

    def __init__(self, *events: Any) -> None:  # noqa: ANN401 - one of five shapes
        self.events = events
        self.times = 0

    def __call__(self, plan: TrainingPlan) -> Generator[TrainingEvent]:
        self.times += 1
        for event in self.events:
            if event["event"] == "trained":
                path = Path(plan["output"]) / "model-1.tar.gz"
                path.write_bytes(b"an archive")
                yield cast("TrainingEvent", {**event, "archives": {"model": str(path)}})
            else:
                yield event


ANALYZED = {"event": "analyzed", "problem_type": "Regression", "objective": "MSE", "report": "60 rows"}
TRAINED = {"event": "trained", "number": 1, "algorithm": "xgboost", "scores": {"MSE": 0.5}}
EXPLAINED = {"event": "explained", "number": 1, "importances": {"a": 1.0}}
FAILED = {"event": "failed", "reason": "no rows"}


def plan_in(folder: Path, rows: str = "a,y\n1,2\n", **others: Any) -> TrainingPlan:  # noqa: ANN401 - a plan's
    """Return the plan of a job whose files lie in a new folder."""
    (folder / "output").mkdir(parents=True)
    (folder / "rows.csv").write_text(rows)
    plan: dict[str, Any] = {
        "training": {"files": [str(folder / "rows.csv")], "gzipped": False},
        "validation": None,
        "target": "y",
        "mode": "ENSEMBLING",
        "output": str(folder / "output"),
    }
    return cast("TrainingPlan", plan | others)


def events_of(cache: TrainingCache, plan: TrainingPlan, trainer: Trainer) -> list[Any]:
    """Return the events without the folders of their archives."""
    events: list[Any] = list(cache.events(plan, trainer))
    for event in events:
        for role, path in event.get("archives", {}).items():
            assert Path(path).read_bytes() == b"an archive"
            event["archives"][role] = Path(path).name
    return events


def test_the_same_job_hears_the_same_and_does_not_train(tmp_path: Path) -> None:
    trainer = Trainer(ANALYZED, TRAINED, EXPLAINED)
    first = events_of(TrainingCache(tmp_path / "kept"), plan_in(tmp_path / "1"), trainer)
    again = events_of(TrainingCache(tmp_path / "kept"), plan_in(tmp_path / "2"), trainer)
    assert again == first == [ANALYZED, {**TRAINED, "archives": {"model": "model-1.tar.gz"}}, EXPLAINED]
    assert trainer.times == 1


@pytest.mark.parametrize(
    "other", [{"rows": "a,y\n1,3\n"}, {"target": "a"}, {"mode": "HYPERPARAMETER_TUNING"}]
)
def test_other_data_or_settings_train(tmp_path: Path, other: dict[str, Any]) -> None:
    cache, trainer = TrainingCache(tmp_path / "kept"), Trainer(ANALYZED, TRAINED, EXPLAINED)
    events_of(cache, plan_in(tmp_path / "1"), trainer)
    events_of(cache, plan_in(tmp_path / "2", **other), trainer)
    assert trainer.times == 2


@pytest.mark.parametrize(
    "events",
    [(), (ANALYZED,), (ANALYZED, TRAINED), (ANALYZED, FAILED)],
    ids=["none", "early", "stopped", "failed"],
)
def test_a_training_that_did_not_end_well_is_not_kept(tmp_path: Path, events: tuple[Any, ...]) -> None:
    cache, trainer = TrainingCache(tmp_path / "kept"), Trainer(*events)
    events_of(cache, plan_in(tmp_path / "1"), trainer)
    events_of(cache, plan_in(tmp_path / "2"), trainer)
    assert trainer.times == 2
    assert not (tmp_path / "kept").exists()


def test_a_job_that_is_stopped_midway_keeps_nothing(tmp_path: Path) -> None:
    cache, trainer = TrainingCache(tmp_path / "kept"), Trainer(ANALYZED, TRAINED, EXPLAINED)
    events = cache.events(plan_in(tmp_path / "1"), trainer)
    next(events)
    events.close()
    assert not (tmp_path / "kept").exists()


def candidates(clients: Clients, name: str, rows: list[str]) -> list[tuple[str, float, bytes]]:
    """Run a job; return each candidate's name, score and model archive."""
    source = put(clients, "\n".join(["a,b,y", *rows]) + "\n")
    request = job_v1(name, source, f"s3://{clients.bucket}/models", AutoMLJobConfig={"Mode": "ENSEMBLING"})
    assert run(clients, request)["AutoMLJobStatus"] == "Completed"
    response = clients.sagemaker.list_candidates_for_auto_ml_job(AutoMLJobName=name)["Candidates"]
    return [
        (
            candidate["CandidateName"],
            candidate["FinalAutoMLJobObjectiveMetric"]["Value"],
            _body(clients, candidate["InferenceContainers"][0]["ModelDataUrl"]),
        )
        for candidate in response
    ]


def _body(clients: Clients, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_another_service_answers_with_the_same_archives(tmp_path: Path) -> None:
    with EmbeddedSageMaker(training_cache=tmp_path) as first:
        trained = candidates(clients_of(first.url, "first"), "first", _ROWS)
    (kept,) = tmp_path.iterdir()
    with EmbeddedSageMaker(training_cache=tmp_path) as second:
        clients = clients_of(second.url, "second")
        assert candidates(clients, "second", _ROWS) == trained
        assert [path.name for path in tmp_path.iterdir()] == [kept.name]
        (kept / "events.jsonl").write_text(  # the stored events are the answer
            "\n".join(_scored(json.loads(line)) for line in (kept / "events.jsonl").read_text().splitlines())
        )
        assert {score for _, score, _ in candidates(clients, "third", _ROWS)} == {0.25}
        candidates(clients, "other", [*_ROWS, "61,5,yes"])
    assert len(list(tmp_path.iterdir())) == 2


def _scored(event: dict[str, Any]) -> str:
    if event["event"] == "trained":
        event["scores"] = dict.fromkeys(event["scores"], 0.25)
    return json.dumps(event)
