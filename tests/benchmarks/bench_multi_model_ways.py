"""Records through a multi-model endpoint: ours beside boto3 in threads and aiobotocore: ``make bench``.

All ways do the same job against the same server in one run (:mod:`tests.benchmarks.batch_ways`); the outputs are
compared byte by byte. CPU is the client's process, and solid; rates are the machine's. Quote the ratios.
"""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.client_cost import table
from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import Took, batch, load, median, setting
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

MODELS = 20
RECORDS = setting("RECORDS", 20_000)
ROUNDS = setting("ROUNDS", 3)
LATENCIES = ((0.1, 256), (0.02, 64))
LATENCY_SECONDS = setting("LATENCY_SECONDS", 20)
AT_ONCE = EndpointSettings()


def _say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}{load()}\n")


def _job(name: str, records: int = RECORDS, *, in_flight: int = 64, max_records: int | None = None) -> Job:
    return Job(
        name=name, models=MODELS, records=records // MODELS, in_flight=in_flight, max_records=max_records
    )


def test_cpu_of_a_record(endpoint: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Push the same records through an endpoint that answers at once."""
    fewer = RECORDS // 4  # a start costs these ways next to nothing, a record much
    ways = {
        "boto3, 64 threads": ("boto3, threads", _job("cpu", fewer)),
        "boto3, 16 threads": ("boto3, threads", _job("cpu", fewer, in_flight=16)),
        "aiobotocore": ("aiobotocore", _job("cpu", fewer)),
        "ours, botocore's signer": ("ours, botocore's signer", _job("cpu")),
        "ours": ("ours", _job("cpu")),
    }
    found: dict[str, list[Took]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (way, job) in ways.items():
            found[name].append(batch(endpoint, way, job, AT_ONCE))
    took = {name: median(each) for name, each in found.items()}
    first = took["boto3, 64 threads"]
    rows = [
        [
            name,
            f"{each.cpu_milliseconds:.3f}",
            f"{first.cpu_milliseconds / each.cpu_milliseconds:.1f}",
            f"{each.rate:,.0f}",
            f"{each.lost}",
        ]
        for name, each in took.items()
    ]
    head = ("way", "CPU ms a record", "times boto3's 64 threads", "records per s", "lost")
    _say(capsys, table(head, rows))
    assert not any(each.lost for each in took.values())


def test_share_of_the_possible(endpoint: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Have an endpoint that takes its time, and one that throttles; the whole run counts, its start and end too."""
    rows: list[list[str]] = []
    lost = 0
    for latency, in_flight in LATENCIES:
        possible = in_flight / latency
        clean = 0.0
        for way, throttled, seconds in (
            ("boto3, threads", 0.0, LATENCY_SECONDS // 4),
            ("ours", 0.0, LATENCY_SECONDS),
            ("ours", 0.05, LATENCY_SECONDS),
        ):
            job = _job("share", round(possible * seconds), in_flight=in_flight)
            took = batch(endpoint, way, job, EndpointSettings(latency=latency, throttled=throttled))
            lost += took.lost
            rows.append(
                [
                    f"{latency * 1_000:.0f} ms x {in_flight}",
                    f"{way}{', 5 % of answers 429' if throttled else ''}",
                    f"{took.rate:,.0f}",
                    f"{took.rate / possible:.0%}",
                    f"{took.rate * took.latency / in_flight:.0%}",
                    f"{took.cpu_milliseconds:.3f}",
                    f"{took.rate / clean:.0%}" if throttled else "",
                    f"{took.lost}",
                ]
            )
            clean = took.rate
    head = (
        "endpoint",
        "way",
        "records per s",
        "of the possible",
        "of what its own clock allows",
        "CPU ms a record",
        "of the clean rate",
        "lost",
    )
    _say(capsys, table(head, rows))
    assert not lost


def test_multi_record(endpoint: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Send a hundred records in a payload beside one by one, at once and with 20 ms."""
    rows: list[list[str]] = []
    lost = 0
    for latency in (0.0, 0.02):
        rate = 0.0
        for max_records in (None, 10, 100, 1_000):
            records = RECORDS if max_records is None else 10 * RECORDS
            took = batch(
                endpoint,
                "ours",
                _job("multi", records, max_records=max_records),
                EndpointSettings(latency=latency),
            )
            lost += took.lost
            rate = rate or took.rate
            rows.append(
                [
                    f"{latency * 1_000:.0f} ms",
                    "SingleRecord" if max_records is None else f"MultiRecord, {max_records}",
                    f"{took.rate:,.0f}",
                    f"{took.rate / rate:.1f}",
                    f"{took.cpu_milliseconds:.4f}",
                ]
            )
    head = ("endpoint", "payloads", "records per s", "times SingleRecord", "CPU ms a record")
    _say(capsys, table(head, rows))
    assert not lost
