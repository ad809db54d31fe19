"""The page on the embedded SageMaker tells the truth."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from airflow_sm_plugin.local.account import operations
from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.faults.fault_rules import Rule
from airflow_sm_plugin.local.faults.faults import FaultPlan, plan_from
from airflow_sm_plugin.local.faults.outcomes import DeploymentOutcome, outcome_from
from airflow_sm_plugin.local.faults.recorded import recorded_answers
from tests.docs.invented_answers import listed, table

HOW = "run `make invented-answers`"
PAGE = (Path(__file__).parents[2] / "docs" / "embedded-sagemaker.md").read_text()


def test_its_settings_and_their_defaults_are_the_settings() -> None:
    documented = {
        name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    }
    assert documented == Settings().as_json()


def _table(beginning: str) -> set[str]:
    """Return the names that the table with this header tells of."""
    rows = PAGE.split(f"| {beginning} | |\n|---|---|\n")[1].split("\n\n")[0]
    return {name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_it_tells_every_part_of_a_rule_and_of_an_outcome() -> None:
    assert _table("in a rule") == {field.name for field in dataclasses.fields(Rule)}
    assert _table("in an outcome") == {field.name for field in dataclasses.fields(DeploymentOutcome)}


def test_its_examples_of_faults_and_outcomes_can_be_set() -> None:
    sent = [json.loads(body) for body in re.findall(r"-d '(.*?)'", PAGE, re.DOTALL)]
    plans = [one for one in sent if "rules" in one]
    outcomes = [one for body in sent for one in (body if isinstance(body, list) else [body]) if "end" in one]
    assert len(plans) == 1
    assert len(outcomes) == 3
    for plan in plans:
        rules, seed = plan_from(plan)
        FaultPlan().replace(rules, seed=seed)
    for outcome in outcomes:
        outcome_from(outcome)


def test_its_python_example_runs() -> None:
    example = next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "with Embedded" in code
    )
    exec(compile(example, "docs/embedded-sagemaker.md", "exec"), {})  # noqa: S102 - our own page


def test_the_answers_it_calls_invented_are_those_of_the_data_and_no_others() -> None:
    assert listed(PAGE) == table(), HOW
    documented = {row.split(" | ")[1] for row in table().splitlines()[2:]}
    assert documented == {row.situation for row in recorded_answers().values() if row.grade == "invented"}


def test_the_operations_it_names_are_answered() -> None:
    operations.load()
    named = set(re.findall(r"\b((?:Create|Update|Invoke|List|Add|Delete)[A-Z]\w+)\b", PAGE)) - {
        "InvokeEndpointAsync",
        "UpdateRollbackFailed",  # a status
    }
    assert "CreateTransformJob" in named
    assert [
        name for name in sorted(named - operations.PASSED_ON) if operations.handler_of(name) is None
    ] == []
