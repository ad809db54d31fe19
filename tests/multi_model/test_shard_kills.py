"""A shard whose process is SIGKILLed, or frozen: every record is in an output once, in order, and few are repeated.

``AIRFLOW_SM_KILL_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from airflow_sm_plugin.multi_model.state.records import JournalPart
from tests.async_inference.batch.killed_batch import process_of
from tests.multi_model.killed_shard import FENCED_OFF, FINISHED, do_shard
from tests.multi_model.multi_models import MultiModel
from tests.support import Account, unique

pytestmark = pytest.mark.slow

MODELS = ["a", "b", "c", "d"]
LONG, SHORT = 36, 4
"""Records of each model: of its long input, and of its short ones, which have one each."""
RECORDS = LONG + SHORT
AT_ONCE = 8
KILLS = 3
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "5"))

COUNTED = """
import os
import threading
import time

LOCK = threading.Lock()

def model_fn(model_dir):
    return open(model_dir + "/name.txt").read()

def transform_fn(model, data, content_type, accept):
    count("begun", model)
    while not may_pass(model):
        time.sleep(0.01)
    return model + "/" + data

def may_pass(model):
    with LOCK:
        is_allowed = size("passed", model) < int(open(path("allowed", model)).read())
        if is_allowed:
            count("passed", model)
        return is_allowed

def count(event, model):
    with open(path(event, model), "a") as log:
        log.write(".")

def size(event, model):
    return os.path.getsize(path(event, model))

def path(event, model):
    return FOLDER + "/" + event + "-" + model
"""
"""It answers as many payloads as a file permits, and holds all others; it counts both."""

_ALL = 1_000_000


class Turnstile:
    """Limits how many payloads the models answer; no limit at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._allowed: dict[str, int] = {}
        for model in MODELS:
            for event in ("begun", "passed"):
                (folder / f"{event}-{model}").touch()
        self.open()

    @property
    def code(self) -> str:
        return f"FOLDER = {str(self._folder)!r}\n{COUNTED}"

    @property
    def begun(self) -> int:
        """Payloads that have reached the models, those of killed processes included."""
        return sum(self._size("begun", model) for model in MODELS)

    @property
    def passed(self) -> int:
        """Payloads that were answered."""
        return sum(self._size("passed", model) for model in MODELS)

    @property
    def held(self) -> int:
        """Payloads at models that have reached their limit."""
        held = 0
        for model in MODELS:
            passed = self._size("passed", model)
            if passed == self._allowed[model]:
                held += self._size("begun", model) - passed
        return held

    def let_pass(self, counts: Mapping[str, int]) -> None:
        """Let each model answer *counts* more payloads."""
        for model, count in counts.items():
            self._allow(model, self._size("passed", model) + count)

    def open(self) -> None:
        """Let the models answer all payloads."""
        for model in MODELS:
            self._allow(model, _ALL)

    def _allow(self, model: str, count: int) -> None:
        self._allowed[model] = count
        written = self._folder / "written"
        written.write_text(str(count))
        written.rename(self._folder / f"allowed-{model}")

    def _size(self, event: str, model: str) -> int:
        return (self._folder / f"{event}-{model}").stat().st_size


@pytest.fixture(scope="module")
def shared_turnstile(tmp_path_factory: pytest.TempPathFactory) -> Turnstile:
    return Turnstile(tmp_path_factory.mktemp("turnstile"))


@pytest.fixture
def turnstile(shared_turnstile: Turnstile) -> Iterator[Turnstile]:
    yield shared_turnstile
    shared_turnstile.open()


@pytest.fixture(scope="module")
def shared(module_account: Account, shared_turnstile: Turnstile) -> MultiModel:
    return MultiModel.deployed(module_account, MODELS, shared_turnstile.code)


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    batch = MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)
    for model in MODELS:
        batch.put(model, "long.csv", "".join(f"r{number}\n" for number in range(LONG)))
        for number in range(SHORT):
            batch.put(model, f"short-{number}.csv", f"s{number}\n")
    return batch


@contextmanager
def process(batch: MultiModel, plan: str) -> Iterator[BaseProcess]:
    """Run the shard in a process of its own, which is SIGKILLed at the end of the block unless it has ended."""
    settings = batch.settings(
        plan, max_concurrent_transforms=AT_ONCE, checkpoint_seconds=0.2, attempts=100_000
    )
    with process_of(partial(do_shard, settings)) as started:
        yield started


def ended(process: BaseProcess) -> int | None:
    """Wait for a process to end by itself; return its exit code."""
    process.join()
    return process.exitcode


def accepting(batch: MultiModel, count: int) -> AbstractContextManager[None]:
    """Let the endpoint accept *count* invocations, and throttle all others, during the block.

    So no process ends before it is killed or stopped, however late that happens.
    """
    return batch.faults({"fault": "throttle", "operation": "InvokeEndpoint", "after": count})


def wait_until(is_so: Callable[[], object], process: BaseProcess | None = None) -> None:
    """Wait for a condition while the process lives; pytest's own limit ends a wait in vain."""
    while not is_so():
        assert process is None or process.is_alive(), "it ended before it could be killed"
        time.sleep(0.02)


def wait_for_more(batch: MultiModel, count: int, process: BaseProcess) -> None:
    """Wait until *count* more payloads were invoked."""
    wanted = len(batch.invocations()) + count
    wait_until(lambda: len(batch.invocations()) >= wanted, process)


def check(batch: MultiModel) -> None:
    """Check that every record is in an output once, in order."""
    for model in MODELS:
        wanted = "".join(f"{model}/r{number}\n" for number in range(LONG))
        assert (batch.output(model, "long.csv") or b"").decode() == wanted
        for number in range(SHORT):
            assert batch.output(model, f"short-{number}.csv") == f"{model}/s{number}\n".encode()


def journal(batch: MultiModel, plan: str) -> list[JournalPart]:
    """Read the parts of the shard's journal."""
    bucket, _, prefix = plan.removeprefix("s3://").partition("/")
    pages = batch.account.s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}/shards/"
    )
    keys = sorted(
        key for page in pages for each in page.get("Contents", []) if "/journal/" in (key := each["Key"])
    )
    return [JournalPart.from_json(batch.account.read(f"s3://{bucket}/{key}")) for key in keys]


def recorded(parts: list[JournalPart]) -> int:
    """Count the records whose results are in parts of a journal."""
    all_ended = [ended for part in parts for ended in part.ended]
    entries = {ended.entry for ended in all_ended}
    return sum(ended.records for ended in all_ended) + sum(
        run.records for part in parts for run in part.runs if run.entry not in entries
    )


def before_the_last(parts: list[JournalPart]) -> list[JournalPart]:
    """Return the parts of all processes but the last one."""
    return parts[: max(number for number, part in enumerate(parts) if part.claim is not None)]


def test_killed_processes_lose_nothing_and_repeat_only_results_outside_the_journal(
    batch: MultiModel, turnstile: Turnstile
) -> None:
    """Each is killed while the models hold all of its invocations in flight."""
    chance = random.Random(SEED)  # noqa: S311 - when to kill
    plan, before = batch.plan(), turnstile.begun
    for _ in range(KILLS):
        turnstile.let_pass({model: chance.randint(2, 8) for model in MODELS})
        with process(batch, plan) as killed:
            wait_until(lambda: turnstile.held == AT_ONCE, killed)
        answer_held_payloads(turnstile)
    begun = turnstile.begun - before
    with process(batch, plan) as last:
        assert ended(last) == FINISHED
    check(batch)
    parts = journal(batch, plan)
    repeated = turnstile.begun - before - len(MODELS) * RECORDS
    assert repeated == begun - recorded(before_the_last(parts))
    assert repeated >= KILLS * AT_ONCE
    assert parts[-1].finished


def test_answers_before_the_last_checkpoint_are_not_repeated(batch: MultiModel, turnstile: Turnstile) -> None:
    plan, before, passed = batch.plan(), turnstile.begun, turnstile.passed
    turnstile.let_pass(dict.fromkeys(MODELS, 6))
    with process(batch, plan) as killed:
        wait_until(lambda: turnstile.held == AT_ONCE, killed)
        wait_until(lambda: recorded(journal(batch, plan)) == turnstile.passed - passed, killed)
    answer_held_payloads(turnstile)
    with process(batch, plan) as last:
        assert ended(last) == FINISHED
    check(batch)
    assert turnstile.begun - before == len(MODELS) * RECORDS + AT_ONCE


def answer_held_payloads(turnstile: Turnstile) -> None:
    """Let the models answer the payloads of a killed process."""
    turnstile.open()
    wait_until(lambda: turnstile.passed == turnstile.begun)


def test_a_frozen_process_stops_at_its_next_write_and_harms_nothing(batch: MultiModel) -> None:
    plan = batch.plan()
    with process(batch, plan) as orphan:
        with accepting(batch, 40):
            wait_for_more(batch, 30, orphan)
            os.kill(orphan.pid or 0, signal.SIGSTOP)
        with process(batch, plan) as retry:
            with accepting(batch, 40):
                wait_for_more(batch, 20, retry)
                os.kill(orphan.pid or 0, signal.SIGCONT)
                assert ended(orphan) == FENCED_OFF
            assert ended(retry) == FINISHED
    check(batch)


def test_an_orphan_that_resumes_after_the_end_changes_nothing(batch: MultiModel) -> None:
    plan = batch.plan()
    with process(batch, plan) as orphan:
        with accepting(batch, 40):
            wait_for_more(batch, 30, orphan)
            os.kill(orphan.pid or 0, signal.SIGSTOP)
        batch.run(plan)
        os.kill(orphan.pid or 0, signal.SIGCONT)
        assert ended(orphan) == FENCED_OFF
    check(batch)
    assert journal(batch, plan)[-1].finished
