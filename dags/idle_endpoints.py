"""Find idle endpoints, and delete them where `delete` is set.

Only endpoints that these operators made are considered, whose DAG run has ended, and that were not invoked for so many
hours. Without `delete` the task's log has a table of what would be deleted, and why the rest stays.
"""

import datetime

from airflow_sm_plugin.operators.idle_endpoints import SageMakerDeleteIdleEndpointsOperator

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag  # type: ignore[no-redef,attr-defined]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]


@dag(
    schedule=None,  # "@daily" once the table shows what you expect; then set the default of `delete`, too
    doc_md=__doc__,
    description="Delete endpoints that our DAGs made and that are no longer invoked",
    tags=["sagemaker", "costs"],
    max_active_runs=1,
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    params={
        "hours": Param(
            24,
            type="number",
            exclusiveMinimum=0,
            title="Idle hours",
            description="An endpoint is idle if it was not invoked for so many hours",
        ),
        "delete": Param(
            default=False,
            type="boolean",
            title="Delete",
            description="Delete the idle endpoints; otherwise only report them",
        ),
    },
)
def idle_endpoints() -> None:
    """Report idle endpoints, or delete them."""
    SageMakerDeleteIdleEndpointsOperator(
        task_id="delete_idle_endpoints",
        idle_hours="{{ params.hours }}",
        dry_run="{{ not params.delete }}",
    )


idle_endpoints()
