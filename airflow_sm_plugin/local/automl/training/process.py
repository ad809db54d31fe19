"""Start the training process and read its events, or those that are kept of an equal job."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import cast

from airflow_sm_plugin.local.automl.training.plan import ChannelFiles, TrainingEvent, TrainingPlan

_PACKAGES = str(Path(__file__).parents[4])
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A job takes one core: endpoints and other jobs share the machine."""

_EVENTS = "events.jsonl"
_LIBRARIES = ("scikit-learn", "numpy", "joblib")
"""A model is pickled, so that only the versions that made it can load it."""


class TrainingCrashed(Exception):
    """The process ended before its plan was carried out; the text is the end of its stderr."""


class TrainingProcess:
    """The process of one job, used by one thread; ``kill`` can be called from any other, also before the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def events(self, plan: TrainingPlan) -> Generator[TrainingEvent]:
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
                    yield cast("TrainingEvent", json.loads(line))
            finally:
                if process.stdin:
                    process.stdin.close()  # its end of file ends the process if it is still at work
        if process.returncode and not self._killed:
            last_lines = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise TrainingCrashed(last_lines[-1] if last_lines else f"exit status {process.returncode}")

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()


class TrainingCache:
    """A folder of finished trainings; several services can share it.

    :param folder: made when something is kept. Archives in it are run as they are: whoever can write there runs code
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def events(
        self, plan: TrainingPlan, train: Callable[[TrainingPlan], Generator[TrainingEvent]]
    ) -> Generator[TrainingEvent]:
        """Yield the events of the plan: the kept ones if an equal plan was carried out before, else by training."""
        kept = self._folder / _key(plan)
        with contextlib.suppress(FileNotFoundError):
            lines = (kept / _EVENTS).read_text(encoding="utf-8").splitlines()
            yield from (_with_archives_in(kept, json.loads(line)) for line in lines)
            return
        yielded: list[TrainingEvent] = []
        with contextlib.closing(train(plan)) as events:
            for event in events:
                yielded.append(event)
                yield event
        if yielded and yielded[-1]["event"] == "explained":  # to its very end: neither killed nor failed
            self._keep(kept, Path(plan["output"]), yielded)

    def _keep(self, kept: Path, output: Path, events: Iterable[TrainingEvent]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=self._folder, prefix="new-"))
        try:
            shutil.copytree(output, made, dirs_exist_ok=True)
            lines = [json.dumps(_with_archives_in(Path(), event)) for event in events]
            (made / _EVENTS).write_text("\n".join(lines), encoding="utf-8")
            with contextlib.suppress(OSError):  # another job has kept the same meanwhile
                made.rename(kept)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _with_archives_in(folder: Path, event: TrainingEvent) -> TrainingEvent:
    if event["event"] != "trained":
        return event
    archives = {role: str(folder / Path(path).name) for role, path in event["archives"].items()}
    return cast("TrainingEvent", {**event, "archives": archives})


def _key(plan: TrainingPlan) -> str:
    """Return a name for all that the result depends on: data, settings, this package's code and the libraries."""
    settings = {name: value for name, value in plan.items() if name != "output"}
    channels = {name: _digests(plan[name]) for name in ("training", "validation")}
    content = json.dumps([settings | channels, _code(), list(map(version, _LIBRARIES))], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _digests(channel: ChannelFiles | None) -> list[object] | None:
    if channel is None:
        return None
    files = [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in channel["files"]]
    return [channel["gzipped"], files]


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(os.fsencode(module.name) + module.read_bytes())
    return digest.hexdigest()
