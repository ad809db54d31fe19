"""The embedded SageMaker as a process of its own, in this interpreter or another."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from airflow_sm_plugin.local.stack.processes import StackError, clean_environment, end, last_lines, start

_READY = re.compile(r"^ready (http://\S+)$", re.MULTILINE)
_POLL_SECONDS = 0.05
"""Seconds between readings of the log, so the most by which a start seems longer than it is."""


class EmbeddedProcess:
    """``python -m airflow_sm_plugin.local`` on a port of loopback; a context manager.

    :param log: for the process's output
    :param port: 0 for a free one
    :param python: an interpreter with the extra ``local``
    :param environment: further variables
    :param arguments: further ones of the command line, e.g. ``["--set", "automl_seconds=5"]``
    :param grace: seconds between SIGTERM and SIGKILL in :meth:`stop`; with ``--state-dir``, the state is written then
    """

    def __init__(
        self,
        log: Path,
        *,
        port: int = 0,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        start_seconds: float = 300.0,
        grace: float = 8.0,
    ) -> None:
        self.url = ""
        self._log = log.resolve()
        self._port = port
        self._python = python
        self._marker = ("AIRFLOW_SM_EMBEDDED", str(self._log))
        self._additions = {**(environment or {}), self._marker[0]: self._marker[1]}
        self._arguments = tuple(arguments)
        self._start_seconds = start_seconds
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def check(self) -> None:
        """Raise :class:`StackError` with the last log lines when the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise StackError(
                f"the embedded SageMaker ended with exit code {self._process.returncode}:\n{last_lines(self._log)}"
            )

    def start(self) -> None:
        """Start the process and wait until it serves at ``url``. Raises :class:`StackError` with its log."""
        self._log.unlink(missing_ok=True)
        try:
            self.url = self._launch()
        except BaseException:  # Ctrl-C, too
            self.stop()
            raise

    def stop(self) -> None:
        process, self._process = self._process, None
        end(marker=self._marker, pids=[process.pid] if process else [], grace=self._grace)
        if process:
            process.wait()  # it has ended; Popen must collect the exit code

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> str:
        command = [
            self._python,
            "-m",
            "airflow_sm_plugin.local",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
        ]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._process = process = start(
            [*command, *self._arguments],
            environment=clean_environment(self._additions),
            folder=self._log.parent,
            log=self._log,
        )
        deadline = time.monotonic() + self._start_seconds
        while not (ready := _READY.search(self._log.read_text(errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"the embedded SageMaker did not start:\n{last_lines(self._log)}")
            time.sleep(_POLL_SECONDS)
        return ready[1]
