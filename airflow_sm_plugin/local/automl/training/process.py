"""Start the training process and read its events, or repeat the cached events of an equal job."""

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
"""A job uses a single core: endpoints and other jobs share the machine."""

_EVENTS = "events.jsonl"
_LIBRARIES = ("scikit-learn", "numpy", "joblib")
"""A model is pickled: only the versions that pickled it can load it."""


class TrainingCrashed(Exception):
    """The process ended before it had carried out its plan; the message is the last line of its stderr."""


class TrainingProcess:
    """The process of a job, used by a single thread; ``kill`` can be called from any thread, also before the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def events(self, plan: TrainingPlan) -> Generator[TrainingEvent]:
        """Run the plan and yield its events; a killed process yields no further ones. Raises TrainingCrashed."""
        script = self._folder / "plan.json"
        script.write_text(json.dumps(plan), encoding="utf-8")
        error_log = self._folder / "stderr.txt"
        with error_log.open("w") as errors, self._lock:
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
                    process.stdin.close()  # at the end of its input, the process ends, even if it works
        if process.returncode and not self._killed:
            last_lines = error_log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise TrainingCrashed(last_lines[-1] if last_lines else f"exit status {process.returncode}")

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()


class TrainingCache:
    """A folder of finished trainings; several services can share it.

    :param folder: created with its first entry. Archives in it are run: whoever can write to it can run code
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def events(
        self, plan: TrainingPlan, train: Callable[[TrainingPlan], Generator[TrainingEvent]]
    ) -> Generator[TrainingEvent]:
        """Yield the events of the plan: cached ones of an equal plan, else those of a training."""
        entry = self._folder / _key(plan)
        with contextlib.suppress(FileNotFoundError):
            lines = (entry / _EVENTS).read_text(encoding="utf-8").splitlines()
            yield from (_with_archives_in(entry, json.loads(line)) for line in lines)
            return
        yielded: list[TrainingEvent] = []
        with contextlib.closing(train(plan)) as events:
            for event in events:
                yielded.append(event)
                yield event
        if yielded and yielded[-1]["event"] == "explained":  # the last event of a successful training
            self._store(entry, Path(plan["output"]), yielded)

    def _store(self, entry: Path, output: Path, events: Iterable[TrainingEvent]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        new_entry = Path(tempfile.mkdtemp(dir=self._folder, prefix="new-"))
        try:
            shutil.copytree(output, new_entry, dirs_exist_ok=True)
            lines = [json.dumps(_with_archives_in(Path(), event)) for event in events]
            (new_entry / _EVENTS).write_text("\n".join(lines), encoding="utf-8")
            with contextlib.suppress(OSError):  # another job has stored the same meanwhile
                new_entry.rename(entry)
        finally:
            shutil.rmtree(new_entry, ignore_errors=True)


def _with_archives_in(folder: Path, event: TrainingEvent) -> TrainingEvent:
    if event["event"] != "trained":
        return event
    archives = {role: str(folder / Path(path).name) for role, path in event["archives"].items()}
    return cast("TrainingEvent", {**event, "archives": archives})


def _key(plan: TrainingPlan) -> str:
    """Hash everything that the result depends on: data, settings, this package's code and the libraries."""
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
