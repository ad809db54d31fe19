"""CreateModel."""

from __future__ import annotations

from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from tests.support import IMAGE, ROLE, Account, Requests, run_task


def test_a_model_is_created_once_and_then_reused(account: Account, requests: Requests) -> None:
    archive = account.upload_model()

    def make() -> SageMakerCreateModelOperator:
        return SageMakerCreateModelOperator(
            task_id="create",
            execution_role=ROLE,
            image=IMAGE,
            model_data_url=archive,
            environment={"GREETING": "hello"},
            aws_conn_id=None,
        )

    first = run_task(make)
    second = run_task(make)
    assert first["created"]
    assert second == first | {"created": False}
    assert requests.changes() == ["CreateModel"]
