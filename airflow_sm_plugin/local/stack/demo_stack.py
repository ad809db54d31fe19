"""Airflow and the embedded SageMaker together: start, repair and stop, from any process."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack, Observer
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.local.stack.processes import end, free_port, is_running, last_lines, marked

AIRFLOW_PORT = 8080
SAGEMAKER_PORT = 4566
"""The ports of ``docker-compose.yaml``; the next free ones when they are in use."""
SAGEMAKER = "embedded SageMaker"

_MARKER = "AIRFLOW_SM_DEMO"
_ANSWER_SECONDS = 30.0
"""How long the embedded SageMaker may take to answer a health check before it is restarted."""
_SAVE_SECONDS = 120.0
"""Seconds between SIGTERM and SIGKILL for an embedded SageMaker that writes its state."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs of both services."""

    airflow: str
    sagemaker: str


class DemoStack:
    """Both services. All their files are in a folder.

    :param folder: ``airflow/`` is AIRFLOW_HOME, ``sagemaker.log`` has the embedded SageMaker's requests,
        ``sagemaker/`` its kept state, ``running.json`` the addresses and process ids
    :param settings: of the embedded SageMaker, ``NAME=VALUE`` each
    :param keep: continue with the state of an earlier run; else the folder is emptied at the start
    :param observer: called with each component as it starts and becomes ready
    """

    def __init__(
        self,
        folder: Path,
        dags_folder: Path,
        *,
        settings: Sequence[str] = (),
        keep: bool = False,
        observer: Observer = lambda _component, _state: None,
    ) -> None:
        self.folder = folder.resolve()
        self.dags_folder = dags_folder
        self.observer = observer
        self._marker = (_MARKER, str(self.folder))
        self._settings = tuple(settings)
        self._keep = keep
        self._running_file = self.folder / "running.json"
        self._log = self.folder / "sagemaker.log"
        self._sagemaker: EmbeddedProcess | None = None
        self.airflow: AirflowStack | None = None

    def start(self) -> Addresses:
        """Start both and wait until both serve; after a failure, the caller must call :meth:`stop`.

        Processes of an earlier run in the same folder are ended first. Raises StackError.
        """
        self.stop()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        sagemaker = self._start_sagemaker(free_port(SAGEMAKER_PORT))
        self.airflow = self._airflow(free_port(AIRFLOW_PORT), sagemaker.url)
        self.airflow.start()
        addresses = Addresses(airflow=self.airflow.url, sagemaker=sagemaker.url)
        self._write(addresses, {SAGEMAKER: sagemaker.pid or 0, **self.airflow.pids})
        return addresses

    def running(self) -> Addresses | None:
        """Read the addresses of this folder's running stack, started by any process; None when it does not run."""
        if not self._running_file.exists() or not marked(*self._marker):
            return None
        return self._read()[0]

    def repair(self) -> dict[str, str]:
        """Restart what does not work of the running stack, at the same addresses; return the ends of their logs.

        Raises StackError.
        """
        addresses, pids = self._read()
        ends = {}
        if not is_running(pids.get(SAGEMAKER), self._marker) or not _answers(addresses.sagemaker):
            ends[SAGEMAKER] = last_lines(self._log, 5)
            pids[SAGEMAKER] = self._start_sagemaker(_port(addresses.sagemaker)).pid or 0
        self.airflow = self._airflow(_port(addresses.airflow), addresses.sagemaker)
        ends |= self.airflow.repair(pids)
        self._write(addresses, {**pids, **self.airflow.pids})
        return ends

    def check(self) -> None:
        """Raise StackError with the last log lines of a component that has ended; for the process that started it."""
        if self._sagemaker is not None:
            self._sagemaker.check()
        if self.airflow is not None:
            self.airflow.check()

    def stop(self) -> list[str]:
        """End all processes of this folder's stack, whoever started them; return the components that ran.

        Airflow ends first, so that the embedded SageMaker writes a state that no task changes.
        """
        pids = self._read()[1] if self._running_file.exists() else {}
        ran = [name for name, pid in pids.items() if is_running(pid, self._marker)]
        end(marker=("AIRFLOW_HOME", str(self.folder / "airflow")))
        end(marker=self._marker, grace=_SAVE_SECONDS if self._keep else 8.0)
        self._running_file.unlink(missing_ok=True)
        return ran

    def _start_sagemaker(self, port: int) -> EmbeddedProcess:
        self.observer(SAGEMAKER, "starting")
        state = ["--state-dir", str(self.folder / "sagemaker")] if self._keep else []
        process = self._sagemaker = EmbeddedProcess(
            self._log,
            port=port,
            environment=dict([self._marker]),
            arguments=[*state, *(word for setting in self._settings for word in ("--set", setting))],
        )
        process.stop()  # one that hangs
        process.start()
        self.observer(SAGEMAKER, "ready")
        return process

    def _airflow(self, port: int, sagemaker: str) -> AirflowStack:
        return AirflowStack(
            self.folder / "airflow",
            self.dags_folder,
            environment={**AWS_SETTINGS, "AWS_ENDPOINT_URL": sagemaker, _MARKER: self._marker[1]},
            port=port,
            observer=self.observer,
        )

    def _read(self) -> tuple[Addresses, dict[str, int]]:
        running = json.loads(self._running_file.read_text())
        return Addresses(airflow=running["airflow"], sagemaker=running["sagemaker"]), running["pids"]

    def _write(self, addresses: Addresses, pids: Mapping[str, int]) -> None:
        self._running_file.write_text(json.dumps({**asdict(addresses), "pids": pids}, indent=1) + "\n")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _answers(sagemaker: str) -> bool:
    deadline = time.monotonic() + _ANSWER_SECONDS
    with requests.Session() as session:
        session.trust_env = False  # no proxy: loopback
        while (left := deadline - time.monotonic()) > 0:
            try:
                return session.get(f"{sagemaker}/_embedded/health", timeout=left).ok
            except requests.ConnectionError:
                time.sleep(0.5)
            except requests.Timeout:
                break
    return False
