"""Ports, and processes that are recognized by their marker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.local.stack.processes import StackError, free_port, is_running


def test_a_port_in_use_gives_the_next_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) <= port + 100


def test_a_process_runs_only_with_its_marker_and_until_it_ends() -> None:
    marker = ("AIRFLOW_SM_TEST", "a b")
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env={**os.environ, marker[0]: marker[1]}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_running(process.pid, marker)
        assert not is_running(process.pid, (marker[0], "other"))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(process.pid, marker)  # a zombie
    assert not is_running(process.pid, marker)
    assert not is_running(None, marker)


def test_an_embedded_sagemaker_that_ended_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with EmbeddedProcess(tmp_path / "log", start_seconds=1700) as process:
        process.check()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(StackError, match=r"exit code -9:\nready http://"):
            process.check()
