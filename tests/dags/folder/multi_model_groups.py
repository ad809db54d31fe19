"""Task groups of multi-model batches that end in every way; the run's conf holds endpoint, inputs and outputs."""

# Airflow's own types know neither 2.11's import paths nor that any argument may be an XComArg.
# mypy: disable-error-code="attr-defined,no-redef,arg-type"

from __future__ import annotations

from typing import Any

from airflow_sm_plugin.task_groups import multi_model_batch, report_of

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import task
    from airflow.models.dag import DAG

INPUTS, OUTPUTS = "{{ dag_run.conf['inputs'] }}", "{{ dag_run.conf['outputs'] }}"


@task
def before() -> None:
    """Do nothing."""


@task
def after(report: Any) -> Any:  # noqa: ANN401 - a summary
    """Return what came."""
    return report


with DAG("multi_model_groups", schedule=None):
    common: dict[str, Any] = {
        "endpoint_name": "{{ dag_run.conf['endpoint'] }}",
        "inputs": INPUTS,
        "target_model": "{model}.tar.gz",
        "content_type": "text/csv",
        "accept": "text/csv",
        "aws_conn_id": None,
        "task_arguments": {"retries": 0},
    }
    whole = multi_model_batch(
        "whole",
        outputs=f"{OUTPUTS}/whole",
        max_shards=2,
        batch_strategy="MultiRecord",
        isolate_bad_records=True,
        custom_attributes="{{ dag_run.conf['secret'] }}/{first_record}",
        on_error="tolerate",
        tolerated_failure_ratio="0.5",
        **common,
    )
    strict = multi_model_batch("strict", outputs=f"{OUTPUTS}/strict", max_shards=1, **common)
    estimate = multi_model_batch(
        "estimate", outputs=f"{OUTPUTS}/estimate", plan_only="{{ 1 == 1 }}", **common
    )
    empty = multi_model_batch(
        "empty", outputs=f"{OUTPUTS}/empty", empty_ok=True, **{**common, "inputs": f"{INPUTS}none/"}
    )
    broken = multi_model_batch(
        "broken", outputs=f"{OUTPUTS}/broken", **{**common, "endpoint_name": "there-is-none"}
    )
    before() >> [whole, strict, estimate, empty, broken]
    whole >> after(report_of(whole))
