"""A task instance of the asynchronous batch operator: its tries, whose steps any thread or process can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.async_inference.batch.report import Report, Row
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from tests.async_inference.batch.async_batches import rows_at, upload_inputs
from tests.support import Account, TaskInstanceDouble, unique
from tests.task_runs import DagRunDouble, Deferral, Step, context_for, execute, go_on, resume, run_task

STARTED = 100.0
"""Start of the DAG run, epoch seconds."""

PATIENT = {"attempts": 1_000, "max_wait_seconds": 1}
"""The wait for a request that was never sent ends soon; late results of a busy machine are awaited in later rounds.

Within :func:`tests.async_inference.batch.async_batches.growing_patience` that ends on any machine.
"""


@dataclass(frozen=True)
class BatchTry:
    """One try of a task instance; it can be pickled.

    :param arguments: the operator's
    :param started: when the DAG run began, epoch seconds
    """

    arguments: Mapping[str, Any]
    run_id: str = field(default_factory=lambda: unique("run"))
    number: int = 1
    started: float = STARTED

    @classmethod
    def of_inputs(cls, account: Account, endpoint: str, bodies: list[str], **arguments: Any) -> BatchTry:  # noqa: ANN401 - the operator's
        """Make the first try of a batch of these inputs, which shares no state with others."""
        given = {
            "task_id": "batch",
            "aws_conn_id": None,
            "endpoint_name": endpoint,
            "inputs": upload_inputs(account, bodies),
            "ledger_prefix": f"s3://{account.bucket}/{unique('ledgers')}",
            "content_type": "text/plain",
            "deferrable": True,
            "poll_interval": 0.1,
        }
        return cls(given | PATIENT | arguments)

    def again(self, number: int, *, started: float = STARTED, **arguments: Any) -> BatchTry:  # noqa: ANN401 - as above
        return replace(self, number=number, started=started, arguments={**self.arguments, **arguments})

    def operator(self) -> SageMakerAsyncBatchOperator:
        return SageMakerAsyncBatchOperator(**self.arguments)

    def context(self) -> Context:
        """Make a new context; ``max_tries`` stays the same, since the task is not cleared."""
        ti = _TaskInstance(run_id=self.run_id, task_id="batch", try_number=self.number, max_tries=9)
        return context_for(ti, DagRunDouble(start_date=datetime.fromtimestamp(self.started, UTC)))

    def execute(self) -> Step:
        return execute(self.operator, self.context())

    def resume(self, deferral: Deferral, event: Mapping[str, Any]) -> Step:
        return resume(self.operator, self.context(), deferral, event)

    def go_on(self, step: Step) -> dict[str, Any]:
        """Continue after a step to the end; return the summary that another task pulls."""
        summary: dict[str, Any] = go_on(self.operator, self.context(), step)
        return summary

    def run(self) -> dict[str, Any]:
        summary: dict[str, Any] = run_task(self.operator, self.context())
        return summary


@dataclass
class _TaskInstance(TaskInstanceDouble):
    max_tries: int = 0


def rows_of(account: Account, summary: Mapping[str, Any]) -> list[Row]:
    """Read the rows of a task's result, one for each input; the report has the same counts."""
    report = Report.from_json(account.read(summary["report_location"]))
    assert report.summary() == summary
    rows = rows_at(account, summary["rows_location"])
    assert len(rows) == summary["inputs"]
    return rows


def outputs_of(account: Account, summary: Mapping[str, Any]) -> list[bytes]:
    """Return the outputs, in the inputs' order; every input must have one."""
    rows = rows_of(account, summary)
    assert {str(row.status) for row in rows} == {"succeeded"}
    return [account.read(row.output_location or "") for row in rows]
