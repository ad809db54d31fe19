"""A shard whose process is SIGKILLed, or frozen and left behind: every record once, in order, and little done twice.

``AIRFLOW_SM_KILL_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.process import BaseProcess

import pytest

from airflow_sm_plugin.core.batch_journal import Part
from tests.batch.killed_batch import process_of
from tests.batch.killed_shard import FENCED_OFF, FINISHED, do_shard
from tests.batch.multi_models import MultiModel
from tests.support import Account, unique

pytestmark = pytest.mark.slow

MODELS = ["a", "b", "c", "d"]
LONG, SHORT = 36, 4
"""Records of each model: of its long input, and of its short ones, which have one each."""
RECORDS = LONG + SHORT
AT_ONCE = 8
KILLS = 3
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "5"))

SLOW = """
import time

def model_fn(model_dir):
    return open(model_dir + "/name.txt").read()

def transform_fn(model, data, content_type, accept):
    time.sleep(0.05)
    return model + "/" + data
"""


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, MODELS, SLOW)


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    found = MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)
    for model in MODELS:
        found.put(model, "long.csv", "".join(f"r{number}\n" for number in range(LONG)))
        for number in range(SHORT):
            found.put(model, f"short-{number}.csv", f"s{number}\n")
    return found


@contextmanager
def process(batch: MultiModel, plan: str) -> Iterator[BaseProcess]:
    """Do the shard in a process of its own, which is SIGKILLed at the end of the block unless it has ended."""
    settings = batch.settings(
        plan, max_concurrent_transforms=AT_ONCE, checkpoint_seconds=0.2, attempts=100_000
    )
    with process_of(partial(do_shard, settings)) as found:
        yield found


def ended(process: BaseProcess) -> int | None:
    """Wait for a process to end by itself; return its exit code."""
    process.join()
    return process.exitcode


def accepting(batch: MultiModel, count: int) -> AbstractContextManager[None]:
    """Have the endpoint carry out so many invocations, and throttle all others, for the block.

    So no process ends before it is killed or stopped, however late that is.
    """
    return batch.faults({"fault": "throttle", "operation": "InvokeEndpoint", "after": count})


def wait_until(is_so: Callable[[], object], process: BaseProcess) -> None:
    """Wait for something that a process does; pytest's own limit ends a wait in vain."""
    while not is_so():
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.02)


def wait_for_more(batch: MultiModel, count: int, process: BaseProcess) -> None:
    """Return when so many more payloads were invoked."""
    wanted = len(batch.invocations()) + count
    wait_until(lambda: len(batch.invocations()) >= wanted, process)


def check(batch: MultiModel) -> None:
    """Every record is in an output once, in order."""
    for model in MODELS:
        wanted = "".join(f"{model}/r{number}\n" for number in range(LONG))
        assert (batch.output(model, "long.csv") or b"").decode() == wanted
        for number in range(SHORT):
            assert batch.output(model, f"short-{number}.csv") == f"{model}/s{number}\n".encode()


def journal(batch: MultiModel, plan: str) -> list[Part]:
    """Return the parts of the shard's journal."""
    bucket, _, prefix = plan.removeprefix("s3://").partition("/")
    pages = batch.account.s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}/shards/"
    )
    keys = sorted(
        one["Key"] for page in pages for one in page.get("Contents", []) if "/journal/" in one["Key"]
    )
    return [Part.from_json(batch.account.read(f"s3://{bucket}/{key}")) for key in keys]


def written(batch: MultiModel, plan: str) -> int:
    """Return of how many records the journal knows the result."""
    parts = journal(batch, plan)
    ended = {one.entry for part in parts for one in part.ended}
    return sum(one.records for part in parts for one in part.ended) + sum(
        run.records for part in parts for run in part.runs if run.entry not in ended
    )


def settled(batch: MultiModel) -> int:
    """Return how many payloads were invoked, once what was on its way to the models is carried out."""
    count = -1
    while count != (count := len(batch.invocations())):
        time.sleep(0.5)
    return count


def test_killed_processes_lose_nothing_and_repeat_only_what_was_not_written_down(batch: MultiModel) -> None:
    chance = random.Random(SEED)  # noqa: S311 - when to kill
    plan = batch.plan()
    before, allowed = len(batch.invocations()), 0
    for _ in range(KILLS):
        count = chance.randint(15, 30)
        with accepting(batch, count + AT_ONCE), process(batch, plan) as killed:
            wait_for_more(batch, count, killed)
        allowed = settled(batch) - before - written(batch, plan)
        assert allowed <= KILLS * (30 + AT_ONCE), "much was answered that was not written down"
    with process(batch, plan) as last:
        assert ended(last) == FINISHED
    check(batch)
    repeated = len(batch.invocations()) - before - len(MODELS) * RECORDS
    assert 0 < repeated <= allowed
    assert journal(batch, plan)[-1].finished


def test_a_process_left_behind_stops_at_its_next_word_and_harms_nothing(batch: MultiModel) -> None:
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


def test_an_orphan_that_wakes_when_all_is_done_changes_nothing(batch: MultiModel) -> None:
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
