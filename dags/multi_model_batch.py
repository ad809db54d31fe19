"""Every store's rows through its own model: sixty models behind one multi-model endpoint, one report.

The plan spreads the inputs over mapped tasks, a model in as few of them as possible. An input's key says which model it
is for: `inputs/store_id=007/day.csv` goes to `store-007.tar.gz`. Clear the batch's tasks after a failure: only what
failed is invoked again. Run with `keep` set, it leaves the endpoint behind, for `multi_model_form`.
"""

import datetime
from typing import Any

import store_models

from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.task_groups import multi_model_batch, report_of

try:
    from airflow.sdk import Param, dag, task
    from airflow.sdk.exceptions import AirflowSkipException
except ImportError:  # before Airflow 3.1
    from airflow.decorators import dag, task  # type: ignore[no-redef,attr-defined]
    from airflow.exceptions import AirflowSkipException  # type: ignore[no-redef]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]

BUCKET = ROLE = "airflow-sm-demo"
ENDPOINT = "airflow-sm-stores"


def unless_kept(context: Any) -> None:  # noqa: ANN401 - Airflow's context
    """Skip the clean-up if the endpoint is to stay."""
    if context["params"]["keep"]:
        print(f"endpoint {ENDPOINT} is kept; it costs money until it is deleted")  # noqa: T201 - the task's log
        raise AirflowSkipException


@dag(
    "multi_model_batch",
    schedule=None,  # or "@daily", with a start_date and catchup=False
    description="Score the rows of sixty stores through sixty models behind one endpoint",
    tags=["sagemaker", "multi-model"],
    max_active_runs=1,  # all runs share the endpoint
    doc_md=__doc__,
    default_args={
        "owner": "examples",
        "retries": 2,
        "retry_delay": datetime.timedelta(seconds=10),
        "deferrable": True,
        "poll_interval": 2,
    },
    params={
        "keep": Param(
            default=False,
            type="boolean",
            title="Keep the endpoint",
            description="It costs money until it is deleted",
        )
    },
)
def scores_by_store() -> None:
    """Train, deploy, score, compare, clean up."""
    data = task(store_models.upload_data)(BUCKET, ROLE, "stores", stores=60)
    model = SageMakerCreateModelOperator(
        task_id="model",
        execution_role=ROLE,
        image="763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3",
        model_data_url=data["models"],
        mode="MultiModel",
    )
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=ENDPOINT, model_name=model.output["model_name"]
    )
    scores = multi_model_batch(
        "scores",
        endpoint_name=ENDPOINT,
        inputs=data["inputs"],
        outputs=f"s3://{BUCKET}/stores/outputs/{{{{ macros.uuid.uuid5(macros.uuid.NAMESPACE_URL, run_id) }}}}",
        target_model="store-{store_id}.tar.gz",
        content_type="text/csv",
        accept="text/csv",
        max_shards=3,
    )
    report = task(store_models.report)(report_of(scores), data["labels"])
    clean_up = SageMakerDeleteEndpointOperator(
        task_id="clean_up", endpoint_name=ENDPOINT, delete_models=True, pre_execute=unless_kept
    )
    deploy >> scores >> report
    report >> clean_up.as_teardown(setups=[model, deploy])


scores_by_store()
