"""A multi-model batch spread over workers that are killed; the run's conf says what and how much may fail.

While AIRFLOW_HOME holds a file ``brake``, each worker stops at so many answers: it cannot end before it is killed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from airflow_sm_plugin.task_groups import multi_model_batch

ANSWERS = 150
Invoke = Callable[..., Coroutine[Any, Any, ModelAnswer]]


def braked(invoke: Invoke) -> Invoke:
    """Return the method with a brake."""
    answers: list[ModelAnswer] = []
    brake = Path(os.environ["AIRFLOW_HOME"], "brake")

    async def wait_and_invoke(*args: object, **kwargs: object) -> ModelAnswer:
        while len(answers) >= ANSWERS and brake.exists():  # noqa: ASYNC110, ASYNC240 - a file is what there is
            await asyncio.sleep(0.1)
        answers.append(await invoke(*args, **kwargs))
        return answers[-1]

    return wait_and_invoke


EndpointInvoker.invoke = braked(EndpointInvoker.invoke)  # type: ignore[method-assign] # in a worker's process only

with DAG("e2e_multi_model", schedule=None):
    multi_model_batch(
        "scores",
        endpoint_name="{{ dag_run.conf['endpoint'] }}",
        inputs="{{ dag_run.conf['inputs'] }}",
        outputs="{{ dag_run.conf['outputs'] }}",
        target_model="{model}.tar.gz",
        content_type="text/plain",
        accept="text/plain",
        custom_attributes="{{ dag_run.conf['secret'] }}/{model}/{first_record}",
        max_shards=2,
        max_concurrent_transforms=6,
        attempts=10,
        max_payload_seconds=3600,
        model_load_seconds=3600,
        on_error="tolerate",
        tolerated_failure_ratio="{{ dag_run.conf['ratio'] }}",
        task_arguments={"retries": 3, "retry_delay": timedelta(seconds=1)},
    )
