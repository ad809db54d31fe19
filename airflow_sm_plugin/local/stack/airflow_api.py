"""A client of Airflow's REST API (v2, Airflow 3), with the calls of the demo and the end-to-end tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias
from urllib.parse import quote

import requests

from airflow_sm_plugin.local.stack.processes import StackError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_POLL_SECONDS = 0.5
"""Between two polls. A poll takes 0.03 to 0.3 s of the api-server, which shares the machine with the tasks."""

_ATTEMPTS = 10
"""Attempts of a GET while the api-server does not answer, as on a busy machine. Other methods can have had
their effect, so they are sent once, with ten times the time-out."""
_RETRY_SECONDS = 1.0
"""Seconds before the next attempt; a refused connection fails at once, so that ten attempts cover ten seconds."""
_PAGE = 100
"""Task instances a request: Airflow's own greatest page by default."""
_FRAMES = 5
"""Last frames of a traceback in a log line: those nearest to the error."""
_HEALTH = {
    "metadatabase": "database",
    "scheduler": "scheduler",
    "triggerer": "triggerer",
    "dag_processor": "dag-processor",
}
"""The members of Airflow's health answer, and the command line's names of the components."""
RUN_ENDS = frozenset({"success", "failed"})
"""The states in which a DAG run stays."""


class DagImportError(StackError):
    """A file in the DAG folder cannot be imported; the message is its traceback."""


class RequestRefusedError(StackError):
    """The REST API answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """The state of a task of a run; ``state`` is None before it is scheduled, times are ISO texts."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    start_date: str | None
    end_date: str | None
    duration: float | None

    @property
    def label(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


_TASK = tuple(field.name for field in fields(TaskInstance))


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run and its tasks at a moment."""

    state: str
    tasks: tuple[TaskInstance, ...]


class AirflowApi:
    """A client for an Airflow whose simple auth manager treats each client as an admin.

    :param url: the api-server's address, without a path
    :param timeout: of a request, in seconds. A GET without an answer is repeated, up to 10 attempts in all; a request
        that changes something is sent once, and can take ten times as long
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self.url = url
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: loopback

    def unhealthy(self) -> list[str]:
        """List the components that are not healthy; only the api-server when it does not answer."""
        try:
            health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=self._timeout).json()
        except (requests.RequestException, ValueError):
            return ["api-server"]
        return [name for key, name in _HEALTH.items() if (health.get(key) or {}).get("status") != "healthy"]

    def wait_for_dag(self, dag_id: str, *, seconds: float = 600.0) -> None:
        """Wait until the DAG can be triggered.

        Raises :class:`DagImportError` as soon as any file of the folder cannot be imported, and :class:`StackError`
        when there is no such DAG after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while not self._exists(dag_id):
            if errors := self.import_errors():
                raise DagImportError("\n".join(f"{name}:\n{text}" for name, text in errors.items()))
            if time.monotonic() > deadline:
                raise StackError(f"DAG {dag_id!r} was not found in the DAG folder within {seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def import_errors(self) -> dict[str, str]:
        errors = self._call("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def trigger(
        self, dag_id: str, *, conf: Mapping[str, Json] | None = None, run_id: str | None = None
    ) -> str:
        body: dict[str, Json] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self._call("POST", f"/dags/{_q(dag_id)}/dagRuns", json=body)["dag_run_id"])

    def begin(self, dag_id: str) -> str:
        """Start a run, of a paused DAG as well, and return its id."""
        self._call("PATCH", f"/dags/{_q(dag_id)}", json={"is_paused": False})
        return self.trigger(dag_id)

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self._call("GET", _run(dag_id, run_id))["state"])

    def task_instances(self, dag_id: str, run_id: str) -> tuple[TaskInstance, ...]:
        path, tasks = f"{_run(dag_id, run_id)}/taskInstances", list[TaskInstance]()
        while True:
            page = self._call("GET", path, params={"limit": _PAGE, "offset": len(tasks)})["task_instances"]
            tasks += [TaskInstance(**{name: row[name] for name in _TASK}) for row in page]
            if len(page) < _PAGE:
                return tuple(tasks)

    def poll(self, dag_id: str, run_id: str) -> RunStatus:
        """Read the state of the run and then its tasks, so that the state is never newer than the tasks."""
        state = self.run_state(dag_id, run_id)
        return RunStatus(state, self.task_instances(dag_id, run_id))

    def wait_for_run(
        self, dag_id: str, run_id: str, *, seconds: float, on_poll: Callable[[RunStatus], None] | None = None
    ) -> RunStatus:
        """Wait until the run has succeeded or failed; ``on_poll`` is called with the status of every poll.

        Raises :class:`StackError` after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.poll(dag_id, run_id)
            if on_poll is not None:
                on_poll(status)
            if status.state in RUN_ENDS:
                return status
            if time.monotonic() > deadline:
                states = ", ".join(f"{task.label} {task.state}" for task in status.tasks)
                raise StackError(
                    f"run {run_id!r} of {dag_id!r} is {status.state} after {seconds:g} s: {states}"
                )
            time.sleep(_POLL_SECONDS)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1
    ) -> Json:
        """Read an XCom value. Raises :class:`RequestRefusedError` (status 404) for a missing one."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{_q(task_id)}/xcomEntries/{_q(key)}"
        query: dict[str, str | int] = {"map_index": map_index, "deserialize": "false", "stringify": "false"}
        value: Json = self._call("GET", path, params=query)["value"]
        return value

    def log_text(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1
    ) -> str:
        path = f"{_run(dag_id, run_id)}/taskInstances/{_q(task_id)}/logs/{try_number}"
        query: dict[str, str | int] = {"map_index": map_index, "full_content": "true"}
        content = self._call("GET", path, params=query)["content"]
        return "\n".join(_log_line(message) for message in content) if isinstance(content, list) else ""

    def _exists(self, dag_id: str) -> bool:
        try:
            self._call("GET", f"/dags/{_q(dag_id)}")
        except RequestRefusedError as error:
            if error.status == requests.codes.not_found:
                return False
            raise
        return True

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:  # noqa: ANN401 - json and params
        if "Authorization" not in self._session.headers:
            token = self._send("GET", "/auth/token")
            token.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        answer = self._send(method, f"/api/v2{path}", **content)
        if not answer.ok:
            raise RequestRefusedError(
                answer.status_code, f"{method} {path}: {answer.status_code} {answer.text[:1000]}"
            )
        value: dict[str, Any] = answer.json()
        return value

    def _send(self, method: str, path: str, **content: Any) -> requests.Response:  # noqa: ANN401 - as requests'
        """Send a request; repeat a GET. Raises :class:`StackError` when the api-server does not answer."""
        attempts, timeout = (_ATTEMPTS, self._timeout) if method == "GET" else (1, self._timeout * _ATTEMPTS)
        while True:
            try:
                return self._session.request(method, f"{self.url}{path}", timeout=timeout, **content)
            except (requests.Timeout, requests.ConnectionError) as error:
                attempts -= 1
                if not attempts:
                    raise StackError(
                        f"Airflow's api-server does not answer {method} {path}: {error}"
                    ) from error
            time.sleep(_RETRY_SECONDS)


def _q(text: str) -> str:
    return quote(text, safe="")


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{_q(dag_id)}/dagRuns/{_q(run_id)}"


def _log_line(message: str | dict[str, Any]) -> str:
    if isinstance(message, str):
        return message
    line = f"{str(message.get('level', '')).upper():<8}{message.get('event', '')}"
    for detail in message.get("error_detail") or []:
        for frame in (detail.get("frames") or [])[-_FRAMES:]:
            line += f"\n          {frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"
        line += f"\n        {detail.get('exc_type')}: {detail.get('exc_value')}"
    return line
