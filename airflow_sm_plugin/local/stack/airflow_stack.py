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
from collections.abc import Callable, Iterable, Mapping
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
    is_running,
    last_lines,
    start,
)

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
"""Seconds between checks of a starting stack, which takes many seconds itself."""
_PATIENCE_SECONDS = 60.0
"""How long a component that runs may be unhealthy before it is restarted: Airflow reports one that sent no heartbeat
for 30 s, which a busy machine can exceed."""
_COMPONENT = "AIRFLOW_SM_COMPONENT"
"""The variable that marks a component's processes."""

Observer = Callable[[str, str], None]
"""Called with a component's name and with "starting" or "ready"."""


class AirflowStack:
    """An Airflow with LocalExecutor and SQLite; a context manager.

    :param home: AIRFLOW_HOME, created when missing. The processes' output is in ``<home>/components/``
    :param environment: further variables; the processes do not inherit the user's ``AWS_*`` and ``AIRFLOW_*``
    :param port: of the api-server; 0 for a free one
    :param observer: called with each component as it starts and becomes healthy
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
        port: int = 0,
        observer: Observer = lambda _component, _state: None,
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
        self._observer = observer
        self._marker = ("AIRFLOW_HOME", str(self.home))
        self._secret = secrets.token_hex(32)
        self._port = port
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.pids: dict[str, int] = {}

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
        """Start all components, on the database of an earlier run if there is one, and wait until all are healthy.

        A failed start stops them. Raises :class:`StackError` with the last log lines of the component that ended or did
        not become healthy.
        """
        self._port = self._port or free_port()
        deadline = time.monotonic() + self._start_seconds
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            for log_file in (self.home / "components").glob("*.log"):
                log_file.unlink()  # an earlier run's
            self._keep_secret()
            self._observer("database", "starting")
            self._migrate(deadline)
            self._observer("database", "ready")
            self._launch_all(COMPONENTS)
            self._await_health(deadline)
        except BaseException:  # Ctrl-C, too
            self.stop()
            raise

    def stop(self) -> None:
        """End every process, also the children of a component that died; can be called at any time."""
        processes, self._started = list(self._started.values()), {}
        pids = [process.pid for process in processes]
        end(marker=self._marker, pids=pids, grace=self._grace)
        for process in processes:
            process.wait()  # it has ended; Popen must collect the exit code

    def repair(self, pids: Mapping[str, int]) -> dict[str, str]:
        """Restart what does not work of a stack that another process started; return the ends of their logs.

        A component works when its process runs, and is healthy within a minute.

        :param pids: by component, as :attr:`pids` had them
        """
        self.pids = {name: pids.get(name, 0) for name in COMPONENTS}
        self._keep_secret()
        dead = [name for name, pid in self.pids.items() if not is_running(pid, self._marker)]
        dead = dead or self._hung(time.monotonic() + _PATIENCE_SECONDS)
        ends = {name: last_lines(self._log(name), 5) for name in dead}
        for name in dead:
            end(marker=(_COMPONENT, self._mark(name)), grace=self._grace)
        self._launch_all(dead)
        self._await_health(time.monotonic() + self._start_seconds)
        return ends

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

    def _mark(self, component: str) -> str:
        return f"{self.home}:{component}"

    def _keep_secret(self) -> None:
        """Read the secret with which the components trust each other, or write a new one."""
        file = self.home / "secret"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(self._secret)
        self._secret = file.read_text()

    def _launch_all(self, components: Iterable[str]) -> None:
        for component in components:
            self.pids[component] = self._launch(component, COMPONENTS[component]).pid
            self._observer(component, "starting")

    def _hung(self, deadline: float) -> list[str]:
        while unhealthy := self.api.unhealthy():
            if time.monotonic() > deadline:
                return [name for name in unhealthy if name in COMPONENTS]
            time.sleep(_POLL_SECONDS)
        return []

    def _launch(self, component: str, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        loopback = ("--host", "127.0.0.1", "--port", str(self._port)) if component == "api-server" else ()
        process = start(
            [self._python, "-m", "airflow", *arguments, *loopback],
            environment={**self.environment, _COMPONENT: self._mark(component)},
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
        api, waiting = self.api, [*self._started]
        while True:
            unhealthy = api.unhealthy()
            healthy = [] if "api-server" in unhealthy else [name for name in waiting if name not in unhealthy]
            for name in healthy:
                waiting.remove(name)
                self._observer(name, "ready")
            self.check()
            if not unhealthy:
                return
            if time.monotonic() > deadline:
                ends = "\n".join(f"--- {name}\n{last_lines(self._log(name), 10)}" for name in self._started)
                raise StackError(
                    f"not healthy after {self._start_seconds:g} s: {', '.join(unhealthy)}\n{ends}"
                )
            time.sleep(_POLL_SECONDS)
