"""A batch whose process is SIGKILLed again and again: one row for each input, and nothing known as accepted sent twice.

``AIRFLOW_SM_KILL_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_sm_plugin.core.async_ledger import Ledger, Part
from airflow_sm_plugin.core.number_sets import numbers_of
from tests.batch.async_batches import invocations_of, rows_at, upload_inputs
from tests.batch.killed_batch import FENCED_OFF, FINISHED, READY
from tests.support import ECHO, Account, unique

COUNT = 400
KILLS = 3
SEED = int(os.environ.get("AIRFLOW_SM_KILL_SEED", "4"))
ROOT = Path(__file__).parents[2]


class Batch:
    """One batch in an account, run by processes."""

    def __init__(self, account: Account, log: Path, *, resend: bool = False) -> None:
        self.account = account
        self.endpoint = account.deploy(ECHO, asynchronous=True)
        self.owner = unique("owner")
        self._inputs = upload_inputs(account, [f"n{number}" for number in range(COUNT)])
        self._log = log
        self._options = ["--resend"] if resend else []

    @contextmanager
    def process(self, *, rate: float = 100) -> Iterator[subprocess.Popen[str]]:
        """Start a process that is ready to run the batch once it gets a line.

        :param rate: requests a second
        """
        ledgers = f"s3://{self.account.bucket}/ledgers"
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.batch.killed_batch"),
                *(self.endpoint, self._inputs, ledgers, self.owner, f"--rate={rate}", *self._options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == READY
                yield process
            finally:
                process.kill()

    def wait_for_more(self, count: int, process: subprocess.Popen[str]) -> None:
        """Return when the endpoint has accepted so many more."""
        wanted = invocations_of(self.account, self.endpoint) + count
        until = time.monotonic() + 60
        while invocations_of(self.account, self.endpoint) < wanted:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until, f"nothing more was accepted: {wanted} were waited for"
            time.sleep(0.01)

    def ledgers(self) -> dict[int, Ledger]:
        """Return the ledger of each round that has begun."""
        found: dict[int, Ledger] = {}
        prefix = f"ledgers/_batch/{self.owner}/"
        pages = self.account.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.account.bucket, Prefix=prefix
        )
        for key in sorted(one["Key"] for page in pages for one in page.get("Contents", [])):
            match = re.search(r"/plan-000/round-(\d+)/ledger/", key)
            if match:
                part = Part.from_json(self.account.read(f"s3://{self.account.bucket}/{key}"))
                number = int(match[1])
                found[number] = found.get(number, Ledger(COUNT)).after(part)
        return found

    def accepted(self) -> set[tuple[int, int]]:
        """Return round and number of all that the ledgers know as accepted."""
        return {(number, n) for number, ledger in self.ledgers().items() for n in numbers_of(ledger.accepted)}

    def times_invoked(self) -> Counter[tuple[int, int]]:
        """Return how often the endpoint worked on each round and number, once it has worked on all it accepted."""
        accepted = invocations_of(self.account, self.endpoint)
        done = re.compile(
            rf"asynchronous invocation \S+-r(\d+)-(\d{{7}}) of {re.escape(self.endpoint)} (?:completed|failed)"
        )
        until = time.monotonic() + 60
        while len(read := done.findall(self._log.read_text(errors="replace"))) < accepted:
            assert time.monotonic() < until, f"{len(read)} of {accepted} were worked on"
            time.sleep(0.1)
        return Counter((int(round_number), int(number)) for round_number, number in read)

    def check_rows(self) -> None:
        """Hold the report to one row for each input, each with its own output."""
        prefix = f"s3://{self.account.bucket}/ledgers/_batch/{self.owner}/"
        found = self.account.s3.list_objects_v2(
            Bucket=self.account.bucket, Prefix=f"ledgers/_batch/{self.owner}/"
        )
        keys = [one["Key"] for one in found["Contents"] if "/plan-000/rows/" in one["Key"]]
        rows = rows_at(self.account, f"s3://{self.account.bucket}/{keys[0].rpartition('/')[0]}/")
        assert len(keys) == 1, prefix
        assert [row.source for row in rows] == [f"{self._inputs}{n:05d}.txt" for n in range(COUNT)]
        assert {str(row.status) for row in rows} == {"succeeded"}
        for number in (0, COUNT // 2, COUNT - 1):
            assert self.account.read(rows[number].output_location or "") == f"n{number}".encode()


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for the process's end and return its last word; Airflow's log goes before it."""
    said, _ = process.communicate(timeout=120)
    return (said.splitlines() or [""])[-1]


@pytest.mark.parametrize("resend", [False, True], ids=["wait", "resend"])
@pytest.mark.timeout(240)
def test_killed_at_any_moment_it_goes_on_where_it_stood(
    account: Account, embedded_log: Path, resend: bool
) -> None:
    batch = Batch(account, embedded_log, resend=resend)
    moments = random.Random(SEED)  # noqa: S311 - moments of a test
    known: set[tuple[int, int]] = set()
    in_doubt = 0
    for _ in range(KILLS):
        with batch.process() as process:
            start(process)
            batch.wait_for_more(moments.randint(60, 120), process)
        known |= batch.accepted()
        in_doubt += sum(ledger.doubtful.bit_count() for ledger in batch.ledgers().values())
    with batch.process() as process:
        start(process)
        assert ended(process) == FINISHED
    batch.check_rows()
    times = batch.times_invoked()
    assert known, "no kill came after an acceptance was written down"
    assert in_doubt, "no kill left a doubt"
    assert all(times[one] == 1 for one in known), "what the ledger knew was sent again"
    if not resend:
        assert set(times.values()) == {1}, "something was sent twice"


@pytest.mark.timeout(240)
def test_of_two_processes_the_later_one_goes_on_and_the_other_stops(
    account: Account, embedded_log: Path
) -> None:
    batch = Batch(account, embedded_log)
    # At its rate the orphan needs half a minute, so it is still sending however slowly the retry comes up.
    with batch.process(rate=5) as orphan, batch.process() as retry:
        start(orphan)
        batch.wait_for_more(5, orphan)
        start(retry)
        assert ended(orphan) == FENCED_OFF
        assert ended(retry) == FINISHED
    batch.check_rows()
    assert set(batch.times_invoked().values()) == {1}
