"""The embedded SageMaker and a real Airflow beside it, as one thing to start, to find again and to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.local.stack.processes import end, marked

_MARKER = "AIRFLOW_SM_DEMO"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs of both services."""

    airflow: str
    sagemaker: str


class DemoStack:
    """Both services, with everything they write in one folder.

    :param folder: emptied at the start; ``airflow/`` becomes AIRFLOW_HOME, ``sagemaker.log`` holds the
        embedded SageMaker's requests, ``running.json`` the addresses and process ids
    :param dags_folder: where the DAG files are
    :param settings: of the embedded SageMaker, ``NAME=VALUE`` each
    """

    def __init__(self, folder: Path, dags_folder: Path, *, settings: Sequence[str] = ()) -> None:
        self.folder = folder.resolve()
        self._marker = (_MARKER, str(self.folder))
        self._dags_folder = dags_folder
        self._settings = tuple(settings)
        self._note = self.folder / "running.json"
        self.airflow: AirflowStack | None = None

    def start(self) -> Addresses:
        """Start both and return when both serve; whoever calls this also calls :meth:`stop`.

        Ends what an earlier run in the same folder may have left. Raises
        :class:`~airflow_sm_plugin.local.stack.processes.StackError`.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        sagemaker = EmbeddedProcess(
            self.folder / "sagemaker.log",
            environment=dict([self._marker]),
            arguments=[word for setting in self._settings for word in ("--set", setting)],
        )
        sagemaker.start()
        self.airflow = AirflowStack(
            self.folder / "airflow",
            self._dags_folder,
            environment={**AWS_SETTINGS, "AWS_ENDPOINT_URL": sagemaker.url, _MARKER: self._marker[1]},
        )
        self.airflow.start()
        addresses = Addresses(airflow=self.airflow.url, sagemaker=sagemaker.url)
        pids = sorted(process.pid for process in marked(*self._marker))
        self._note.write_text(json.dumps({**asdict(addresses), "pids": pids}, indent=1) + "\n")
        return addresses

    def running(self) -> Addresses | None:
        """Return the addresses when a stack of this folder runs, started by this process or another."""
        if not self._note.exists() or not marked(*self._marker):
            return None
        note = json.loads(self._note.read_text())
        return Addresses(airflow=note["airflow"], sagemaker=note["sagemaker"])

    def stop(self) -> None:
        """End whatever runs for this folder, whoever started it; may be called at any time."""
        end(marker=self._marker)
        self._note.unlink(missing_ok=True)
