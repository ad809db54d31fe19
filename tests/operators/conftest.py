"""Autopilot jobs of every kind, really trained once for all tests of this folder."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from tests.async_inference.batch.async_batches import OBEDIENT
from tests.stubs.notified_endpoint import NotifiedEndpoint, notified_endpoint
from tests.support import POLL, ROLE, Account, unique

_LONGEST_TRAINING = 900.0


@dataclass(frozen=True)
class Jobs:
    """Names of AutoML jobs that have ended."""

    tuned_binary: str
    """V1, HYPERPARAMETER_TUNING: candidates of three containers."""
    ensembled_multiclass: str
    """V2, ENSEMBLING: candidates of one container."""
    tuned_regression: str
    """V1, HYPERPARAMETER_TUNING: candidates of two containers, none of which selects response keys."""
    definitions_only: str
    """Completed without a best candidate."""
    failed: str
    stopped: str


@pytest.fixture(autouse=True)
def _in_the_account(account: Account) -> None:
    """Every operator of this folder reaches the embedded SageMaker."""


@pytest.fixture
def shared_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have hooks of one service, region and configuration share a boto3 client: one costs as much as 20 calls.

    Only for tests without credentials that change, and without ``on_kill``, which is asked for before each call.
    """
    make = AwsGenericHook.get_client_type
    clients: dict[object, Any] = {}
    lock = threading.Lock()

    def shared(
        hook: Any,  # noqa: ANN401 - the provider's hook, of any kind
        region_name: str | None = None,
        config: Any = None,  # noqa: ANN401 - botocore's
        deferrable: bool = False,
    ) -> Any:  # noqa: ANN401 - boto3's
        if deferrable:  # a trigger's client lives in its event loop
            return make(hook, region_name, config, deferrable)
        options = vars(config or hook.config)["_user_provided_options"]
        key = (type(hook), hook.client_type, region_name or hook.region_name, repr(options))
        with lock:
            if key not in clients:
                clients[key] = make(hook, region_name, config)
        return clients[key]

    monkeypatch.setattr(AwsGenericHook, "get_client_type", shared)


@pytest.fixture
def notified(account: Account) -> Iterator[NotifiedEndpoint]:
    with notified_endpoint(account, OBEDIENT) as endpoint:
        yield endpoint


@pytest.fixture
def opening_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that is made after the first poll of a trigger."""
    path = tmp_path / "gate"

    class OpeningWatcher(ResultWatcher):
        async def poll(self, *args: Any, **kwargs: Any) -> WatchState:  # noqa: ANN401 - handed on
            state = await super().poll(*args, **kwargs)
            path.touch()
            return state

    monkeypatch.setattr("airflow_sm_plugin.triggers.async_inference.ResultWatcher", OpeningWatcher)
    monkeypatch.setattr("airflow_sm_plugin.triggers.async_inference._FIRST_PAUSE", 0.0)
    return path


@pytest.fixture(scope="session")
def jobs(session_account: Account) -> Jobs:
    """AutoML jobs that have ended in every way; trained side by side."""
    account = session_account
    names = Jobs(
        stopped=_stopped(account),
        tuned_binary=_start_v1(account, _classes(2)),
        ensembled_multiclass=_start_v2(account, _classes(3)),
        tuned_regression=_start_v1(account, _numbers()),
        definitions_only=_start_v1(account, _classes(2), definitions_only=True),
        failed=_start_v1(account, _classes(2), target="no_such_column"),
    )
    for name in vars(names).values():
        _wait(account, name)
    return names


@pytest.fixture
def running_job(account: Account) -> Iterator[Callable[[float], str]]:
    """Start jobs that take at least so many seconds; those still running are stopped in the end."""
    started: list[str] = []

    def start(seconds: float) -> str:
        account.change_settings(automl_seconds=seconds)
        started.append(_start_v1(account, _classes(2)))
        return started[-1]

    with account.settings():
        yield start
        for name in started:
            if (
                account.sagemaker.describe_auto_ml_job_v2(AutoMLJobName=name)["AutoMLJobStatus"]
                == "InProgress"
            ):
                account.sagemaker.stop_auto_ml_job(AutoMLJobName=name)
                _wait(account, name)


def _start_v1(account: Account, rows: str, *, target: str = "y", definitions_only: bool = False) -> str:
    name = unique("j")
    account.sagemaker.create_auto_ml_job(
        AutoMLJobName=name,
        InputDataConfig=[
            {
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": account.upload(rows, f"{name}/train.csv"),
                    }
                },
                "TargetAttributeName": target,
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{account.bucket}/{name}"},
        AutoMLJobConfig={"CompletionCriteria": {"MaxCandidates": 2}, "Mode": "HYPERPARAMETER_TUNING"},
        GenerateCandidateDefinitionsOnly=definitions_only,
        RoleArn=ROLE,
    )
    return name


def _start_v2(account: Account, rows: str) -> str:
    name = unique("j")
    source = {"S3DataType": "S3Prefix", "S3Uri": account.upload(rows, f"{name}/train.csv")}
    account.sagemaker.create_auto_ml_job_v2(
        AutoMLJobName=name,
        AutoMLJobInputDataConfig=[{"ChannelType": "training", "DataSource": {"S3DataSource": source}}],  # type: ignore[typeddict-item] # a plain dict
        OutputDataConfig={"S3OutputPath": f"s3://{account.bucket}/{name}"},
        AutoMLProblemTypeConfig={
            "TabularJobConfig": {
                "TargetAttributeName": "y",
                "CompletionCriteria": {"MaxCandidates": 2},
                "Mode": "ENSEMBLING",
            }
        },
        RoleArn=ROLE,
    )
    return name


def _stopped(account: Account) -> str:
    with account.settings(automl_seconds=3600):
        name = _start_v1(account, _classes(2))
        account.sagemaker.stop_auto_ml_job(AutoMLJobName=name)
        _wait(account, name)
    return name


def _classes(count: int) -> str:
    """Return rows whose class follows from ``a`` with a little noise from ``b``."""
    generator = random.Random(7)  # noqa: S311 - data to train on
    rows = [(generator.random() * count, generator.random()) for _ in range(90)]
    return "a,b,y\n" + "".join(f"{a:.3f},{b:.3f},class-{int(a)}\n" for a, b in rows)


def _numbers() -> str:
    generator = random.Random(7)  # noqa: S311 - data to train on
    rows = [(generator.random(), generator.random()) for _ in range(90)]
    return "a,b,y\n" + "".join(f"{a:.3f},{b:.3f},{3 * a - b + 0.001:.6f}\n" for a, b in rows)


def _wait(account: Account, name: str) -> None:
    give_up = time.monotonic() + _LONGEST_TRAINING
    while (status := account.sagemaker.describe_auto_ml_job_v2(AutoMLJobName=name)["AutoMLJobStatus"]) in (
        "InProgress",
        "Stopping",
    ):
        if time.monotonic() > give_up:
            raise TimeoutError(f"AutoML job {name} is still {status}")
        time.sleep(POLL)
