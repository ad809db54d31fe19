"""A batch through a multi-model endpoint, asked for in Airflow's form: endpoint, inputs, outputs, which model is whose.

Run `multi_model_batch` with `keep` set, and the form's defaults have an endpoint and inputs to work on. "Only estimate"
has the task `batch.plan` log inputs, models, bytes, payloads and the time they would take, and nothing is invoked. The
task `batch.merge` links to the report. Clear a failed run instead of starting another: only failures are invoked again.
"""

import datetime

from airflow_sm_plugin.task_groups import multi_model_batch

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag  # type: ignore[no-redef,attr-defined]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]

CONTENT_TYPES = ["text/csv", "application/jsonlines", "application/json", "text/plain"]
PREFIX = r"^s3://[^/]+/.+"


@dag(
    schedule=None,
    description="Ad hoc batch through a multi-model endpoint",
    tags=["sagemaker", "multi-model", "form"],
    doc_md=__doc__,
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    params={
        "endpoint": Param(
            "airflow-sm-stores", type="string", title="Endpoint", description="Name of a multi-model endpoint"
        ),
        "inputs": Param(
            "s3://airflow-sm-demo/stores/inputs/",
            type="string",
            pattern=PREFIX,
            title="Inputs",
            description="s3://bucket/prefix/: every object below it is read; each line is a record",
        ),
        "outputs": Param(
            "s3://airflow-sm-demo/stores/form-outputs/",
            type="string",
            pattern=PREFIX,
            title="Outputs",
            description="s3://bucket/prefix/ for report.html, <input>.out, and <input>.errors.jsonl of failures",
        ),
        "target_model": Param(
            "store-{store_id}.tar.gz",
            type="string",
            minLength=1,
            title="Target model",
            description="Of an input, from its key: {store_id} from store_id=007/, or {parent}, {stem}, {name}",
        ),
        "content_type": Param(CONTENT_TYPES[0], type="string", enum=CONTENT_TYPES, title="Content type"),
        "multi_record": Param(
            default=False,
            type="boolean",
            title="Several records in a payload",
            description="Faster, if the models answer one line for each",
        ),
        "only_estimate": Param(
            default=False,
            type="boolean",
            title="Only estimate, invoke nothing",
            description="The estimate is in the log of batch.plan",
        ),
    },
)
def multi_model_form() -> None:
    """Plan, invoke in up to four tasks, report."""
    multi_model_batch(
        "batch",
        endpoint_name="{{ params.endpoint }}",
        inputs="{{ params.inputs }}",
        outputs="{{ params.outputs }}",
        target_model="{{ params.target_model }}",
        content_type="{{ params.content_type }}",
        accept="{{ params.content_type }}",
        batch_strategy="{{ 'MultiRecord' if params.multi_record else 'SingleRecord' }}",
        isolate_bad_records="{{ params.multi_record }}",
        plan_only="{{ params.only_estimate }}",
        max_shards=4,
    )


multi_model_form()
