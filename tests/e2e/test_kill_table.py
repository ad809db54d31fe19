"""The task's process is killed after the call of create, update and delete that counts; Airflow retries.

The end is the same as undisturbed: nothing missing, nothing left over, nothing made or paid for twice.
``tests/operators/test_killed_deployments.py`` does the same after every call, without processes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from airflow_sm_plugin.local.airflow_api import Json
from airflow_sm_plugin.local.airflow_stack import AirflowStack
from tests.endpoint_trials import End, Verb, begun, effects, end_of, in_region, key_of, without_marks
from tests.support import Account

pytestmark = pytest.mark.timeout(600)

LONGEST_RUN = 300.0
TASK = "killed"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its end, its effects, how many tries it took, the calls of the first, the log of the last."""

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


class Table:
    """Trials in one run of a DAG, side by side as far as Airflow has slots."""

    def __init__(self, stack: AirflowStack, account: Account, dag_id: str, verb: Verb, folder: Path) -> None:
        self._stack, self._account, self._folder = stack, account, folder
        self._dag_id, self._verb = dag_id, verb
        stack.api.wait_for_dag(dag_id)

    def outcomes(self, kill_after: Sequence[int]) -> list[Outcome]:
        """Run one trial for each number of calls; 0 is not killed."""
        # Each in a region of its own, as far as there are enough: operators look at all endpoints of theirs.
        regions = itertools.cycle(boto3.Session().get_available_regions("sagemaker"))
        accounts = [in_region(self._account, region) for _, region in zip(kill_after, regions, strict=False)]
        trials = [begun(account, self._verb) for account in accounts]
        files = [self._folder / f"{trial.name}.calls" for trial in trials]
        conf: list[Json] = [
            {"arguments": dict(trial.arguments), "kill_after": number, "calls": str(file)}
            for trial, number, file in zip(trials, kill_after, files, strict=True)
        ]
        api = self._stack.api
        run_id = api.trigger(self._dag_id, conf={"trials": conf})
        look = api.wait_for_run(self._dag_id, run_id, seconds=LONGEST_RUN)
        tries = {task.map_index: task.try_number for task in look.tasks if task.task_id == TASK}
        logs = [
            api.log_text(self._dag_id, run_id, TASK, try_number=tries[index], map_index=index)
            for index in range(len(trials))
        ]
        assert look.state == "success", logs
        outcomes = [
            Outcome(
                end=end_of(accounts[index], trial),
                effects=without_marks(effects(self._account, trial)),
                tries=tries[index],
                calls=files[index].read_text().splitlines(),
                log=logs[index],
            )
            for index, trial in enumerate(trials)
        ]
        for there, trial in zip(accounts, trials, strict=True):
            if there.status(trial.name) is not None:  # the next trial there would look at it as well
                there.sagemaker.delete_endpoint(EndpointName=trial.name)
                there.wait_for_endpoint(trial.name, "endpoint_deleted")
        return outcomes


@pytest.mark.parametrize(
    ("dag_id", "verb", "last"),
    [
        ("kill_deploy", "create", "CreateEndpoint"),
        ("kill_deploy_deferrable", "create", "CreateEndpoint"),
        ("kill_deploy", "update", "UpdateEndpoint"),
        ("kill_deploy_deferrable", "update", "DeleteModel"),
        ("kill_delete", "delete", "DeleteEndpoint"),
    ],
)
def test_a_task_that_is_killed_comes_to_the_same_end(
    airflow_stack: AirflowStack, account: Account, tmp_path: Path, *, dag_id: str, verb: Verb, last: str
) -> None:
    table = Table(airflow_stack, account, dag_id, verb, tmp_path)
    (peace,) = table.outcomes([0])
    assert peace.tries == 1
    number = next(at for at, call in enumerate(peace.calls, start=1) if call.endswith(f":{last}"))
    (outcome,) = table.outcomes([number])
    assert outcome.tries == 2, outcome.log
    assert outcome.calls[-1].endswith(f":{last}")
    assert "already existing" not in outcome.log
    assert outcome.end == peace.end, outcome.log
    assert key_of(outcome.effects) == key_of(peace.effects), outcome.log
    assert max(outcome.effects.values()) == 1, outcome.log
