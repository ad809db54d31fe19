"""Airflow's configuration, for the stack runner and for ``docker-compose.yaml``.

A test compares the two, so that the compose file starts the configuration that is tested on loopback.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # Each slot is a process of about 130 MB, idle or not; the default is 32.
        "AIRFLOW__CORE__PARALLELISM": "4",
        # No login: the address is loopback's.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # An error's text is read in the log without scrolling to the right.
        "AIRFLOW__API__DEFAULT_WRAP": "True",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
        # A worker that died is noticed earlier than after the default of five minutes. With 30 s, a busy machine lost
        # tasks that were only slow to send their heartbeat ("Server indicated the task shouldn't be running").
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
        # The supervisor of 3.3.2 often sleeps for an interval after its task has ended, in the task's slot.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # A DAG file that is broken while it is edited: retry after seconds, not after a minute.
        "AIRFLOW__WORKERS__MISSING_DAG_RETRY_DELAY": "5",
        # On a busy two-core machine, the default of five seconds is too short for the first calls.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
        # The same machine can need longer than the default 30 and 50 seconds to import a DAG file.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
    }
)
"""Settings that do not depend on where Airflow runs."""

COMPONENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "api-server": ("api-server", "--workers", "1"),
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "dag-processor": ("dag-processor",),
        "triggerer": ("triggerer", "--skip-serve-logs"),
    }
)
"""The ``airflow`` command line of each process, in the order of their start; logs are read from disk."""

AWS_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        # No calls of the instance metadata service on a laptop.
        "AWS_EC2_METADATA_DISABLED": "true",
        # A connection that says nothing; without it, each hook of a task warns that there is none.
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }
)
"""The variables that AWS clients and our tasks need besides ``AWS_ENDPOINT_URL``. moto accepts any credentials."""
