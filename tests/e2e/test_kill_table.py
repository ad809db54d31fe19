"""The task's process is killed after the call of create, update and delete that counts; Airflow retries.

The end is the same as undisturbed: nothing missing, nothing left over, nothing made or paid for twice.
``tests/operators/test_killed_deployments.py`` does the same after every call, without processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_sm_plugin.local.stack.airflow_api import Json
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from tests.endpoint_trials import (
    REGIONS,
    End,
    Verb,
    begun,
    effects,
    end_of,
    in_region,
    key_of,
    without_marks,
)
from tests.support import Account

pytestmark = pytest.mark.slow

LONGEST_RUN = 1700
TASK = "killed"


@dataclass(frozen=True)
class Outcome:
    """The course of a run: its end, its effects, its number of tries, the first one's calls, the last one's log."""

    end: End
    effects: Counter[tuple[str, str]]
    tries: int
    calls: list[str]
    log: str


@pytest.fixture(autouse=True)
def _quick(account: Account) -> Iterator[None]:
    with account.settings(
        endpoint_creating_seconds=0.1, endpoint_updating_seconds=0.1, endpoint_deleting_seconds=0.1
    ):
        yield


def outcomes(
    stack: AirflowStack, account: Account, dag_id: str, kills: Mapping[Verb, str], folder: Path
) -> list[Outcome]:
    """Run two trials of each verb side by side in one run of a DAG: undisturbed, and killed after a call."""
    stack.api.wait_for_dag(dag_id)
    rows = [(verb, call) for verb, last in kills.items() for call in ("", last)]
    # Each in a region of its own: operators list all endpoints of their own.
    accounts = [in_region(account, region) for _, region in zip(rows, REGIONS, strict=False)]
    trials = [begun(there, verb) for there, (verb, _) in zip(accounts, rows, strict=True)]
    files = [folder / f"{trial.name}.calls" for trial in trials]
    conf: list[Json] = [
        {"arguments": dict(trial.arguments), "kill_after": call, "calls": str(file)}
        for trial, (_, call), file in zip(trials, rows, files, strict=True)
    ]
    run_id = stack.api.trigger(dag_id, conf={"trials": conf})
    run_status = stack.api.wait_for_run(dag_id, run_id, seconds=LONGEST_RUN)
    tries = {task.map_index: task.try_number for task in run_status.tasks if task.task_id == TASK}
    logs = [
        stack.api.log_text(dag_id, run_id, TASK, try_number=tries[index], map_index=index)
        for index in range(len(trials))
    ]
    assert run_status.state == "success", logs
    found = [
        Outcome(
            end=end_of(there, trial),
            effects=without_marks(effects(account, trial)),
            tries=tries[index],
            calls=files[index].read_text().splitlines(),
            log=logs[index],
        )
        for index, (there, trial) in enumerate(zip(accounts, trials, strict=True))
    ]
    for there, trial in zip(accounts, trials, strict=True):
        if there.status(trial.name) is not None:  # the next trial there would find it as well
            there.sagemaker.delete_endpoint(EndpointName=trial.name)
            there.wait_for_endpoint(trial.name, "endpoint_deleted")
    return found


@pytest.mark.parametrize(
    ("dag_id", "kills"),
    [
        ("kill_deploy", {"create": "CreateEndpoint", "update": "UpdateEndpoint"}),
        ("kill_deploy_deferrable", {"create": "CreateEndpoint"}),
        ("kill_delete", {"delete": "DeleteEndpoint"}),
    ],
)
def test_a_task_that_is_killed_comes_to_the_same_end(
    airflow_stack: AirflowStack, account: Account, tmp_path: Path, *, dag_id: str, kills: Mapping[Verb, str]
) -> None:
    found = outcomes(airflow_stack, account, dag_id, kills, tmp_path)
    for peace, outcome, last in zip(found[::2], found[1::2], kills.values(), strict=True):
        assert peace.tries == 1
        assert outcome.tries == 2, outcome.log
        assert outcome.calls[-1].endswith(f":{last}")
        assert "already existing" not in outcome.log
        assert outcome.end == peace.end, outcome.log
        assert key_of(outcome.effects) == key_of(peace.effects), outcome.log
        assert max(outcome.effects.values()) == 1, outcome.log
