"""A shard whose process is SIGKILLed, or frozen and left behind: every record once, in order, and little done twice.

``AIRFLOW_SM_KILL_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_sm_plugin.core.batch_journal import Part
from tests.batch.killed_shard import FENCED_OFF, FINISHED, READY
from tests.batch.multi_models import MultiModel
from tests.support import Account

MODELS = ["a", "b", "c", "d"]
RECORDS = 200
AT_ONCE = 8
KILLS = 3
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "5"))
ROOT = Path(__file__).parents[2]

SLOW = """
import time

def model_fn(model_dir):
    return open(model_dir + "/name.txt").read()

def transform_fn(model, data, content_type, accept):
    time.sleep(0.02)
    return model + "/" + data
"""


@pytest.fixture
def batch(account: Account) -> MultiModel:
    found = MultiModel.deployed(account, MODELS, SLOW)
    for model in MODELS:
        found.put(model, "long.csv", "".join(f"r{number}\n" for number in range(RECORDS - 20)))
        for number in range(20):
            found.put(model, f"short-{number}.csv", f"s{number}\n")
    return found


@contextmanager
def process(batch: MultiModel, plan: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that is ready to do the shard once it gets a line."""
    with subprocess.Popen(
        [*(sys.executable, "-m", "tests.batch.killed_shard"), batch.name, plan, f"--at-once={AT_ONCE}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
    ) as found:
        try:
            assert said(found) == READY
            yield found
        finally:
            found.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next word that is no line of the log."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() in (READY, FINISHED, FENCED_OFF):
            return line.strip()
    return "nothing"


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_for_more(batch: MultiModel, count: int, process: subprocess.Popen[str]) -> None:
    """Return when so many more payloads were invoked."""
    wanted, until = len(batch.invocations()) + count, time.monotonic() + 60
    while len(batch.invocations()) < wanted:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until, f"nothing more was invoked: {wanted} were waited for"
        time.sleep(0.01)


def check(batch: MultiModel) -> None:
    """Every record is in an output once, in order."""
    for model in MODELS:
        wanted = "".join(f"{model}/r{number}\n" for number in range(RECORDS - 20))
        assert (batch.output(model, "long.csv") or b"").decode() == wanted
        for number in range(20):
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


def test_killed_processes_lose_nothing_and_repeat_only_what_was_not_written_down(batch: MultiModel) -> None:
    chance = random.Random(SEED)  # noqa: S311 - when to kill
    plan = batch.plan()
    allowed = 0
    for _ in range(KILLS):
        with process(batch, plan) as killed:
            go(killed)
            wait_for_more(batch, chance.randint(60, 180), killed)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        time.sleep(0.5)  # what was on its way is carried out
        allowed = len(batch.invocations()) - written(batch, plan)
        assert allowed <= KILLS * 100, "much was answered that was not written down"
    with process(batch, plan) as last:
        go(last)
        assert said(last) == FINISHED
    check(batch)
    repeated = len(batch.invocations()) - len(MODELS) * RECORDS
    assert 0 < repeated <= allowed
    assert journal(batch, plan)[-1].finished


def test_a_process_left_behind_stops_at_its_next_word_and_harms_nothing(batch: MultiModel) -> None:
    plan = batch.plan()
    with process(batch, plan) as orphan:
        go(orphan)
        wait_for_more(batch, 100, orphan)
        orphan.send_signal(signal.SIGSTOP)
        with process(batch, plan) as retry:
            go(retry)
            wait_for_more(batch, 50, retry)
            orphan.send_signal(signal.SIGCONT)
            assert said(orphan) == FENCED_OFF
            assert said(retry) == FINISHED
    check(batch)


def test_an_orphan_that_wakes_when_all_is_done_changes_nothing(batch: MultiModel) -> None:
    plan = batch.plan()
    with process(batch, plan) as orphan:
        go(orphan)
        wait_for_more(batch, 100, orphan)
        orphan.send_signal(signal.SIGSTOP)
        batch.run(plan)
        orphan.send_signal(signal.SIGCONT)
        assert said(orphan) == FENCED_OFF
    check(batch)
    assert journal(batch, plan)[-1].finished
