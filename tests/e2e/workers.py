"""The processes in which Airflow's LocalExecutor works on a try, to be killed or left behind."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import psutil

from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.processes import marked


class Worker:
    """The processes of one try: the task's and its supervisor's.

    Airflow notices after a minute and a half that no heartbeat comes; for one that is killed here, at once.
    """

    def __init__(
        self, stack: AirflowStack, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1
    ) -> None:
        index = "" if map_index < 0 else f"/{map_index}"
        self._database = stack.home / "airflow.db"
        self._key = (dag_id, run_id, task_id, map_index)
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}{index}"
        instance = stack.api._call("GET", path)
        assert isinstance(instance, dict)
        (self.task,) = (
            process
            for process in marked("AIRFLOW_HOME", str(stack.home))
            if f"airflow worker -- {instance['id']}" in " ".join(process.cmdline())
        )
        supervisor = self.task.parent()
        assert supervisor is not None
        self.supervisor = supervisor

    def freeze_and_orphan(self) -> None:
        """Leave the task's process behind, then stop it: a stopped one would be hung up with its group."""
        self.supervisor.kill()
        psutil.wait_procs([self.supervisor], timeout=1700)
        self.task.send_signal(signal.SIGSTOP)
        self._miss_heartbeats()

    def kill_task(self) -> None:
        """SIGKILL the task's process: its supervisor tells Airflow at once."""
        self.task.kill()
        psutil.wait_procs([self.task], timeout=1700)

    def kill(self) -> None:
        """SIGKILL both: Airflow learns of it when no heartbeat comes any more."""
        self.supervisor.kill()
        self.task.kill()
        psutil.wait_procs([self.supervisor, self.task], timeout=1700)
        self._miss_heartbeats()

    def _miss_heartbeats(self) -> None:
        """Have the last heartbeat be long ago: no other follows, since the supervisor is dead."""
        with closing(sqlite3.connect(self._database, timeout=600)) as database, database:
            changed = database.execute(
                "UPDATE task_instance SET last_heartbeat_at = '2000-01-01 00:00:00.000000' "
                "WHERE dag_id = ? AND run_id = ? AND task_id = ? AND map_index = ?",
                self._key,
            )
            assert changed.rowcount == 1
