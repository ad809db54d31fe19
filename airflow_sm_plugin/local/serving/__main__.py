"""Serve one unpacked model archive: ``python -m airflow_sm_plugin.local.serving --model-dir D``, or many.

The port goes to ``--port-fd`` (one line) once the model is loaded (with ``--multi-model``: at once) and ``/ping`` is
answered. The first line of standard input is a token: who does not send it with a request is refused. Ends, with its
whole process group if it leads one, when standard input closes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path

from airflow_sm_plugin.local.serving.errors import NoHandlers
from airflow_sm_plugin.local.serving.handlers import LoadedModel
from airflow_sm_plugin.local.serving.hosted import HostedModels
from airflow_sm_plugin.local.serving.web import ContainerServer, Respond, one_model


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m airflow_sm_plugin.local.serving")
    served = parser.add_mutually_exclusive_group(required=True)
    served.add_argument("--model-dir", type=Path, help="folder of the unpacked archive")
    served.add_argument("--multi-model", action="store_true", help="serve the models that POST /models names")
    parser.add_argument("--code-dir", type=Path, help="folder of the code, when it is not in the archive")
    parser.add_argument("--port-fd", type=int, default=1, help="file descriptor the port is written to")
    parser.add_argument("--scratch", type=Path, help="folder to remove when standard input closes")
    options = parser.parse_args()
    token = _first_line()
    threading.Thread(target=_end_with_stdin, args=(options.scratch,), name="stdin", daemon=True).start()
    try:
        respond = (
            _many_models(options.code_dir)
            if options.multi_model
            else one_model(LoadedModel(options.model_dir, os.environ, code_dir=options.code_dir))
        )
    except NoHandlers as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Exception:  # noqa: BLE001 - the archive's own code failed; its traceback belongs into the container's log
        traceback.print_exc(file=sys.stderr)
        return 1
    server = ContainerServer(respond, token)
    with os.fdopen(options.port_fd, "w", closefd=options.port_fd > 2) as report:
        report.write(f"{server.server_port}\n")
    server.serve_forever()
    return 0


def _many_models(code_dir: Path | None) -> Respond:
    sys.dont_write_bytecode = True  # every load has a folder of its own
    return HostedModels(os.environ, code_dir=code_dir).respond


def _first_line() -> bytes:
    """Read a line of standard input, and nothing behind it."""
    line = b""
    while (one := os.read(0, 1)) not in (b"", b"\n"):
        line += one
    return line


def _end_with_stdin(scratch: Path | None) -> None:
    """Wait for the end of standard input: the server is gone, however it went."""
    while os.read(0, 4096):
        pass
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
