"""The DAG run and the links of a batch's report."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_sm_plugin._compat import Context, dag_run_url
from airflow_sm_plugin.aws.console import Console
from airflow_sm_plugin.batches.report.elements import Link, RunContext
from airflow_sm_plugin.links import EndpointConsoleLink, EndpointLogsLink, OutputsLink


def run_context(
    context: Context, console: Console, *, endpoint_name: str, folders: Mapping[str, str], clear: str
) -> RunContext:
    """Describe the task that writes a report.

    :param folders: text of a link, and the ``s3://bucket/prefix`` that it opens
    :param clear: see :class:`~airflow_sm_plugin.batches.report.elements.RunContext`
    """
    ti = context.get("ti")
    dag_id, run_id, task_id = (str(getattr(ti, name, "") or "") for name in ("dag_id", "run_id", "task_id"))
    run = dag_run_url(dag_id, run_id) if dag_id and run_id else None
    region_name = console.region_name
    endpoint = {"region_name": region_name, "endpoint_name": endpoint_name, "pages": console.endpoint_pages}
    links = [
        Link("DAG run in Airflow", run or ""),
        Link("Endpoint", EndpointConsoleLink.address(**endpoint)),
        Link("CloudWatch logs of the endpoint", EndpointLogsLink.address(**endpoint)),
        *(
            Link(
                text,
                OutputsLink.address(
                    region_name=region_name,
                    location=f"{folder.rstrip('/')}/",
                    pages=console.object_pages,
                ),
            )
            for text, folder in folders.items()
        ),
    ]
    return RunContext(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        clear=clear,
        links=[link for link in links if link.address],
    )
