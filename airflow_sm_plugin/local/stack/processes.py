"""Start processes with a marker, and end all processes with that marker.

The marker is an environment variable. Children inherit it, so that they are recognized even when their parent has ended
(an orphaned Airflow task).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_KILL_SECONDS = 60.0
"""SIGKILL ends a process as soon as its system call ends; one that is there after a minute hangs in the kernel."""

_PORTS_TRIED = 100


class StackError(RuntimeError):
    """A process of the stack did not start, died or did not end; the message has its last log lines."""


def free_port(first: int = 0) -> int:
    """Choose the first free port of loopback from ``first`` on; 0 leaves the choice to the system."""
    port = first
    while True:
        with socket.socket() as listener:
            # As servers do: a port whose last connections still time out is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port >= first + _PORTS_TRIED:
                    raise StackError(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}") from error
                port += 1
            else:
                return int(listener.getsockname()[1])


def clean_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Copy this process's environment without the user's AWS and Airflow settings, and add ``additions``.

    Requests to loopback are never sent through a proxy.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "AIRFLOW_", "_AIRFLOW_")) and name.upper() != "NO_PROXY"
    }
    inherited = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    no_proxy = ",".join(filter(None, [inherited, "127.0.0.1,localhost"]))
    return {
        **kept,
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Airflow sets process titles, which would overwrite the environment in /proc.
        "SPT_NOENV": "1",
        **additions,
    }


def start(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, which the terminal's Ctrl-C does not reach; log its output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def last_lines(log: Path, count: int = 30) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])


def marked(name: str, value: str) -> list[psutil.Process]:
    """Find the running processes with ``name=value`` in their environment, except this one."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                processes.append(process)
    return processes


def is_running(pid: int | None, marker: tuple[str, str]) -> bool:
    """Tell whether the process lives and has the marker: the number of one that ended can belong to another."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid) if pid else None
        if process is not None and process.status() != psutil.STATUS_ZOMBIE:
            return process.environ().get(marker[0]) == marker[1]
    return False


def end(*, marker: tuple[str, str], pids: Iterable[int] = (), grace: float = 8.0) -> None:
    """End every process with the marker, and ``pids``, with all their descendants.

    ``pids`` and the topmost marked processes get a SIGTERM, on which they end their own children, and ``grace``
    seconds; the rest gets a SIGKILL. Raises :class:`StackError` when a process survives that.
    """
    with_marker = marked(*marker)
    marked_pids = {process.pid for process in with_marker}
    given = [process for pid in pids for process in _existing(pid)]
    tops = {
        process.pid: process
        for process in [*given, *(p for p in with_marker if _parent_id(p) not in marked_pids)]
    }
    family = [*tops.values(), *(child for parent in tops.values() for child in _children(parent))]
    for process in tops.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(list(tops.values()), timeout=grace)
    deadline = time.monotonic() + _KILL_SECONDS
    while left := [*_running(family), *_running(marked(*marker))]:
        if time.monotonic() > deadline:
            raise StackError(f"these processes could not be ended: {sorted({p.pid for p in left})}")
        for survivor in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                survivor.kill()
        psutil.wait_procs(left, timeout=1.0)


def _existing(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield psutil.Process(pid)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _parent_id(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _running(family: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
