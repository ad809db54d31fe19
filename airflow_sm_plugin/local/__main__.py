"""Run the embedded SageMaker: ``python -m airflow_sm_plugin.local --host 127.0.0.1 --port 0``.

Prints ``ready http://127.0.0.1:<port>`` once it serves, logs requests on stderr, ends on SIGTERM and SIGINT.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.server import EmbeddedSageMaker

_LAST_PORT = 65_535


class _LineLog(logging.Handler):
    """Writes each record to stderr by a single call, without a lock, for which all threads would wait."""

    def createLock(self) -> None:
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{self.format(record)}\n".encode(errors="backslashreplace"))


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(
            f"{value!r} is not a port: give a number from 0 to {_LAST_PORT}, 0 for a free one"
        )
    return int(value)


def _setting(item: str) -> tuple[str, float]:
    name, _, value = item.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--set {item!r} is not NAME=NUMBER: write, e.g., --set automl_seconds=5") from None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m airflow_sm_plugin.local", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="permit a --host beyond loopback: anyone who can connect then runs code as you, without login",
    )
    parser.add_argument(
        "--serve-as",
        action="append",
        default=[],
        metavar="NAME",
        help="a further host name to answer, e.g. a container's; can be repeated",
    )
    parser.add_argument("--port", type=_port, default=0, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER", help="a setting, e.g. automl_seconds=5"
    )
    parser.add_argument(
        "--training-cache",
        type=Path,
        metavar="FOLDER",
        help="a folder for trained AutoML jobs; a job with the same data and settings is taken from it",
    )
    parser.add_argument(
        "--public-url",
        default="",
        metavar="URL",
        help="the address for browsers where it is another than for clients, e.g. of a container's published port",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="FOLDER",
        help="read S3 objects, models, endpoints and ended jobs from it at the start, write them at the end",
    )
    parser.add_argument("--quiet", action="store_true", help="log no requests")
    options = parser.parse_args(arguments)
    settings = Settings()
    try:
        settings.change(dict(map(_setting, options.set)))
        service = EmbeddedSageMaker(
            host=options.host,
            port=options.port,
            settings=settings,
            serve_as=options.serve_as,
            allow_remote=options.allow_remote,
            training_cache=options.training_cache,
            public_url=options.public_url,
        )
    except ValueError as error:
        parser.error(str(error))
    level = logging.WARNING if options.quiet else logging.INFO
    logging.basicConfig(handlers=[_LineLog()], level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("airflow_sm_plugin.local").setLevel(level)
    stopping = threading.Event()
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, lambda *_: stopping.set())
    with contextlib.ExitStack() as stack:
        try:
            embedded = stack.enter_context(service)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound ({error.strerror})"
            parser.error(
                f"port {options.port} of {options.host} {why}: stop what listens there, or give another --port, "
                "0 for a free one"
            )
        if options.state_dir is not None:
            try:
                embedded.load(options.state_dir)
            except ValueError as error:
                parser.error(str(error))
        sys.stdout.write(f"ready {embedded.url}\n")
        sys.stdout.flush()
        stopping.wait()
        if options.state_dir is not None:
            embedded.save(options.state_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
