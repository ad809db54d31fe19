"""A container: a subprocess with an environment, a folder and a port of its own; its output is in CloudWatch Logs."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.containers.container_client import ContainerClient, Unreachable
from airflow_sm_plugin.local.containers.container_logs import LogShipper, announce
from airflow_sm_plugin.local.containers.containers import ContainerFailed, ContainerSpec, LogTarget
from airflow_sm_plugin.local.containers.model_data import unpack_model_data, unpack_source

_PACKAGES = str(Path(__file__).parents[3])
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""The only variables of the server's environment that a container gets: no AWS credentials."""
_LIBRARIES = "LD_LIBRARY_PATH"
_NOT_SETTABLE = frozenset({"PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONINSPECT"})
"""Variables that a model cannot set: values for the image's Python keep the server's from starting, or ending."""
_STOP_SECONDS = 2.0
"""Seconds between SIGTERM and SIGKILL, and for the last log lines: a container that ignores SIGTERM costs so much."""
_POLL_SECONDS = 0.1
"""Seconds after which a start that is called off, or is too late, is noticed."""


class ContainerProcess:
    """A running container; ``client`` speaks to it."""

    def __init__(self, region: Region, spec: ContainerSpec, logs: LogTarget) -> None:
        self.spec = spec
        self.client = ContainerClient(0, lambda: self.is_alive)
        self._token = secrets.token_urlsafe(32)
        self._region = region
        self._logs = logs
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._shipper: LogShipper | None = None
        self._stopped = threading.Event()
        self._own_folder: Path | None = None
        self._code_dir: Path | None = None

    @property
    def models_folder(self) -> Path:
        return self._folder / "model"

    @property
    def _folder(self) -> Path:
        """The container's folder, created when first needed: a container that never runs leaves none behind."""
        with self._lock:
            if self._own_folder is None:
                self._own_folder = Path(tempfile.mkdtemp(prefix="sagemaker-container-"))
            return self._own_folder

    @property
    def is_alive(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def announce(self) -> None:
        announce(self._region, self._logs, f"Starting container {self.spec.name}")

    def start(self) -> None:
        """Unpack the model (a multi-model container has none), start the process and wait until ``/ping`` is answered.

        Raises ContainerFailed with SageMaker's message when the model data is missing or damaged, and with an empty one
        when the container ends, or is silent for ``container_start_timeout_seconds``.
        """
        model_dir = self.models_folder
        for folder in (model_dir, self._folder / "home", self._folder / "tmp"):
            folder.mkdir(exist_ok=True)
        if not self.spec.multi_model and not any(model_dir.iterdir()):
            unpack_model_data(self._region, self.spec, model_dir, self._check_wanted)
        if self._code_dir is None:
            self._code_dir = unpack_source(self._region, self.spec, self._folder / "code", self._check_wanted)
        self._end_process()  # when the container is restarted
        deadline = time.monotonic() + self._region.settings.container_start_timeout_seconds
        port = self._launch(model_dir, deadline)
        self.client.close()
        self.client = ContainerClient(port, lambda: self.is_alive, self._token)
        try:
            status = self.client.ping(timeout=max(deadline - time.monotonic(), 0.1))
        except Unreachable as error:
            raise ContainerFailed from error
        if status != 200:
            raise ContainerFailed

    def _check_wanted(self) -> None:
        if self._stopped.is_set() or self._region.closed.is_set():
            raise ContainerFailed

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
        self._end_process()
        self.remove_folder()

    def remove_folder(self) -> None:
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _end_process(self) -> None:
        with self._lock:
            process, shipper = self._process, self._shipper
        if process is not None:
            _end(process)
        self.client.close()
        if shipper is not None:
            shipper.finish(_STOP_SECONDS)

    def _launch(self, model_dir: Path, deadline: float) -> int:
        port_out, port_in = os.pipe()
        try:
            with self._lock:
                if self._stopped.is_set():
                    raise ContainerFailed
                self._process = self._spawn(model_dir, port_in)
        finally:
            os.close(port_in)
        with os.fdopen(port_out) as report:
            output = select.poll()  # select() takes no descriptor beyond 1023
            output.register(report, select.POLLIN)
            while not output.poll(_POLL_SECONDS * 1000):
                if time.monotonic() > deadline or self._stopped.is_set() or self._region.closed.is_set():
                    raise ContainerFailed
            port = report.readline().strip()
        if not port:  # closed without a port: the process has ended
            raise ContainerFailed
        return int(port)

    def _spawn(self, model_dir: Path, port_fd: int) -> subprocess.Popen[bytes]:
        """Start the process; it inherits three pipes and nothing else. Raises ContainerFailed."""
        command = [
            sys.executable,
            "-P",
            "-m",
            "airflow_sm_plugin.local.serving",
            "--multi-model" if self.spec.multi_model else f"--model-dir={model_dir}",
            *([f"--code-dir={self._code_dir}"] if self._code_dir else []),
            f"--port-fd={port_fd}",
            f"--scratch={self._folder}",
        ]
        try:
            process = subprocess.Popen(
                command,
                cwd=model_dir,
                env=self._environment(model_dir),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(port_fd,),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            # A value that no environment can hold: a null byte, a lone surrogate.
            raise ContainerFailed(
                f"Container {self.spec.label} could not be started with its Environment: {error}"
            ) from error
        if process.stdin is not None:
            process.stdin.write(f"{self._token}\n".encode())
            process.stdin.flush()
        if process.stdout is not None:
            self._shipper = LogShipper(self._region, self._logs, process.stdout)
        return process

    def _environment(self, model_dir: Path) -> dict[str, str]:
        """Build the environment: the model's ``Environment``, and the variables that SageMaker and Python add to it.

        AWS calls of the model's code go to this server, not to the user's account. Paths to the server's own Python and
        packages come before the model's paths, which are those of another machine.
        """
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        own = {name: value for name, value in self.spec.environment.items() if name not in _NOT_SETTABLE}
        python_path = [_PACKAGES, *filter(None, [own.get("PYTHONPATH")])]
        libraries = list(filter(None, [passed_on.get(_LIBRARIES), own.get(_LIBRARIES)]))
        return {
            **passed_on,
            "AWS_ENDPOINT_URL": self._region.aws.url,
            "AWS_ACCESS_KEY_ID": "embedded",
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_REGION": self._region.name,
            "AWS_DEFAULT_REGION": self._region.name,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
            **own,
            **({_LIBRARIES: os.pathsep.join(libraries)} if libraries else {}),
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "SM_MODEL_DIR": str(model_dir),
            "PYTHONPATH": os.pathsep.join(python_path),
        }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group with SIGTERM, after ``_STOP_SECONDS`` with SIGKILL."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            break
    if process.stdin is not None:
        process.stdin.close()
