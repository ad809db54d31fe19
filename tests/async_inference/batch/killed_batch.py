"""A step of a batch's task in a process of its own, which a test can kill as SIGKILL kills a worker or a triggerer."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from airflow_sm_plugin.async_inference import invoker as async_invoker
from airflow_sm_plugin.async_inference.batch import run as async_batch
from airflow_sm_plugin.hooks import control_plane
from airflow_sm_plugin.triggers import async_inference
from tests.multi_model import killed_shard
from tests.task_runs import Deferral, event_of

_IMPORTED = (async_batch, async_invoker, control_plane, async_inference, killed_shard)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])
"""Each process is forked from one that has imported all of this, which takes seconds."""


def wait(deferral: Deferral) -> None:
    """Wait for the event of a deferral's trigger, as a triggerer does."""
    event_of(deferral.trigger)


@contextmanager
def process_of(step: Callable[[], object]) -> Iterator[BaseProcess]:
    """Run a step, which must be picklable, in a process of its own, and SIGKILL the process at the end of the block."""
    process = _FORKS.Process(target=_take, args=(step, dict(os.environ)))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def _take(step: Callable[[], object], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    step()
