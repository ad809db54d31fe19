"""The plan operator: small references on XCom, everything else in S3; or only a table in the log."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException, max_map_length
from airflow_sm_plugin.exceptions import EndpointNotInService
from airflow_sm_plugin.operators.multi_model import SageMakerPlanMultiModelBatchOperator
from tests.support import Account, TaskInstanceDouble, context_for, run_task, unique

pytestmark = pytest.mark.airflow

Make = Callable[..., SageMakerPlanMultiModelBatchOperator]


@dataclasses.dataclass
class ClearedTaskInstance(TaskInstanceDouble):
    """One that knows ``max_tries``, which Airflow raises when a task is cleared."""

    max_tries: int = 0


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    """An endpoint of many models, of which stores 0 to 2 have one."""
    account, name = module_account, unique("endpoint")
    for store in range(3):
        account.upload("x", f"{name}/models/store-{store}.tar.gz")
    model = account.create_model(model_data_url=f"s3://{account.bucket}/{name}/models", multi_model=True)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=account.create_config(model))
    account.wait_for_endpoint(name)
    return name


@pytest.fixture
def top(account: Account) -> str:
    """A prefix of this test alone, with no slash behind."""
    return f"s3://{account.bucket}/{unique('plan')}"


@pytest.fixture
def plan_of(account: Account, endpoint: str, top: str) -> Make:
    """Make the operator for inputs of some stores below ``<top>/in/``."""

    def make(**arguments: Any) -> SageMakerPlanMultiModelBatchOperator:  # noqa: ANN401 - the operator's own
        given = {
            "task_id": "plan",
            "endpoint_name": endpoint,
            "inputs": f"{top}/in/",
            "outputs": f"{top}/out/",
            "target_model": "store-{store}.tar.gz",
            "aws_conn_id": None,
            **arguments,
        }
        return SageMakerPlanMultiModelBatchOperator(**given)

    return make


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return the logged text: Airflow 3 writes it to stdout, Airflow 2.11 hands it to Python's logging."""
    caplog.set_level(logging.INFO)
    return lambda: capsys.readouterr().out + caplog.text


def put(account: Account, top: str, *stores: int, body: str = "1,2\n" * 5) -> None:
    for store in stores:
        account.upload(body, f"{top}/in/store={store}/a.csv".removeprefix(f"s3://{account.bucket}/"))


def below(account: Account, top: str) -> list[str]:
    prefix = top.removeprefix(f"s3://{account.bucket}/")
    listed_objects = account.s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix).get("Contents", [])
    return [listed_object["Key"] for listed_object in listed_objects]


def test_it_returns_a_reference_for_each_shard_and_reports_the_plan(
    account: Account, plan_of: Make, top: str
) -> None:
    put(account, top, 0, 1, 2)
    account.upload("", f"{top}/in/_SUCCESS".removeprefix(f"s3://{account.bucket}/"))
    ti = TaskInstanceDouble()
    references = run_task(lambda: plan_of(max_shards=2), context_for(ti))
    where = references[0]["plan_location"]
    assert where.startswith(f"{top}/out/_batch/")
    assert references == [
        {"plan_location": where, "shard": 0, "inputs": 2, "models": 2, "bytes": 40},
        {"plan_location": where, "shard": 1, "inputs": 1, "models": 1, "bytes": 20},
    ]
    assert ti.xcom["plan"] == {
        "plan_location": where,
        "inputs": 3,
        "models": 3,
        "shards": 2,
        "bytes": 60,
        "carried": 0,
        "passed_over": 1,
        "missing_models": 0,
    }
    assert json.loads(json.dumps(references)) == references
    assert ti.xcom["sagemaker_endpoint_link"]["endpoint_name"]


def test_a_retry_returns_the_same_and_a_cleared_task_what_is_new(
    account: Account, plan_of: Make, top: str
) -> None:
    put(account, top, 0)
    first = run_task(plan_of, context_for(ClearedTaskInstance(try_number=1)))
    put(account, top, 1)
    assert run_task(plan_of, context_for(ClearedTaskInstance(try_number=2))) == first
    again = run_task(plan_of, context_for(ClearedTaskInstance(try_number=3, max_tries=1)))
    assert sum(reference["inputs"] for reference in again) == 2
    assert again[0]["plan_location"] != first[0]["plan_location"]


def test_nothing_to_do_is_an_empty_list_where_that_is_fine(plan_of: Make) -> None:
    ti = TaskInstanceDouble()
    assert run_task(lambda: plan_of(empty_ok=True), context_for(ti)) == []
    assert (ti.xcom["plan"]["inputs"], ti.xcom["plan"]["shards"]) == (0, 0)
    with pytest.raises(AirflowFailException, match="InvalidRequest: there are no inputs below"):
        run_task(plan_of)


def test_no_more_shards_than_airflow_maps(
    account: Account,
    plan_of: Make,
    top: str,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], str],
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    put(account, top, 0, 1, 2)
    assert len(run_task(lambda: plan_of(max_shards=50))) == 2
    assert "at most 2 shards, as [core] max_map_length says, not 50" in logged()


def test_airflows_own_limit_is_read() -> None:
    assert max_map_length() == 1_024


def test_a_missing_model_is_counted_or_fails_the_task(account: Account, plan_of: Make, top: str) -> None:
    put(account, top, 2, 3)
    ti = TaskInstanceDouble()
    run_task(plan_of, context_for(ti))
    assert ti.xcom["plan"]["missing_models"] == 1
    with pytest.raises(
        AirflowFailException,
        match=r"nothing was planned: 1 target model has .*store-3\.tar\.gz",
    ):
        run_task(lambda: plan_of(on_missing_model="fail", state_prefix=f"{top}/state"))


def test_a_dry_run_shows_a_table_and_writes_nothing(
    account: Account, plan_of: Make, top: str, logged: Callable[[], str]
) -> None:
    put(account, top, 0, 1, 3)
    before, ti = below(account, top), TaskInstanceDouble()
    assert run_task(lambda: plan_of(plan_only=True), context_for(ti)) == []
    assert below(account, top) == before
    assert ti.xcom["plan"] == {"plan_location": ""}
    text = logged()
    assert re.search(r"  inputs    3\b", text)
    assert "  models    3, of which 1 have no artefact" in text
    assert "  payloads  about 15 (SingleRecord, estimated from the beginning of 3 inputs)" in text
    assert re.search(r"  store-3\.tar\.gz +1 +20 bytes +5 +1  no artefact", text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"endpoint_name": "not a name"}, "endpoint name"),
        ({"inputs": "here"}, "inputs must look like s3://"),
        ({"outputs": "there"}, "outputs must look like s3://"),
        ({"inputs_type": "Folder"}, "inputs_type"),
        ({"include": []}, "include is an empty list"),
        ({"exclude": "*.csv"}, "exclude must be a list, or text of one as JSON or Python writes it"),
        (
            {"inputs_type": "ManifestFile", "inputs": "s3://b/m", "exclude": ["x"]},
            "include and exclude choose among",
        ),
        ({"target_model": None}, "target_model is needed"),
        ({"target_model": "{"}, "target_model is no template"),
        ({"output_name": "{}"}, "output_name may hold fields"),
        ({"split_type": "RecordIO"}, "split_type"),
        ({"batch_strategy": "Many"}, "batch_strategy"),
        ({"max_payload_in_mb": 26}, "max_payload_in_mb is 26, .* up to 25 MB"),
        (
            {"max_payload_in_mb": 1e-7},
            "max_payload_in_mb is 1e-07, which is less than one byte, .* of one byte up to",
        ),
        ({"max_payload_in_mb": 0}, "max_payload_in_mb"),
        ({"max_shards": 0}, "max_shards"),
        ({"check_models": "maybe"}, "check_models"),
        ({"on_missing_model": "ignore"}, "on_missing_model"),
        ({"on_rerun": "again"}, "on_rerun"),
        ({"empty_ok": "maybe"}, "empty_ok"),
        ({"check_inputs": "maybe"}, "check_inputs"),
        ({"plan_only": "maybe"}, "plan_only"),
        ({"state_prefix": "there"}, "state_prefix must look like s3://"),
        ({"endpoint_name": "nowhere"}, "EndpointNotFound"),
    ],
)
def test_a_wrong_argument_is_named(plan_of: Make, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        run_task(lambda: plan_of(**wrong))


def test_an_endpoint_that_does_not_serve_yet_is_worth_a_retry(account: Account, plan_of: Make) -> None:
    with account.settings(endpoint_creating_seconds=3600):
        name = account.start_endpoint()
        with pytest.raises(EndpointNotInService):
            run_task(lambda: plan_of(endpoint_name=name))


TEMPLATED = {
    "inputs_type": "{{ 'ManifestFile' }}",
    "include": "{{ none }}",
    "exclude": "{{ none }}",
    "split_type": "{{ 'Line' }}",
    "output_name": "{{ '{stem}' }}",
    "max_shards": "{{ 1 }}",
    "check_models": "{{ false }}",
    "on_missing_model": "{{ 'fail' }}",
    "on_rerun": "{{ 'restart' }}",
    "empty_ok": "{{ true }}",
    "check_inputs": "{{ false }}",
    "state_prefix": "{{ none }}",
    "plan_only": "{{ false }}",
    "batch_strategy": "{{ 'MultiRecord' }}",
    "max_payload_in_mb": "{{ 0.5 }}",
    "target_model": "{{ none }}",
    "output_kms_key_id": "{{ none }}",
    "output_acl": "{{ none }}",
}
"""Airflow makes text of all of them: of None the word, which means that nothing is given."""


def test_every_argument_may_come_from_a_template(
    account: Account, plan_of: Make, endpoint: str, top: str
) -> None:
    line = json.dumps({"source-ref": "s3://elsewhere/x/a.csv", "target-model": "m.tar.gz"})
    locations = {
        "endpoint_name": f"{{{{ '{endpoint}' }}}}",
        "inputs": f"{{{{ '{account.upload(line)}' }}}}",
        "outputs": f"{{{{ '{top}/out' }}}}",
    }
    task = plan_of(**TEMPLATED, **locations)
    assert {*TEMPLATED, *locations} | {"aws_conn_id", "region_name", "verify"} == set(task.template_fields)
    (reference,) = run_task(lambda: plan_of(**TEMPLATED, **locations))
    assert (reference["inputs"], reference["models"]) == (1, 1)


@pytest.mark.parametrize(
    ("include", "exclude"),
    [
        (["store=[12]/*"], None),
        ("{{ ['store=1/*', 'store=2/*'] }}", "{{ none }}"),
        ("{{ ['store=1/*', 'store=2/*'] | tojson }}", ""),
        (["store={{ 1 }}/*", "{{ 'store=2/*' }}"], None),
        (None, "['store=0/*']"),
        ('["*"]', ["store=0/*"]),
    ],
)
def test_patterns_may_be_lists_or_text_or_templates(
    account: Account, plan_of: Make, top: str, include: object, exclude: object
) -> None:
    put(account, top, 0, 1, 2)
    references = run_task(lambda: plan_of(include=include, exclude=exclude))
    assert sum(reference["inputs"] for reference in references) == 2


def test_a_pattern_that_selects_nothing_is_named(account: Account, plan_of: Make, top: str) -> None:
    put(account, top, 0)
    with pytest.raises(
        AirflowFailException, match=r"no inputs below .*1 not included.*matches include '\*\.cvs'"
    ):
        run_task(lambda: plan_of(include=["*.cvs"]))


def test_what_cannot_be_split_so_is_refused_before_anything_is_planned(plan_of: Make) -> None:
    with pytest.raises(AirflowFailException, match="makes no lines"):
        run_task(lambda: plan_of(split_type="None", batch_strategy="MultiRecord"), context_for())
