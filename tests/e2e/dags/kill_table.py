"""Create, update and delete an endpoint in a task whose process is killed right after a certain AWS call.

The run's conf: ``trials``, a list; the task is mapped over it. Each has the ``arguments`` of our operator,
``kill_after``, the call (empty: kills nothing), and ``calls``, a file that grows by a line for every call of the
first try.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Context, get_current_context, task

from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)


@contextmanager
def killing(trial: Mapping[str, Any], context: Context) -> Iterator[None]:
    """Have every boto3 client that a hook makes in the block note its calls, and end the process after a certain one.

    Only in the first try, before and after a deferral alike. The call has been answered when the process dies.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.client import BaseClient

    calls, kill_after = Path(trial["calls"]), str(trial["kill_after"])

    def note(model: Any, **_: object) -> None:  # noqa: ANN401 - botocore's operation model
        with calls.open("a") as file:
            file.write(f"{model.service_model.service_name}:{model.name}\n")
        if model.name == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    hooks: Any = AwsGenericHook
    make = hooks.get_client_type

    def make_noting(hook: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the provider's
        client = make(hook, *args, **kwargs)
        if isinstance(client, BaseClient):  # and not the one of a wait, which only describes
            client.meta.events.register("after-call", note)
        return client

    if context["ti"].try_number > 1:
        yield
        return
    hooks.get_client_type = make_noting
    try:
        yield
    finally:
        hooks.get_client_type = make


class KilledDeploy(SageMakerDeployEndpointOperator):
    """Our operator, its arguments from the trial, killed."""

    template_fields = (*SageMakerDeployEndpointOperator.template_fields, "trial")

    def __init__(self, *, trial: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Airflow's own
        super().__init__(endpoint_name="of-the-trial", model_name="of-the-trial", **kwargs)
        self.trial = trial

    def execute(self, context: Context) -> dict[str, Any]:
        """Begin."""
        _take_arguments(self)
        with killing(self.trial, context):
            return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the deferral, in another process."""
        _take_arguments(self)
        with killing(self.trial, context):
            return super().execute_complete(context, event)


class KilledDelete(SageMakerDeleteEndpointOperator):
    """As :class:`KilledDeploy`."""

    template_fields = (*SageMakerDeleteEndpointOperator.template_fields, "trial")

    def __init__(self, *, trial: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Airflow's own
        super().__init__(endpoint_name="of-the-trial", **kwargs)
        self.trial = trial

    def execute(self, context: Context) -> dict[str, Any]:
        """Begin."""
        _take_arguments(self)
        with killing(self.trial, context):
            return super().execute(context)


def _take_arguments(operator: KilledDeploy | KilledDelete) -> None:
    for name, value in operator.trial["arguments"].items():
        setattr(operator, name, value)


@task
def trials() -> list[dict[str, Any]]:
    """Return the run's trials."""
    return list((get_current_context()["dag_run"].conf or {})["trials"])


QUICK: dict[str, Any] = {
    "task_id": "killed",
    "poll_interval": 0.3,
    "aws_conn_id": None,
    "retries": 2,
    "retry_delay": timedelta(seconds=0.1),
}

with DAG("kill_deploy", schedule=None):
    KilledDeploy.partial(deferrable=False, **QUICK).expand(trial=trials())

with DAG("kill_deploy_deferrable", schedule=None):
    KilledDeploy.partial(deferrable=True, **QUICK).expand(trial=trials())

with DAG("kill_delete", schedule=None):
    KilledDelete.partial(**QUICK).expand(trial=trials())
