"""A real Airflow 3 without Docker: api-server, scheduler, dag-processor and triggerer on loopback.

It starts the ``airflow`` command line of an interpreter and imports no Airflow itself.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Self

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi
from airflow_sm_plugin.local.stack.airflow_settings import COMPONENTS, SETTINGS
from airflow_sm_plugin.local.stack.processes import (
    StackError,
    clean_environment,
    end,
    free_port,
    last_lines,
    start,
)

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
"""Seconds between checks of a starting stack, which takes many seconds itself."""


class AirflowStack:
    """An Airflow with LocalExecutor and SQLite; a context manager.

    :param home: AIRFLOW_HOME, created when missing. The processes' output is in ``<home>/components/``
    :param environment: further variables; the processes do not inherit the user's ``AWS_*`` and ``AIRFLOW_*``
    :param python: the interpreter whose Airflow is started
    :param start_seconds: limit for :meth:`start`
    :param grace: seconds between SIGTERM and SIGKILL in :meth:`stop`
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        environment: Mapping[str, str],
        python: str = sys.executable,
        start_seconds: float = 600.0,
        grace: float = 8.0,
    ) -> None:
        self.home = home.resolve()
        self.dags_folder = dags_folder.resolve()
        self._additions = dict(environment)
        self._python = python
        self._start_seconds = start_seconds
        self._grace = grace
        self._secret = secrets.token_hex(32)
        self._port = 0
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(self.url)

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(
            {
                **SETTINGS,
                "PATH": f"{Path(self._python).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "AIRFLOW_HOME": str(self.home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                # Writers wait for SQLite's single lock; the default of 5 s is too short on a busy machine.
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout=60",
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__SECRET_KEY": self._secret,
                "AIRFLOW__API_AUTH__JWT_SECRET": self._secret,
                **self._additions,
            }
        )

    def start(self) -> None:
        """Start all components and wait until all are healthy; a failed start stops them.

        Raises :class:`StackError` with the last log lines of the component that ended or did not become healthy.
        """
        self._port = free_port()
        deadline = time.monotonic() + self._start_seconds
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._migrate(deadline)
            for component, arguments in COMPONENTS.items():
                self._launch(component, arguments)
            self._await_health(deadline)
        except BaseException:  # Ctrl-C, too
            self.stop()
            raise

    def stop(self) -> None:
        """End every process, also the children of a component that died; can be called at any time."""
        processes, self._started = list(self._started.values()), {}
        pids = [process.pid for process in processes]
        end(marker=("AIRFLOW_HOME", str(self.home)), pids=pids, grace=self._grace)
        for process in processes:
            process.wait()  # it has ended; Popen must collect the exit code

    def check(self) -> None:
        for component, process in self._started.items():
            if process.poll() is not None:
                raise StackError(
                    f"airflow {component} ended with exit code {process.returncode}:\n"
                    f"{last_lines(self._log(component))}"
                )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _log(self, component: str) -> Path:
        return self.home / "components" / f"{component}.log"

    def _launch(self, component: str, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        loopback = ("--host", "127.0.0.1", "--port", str(self._port)) if component == "api-server" else ()
        process = start(
            [self._python, "-m", "airflow", *arguments, *loopback],
            environment=self.environment,
            folder=self.home,
            log=self._log(component),
        )
        self._started[component] = process
        log.debug("started airflow %s, pid %d", component, process.pid)
        return process

    def _migrate(self, deadline: float) -> None:
        process = self._launch("migrate", ("db", "migrate"))
        try:
            code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise StackError(
                f"airflow db migrate failed (exit code {code}):\n{last_lines(self._log('migrate'))}"
            )
        del self._started["migrate"]
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            # A property of the file: readers do not wait for the writer any more.
            database.execute("PRAGMA journal_mode=WAL")

    def _await_health(self, deadline: float) -> None:
        api = self.api
        while unhealthy := api.unhealthy():
            self.check()
            if time.monotonic() > deadline:
                ends = "\n".join(f"--- {name}\n{last_lines(self._log(name), 10)}" for name in self._started)
                raise StackError(
                    f"not healthy after {self._start_seconds:g} s: {', '.join(unhealthy)}\n{ends}"
                )
            time.sleep(_POLL_SECONDS)
