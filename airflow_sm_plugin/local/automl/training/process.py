"""Start the training process and hear its events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import cast

from airflow_sm_plugin.local.automl.training.plan import Event, Plan

_PACKAGES = str(Path(__file__).parents[4])
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A job takes one core: endpoints and other jobs share the machine."""


class TrainingCrashed(Exception):
    """The process ended before its plan was carried out; the text is the end of what it said."""


class TrainingProcess:
    """The process of one job, used by one thread; ``kill`` may be called from any other, also before the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def events(self, plan: Plan) -> Generator[Event]:
        """Run the plan and yield what happens; ends early when killed. Raises TrainingCrashed."""
        script = self._folder / "plan.json"
        script.write_text(json.dumps(plan), encoding="utf-8")
        complaints = self._folder / "stderr.txt"
        with complaints.open("w") as errors, self._lock:
            if self._killed:
                return
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow_sm_plugin.local.automl.training.worker", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ}
                | _ONE_THREAD
                | {"PYTHONPATH": _PACKAGES, "HOME": str(self._folder)},
            )
        with process:
            try:
                for line in process.stdout or ():
                    yield cast("Event", json.loads(line))
            finally:
                if process.stdin:
                    process.stdin.close()  # its end of file ends the process if it is still at work
        if process.returncode and not self._killed:
            said = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise TrainingCrashed(said[-1] if said else f"exit status {process.returncode}")

    def kill(self) -> None:
        """End the process at once."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()
