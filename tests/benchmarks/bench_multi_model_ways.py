"""Records through a multi-model endpoint: ours beside boto3 in threads and aiobotocore: ``make bench``.

All ways do the same job against the same server in one run (:mod:`tests.benchmarks.batch_ways`); the outputs are
compared byte by byte. CPU is the client's process, and solid; rates are the machine's. Quote the ratios. The client's
and the stub's shares of a core tell which of them was the limit; where the client waited for a core, the machine's
other work was. Goals are in brackets.
"""

from __future__ import annotations

from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import AIOHTTP_ONLY, Took, batch, median, setting
from tests.benchmarks.report import Report, table
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

MODELS = 20
RECORDS = setting("RECORDS", 20_000)
ROUNDS = setting("ROUNDS", 3)
LATENCIES = ((0.1, 256), (0.02, 64))
LATENCY_SECONDS = setting("LATENCY_SECONDS", 30)
"""Start and end take up to a second: a thirtieth, where the goal leaves a twentieth for everything."""

THROTTLED = 0.05
THROTTLED_SECONDS = setting("THROTTLED_SECONDS", 8)
THROTTLED_RUNS = setting("THROTTLED_RUNS", 5)
AT_ONCE = EndpointSettings()
BOTO3, AIOBOTOCORE = "boto3, 64 threads", "aiobotocore"
GOALS = {  # of boto3's CPU, of aiobotocore's
    "ours": (" (>= 9)", " (>= 6)"),
    AIOHTTP_ONLY: (" (>= 4)", ""),
}


def _job(name: str, records: int = RECORDS, *, in_flight: int = 64, max_records: int | None = None) -> Job:
    return Job(
        name=name, models=MODELS, records=records // MODELS, in_flight=in_flight, max_records=max_records
    )


def test_cpu_of_a_record(endpoint: StubServer, report: Report) -> None:
    """Push the same records through an endpoint that answers at once."""
    fewer = RECORDS // 4  # with their clients made before, these ways have no start that records would share
    ways = {
        BOTO3: ("boto3, threads", _job("cpu", fewer)),
        "boto3, 16 threads": ("boto3, threads", _job("cpu", fewer, in_flight=16)),
        AIOBOTOCORE: (AIOBOTOCORE, _job("cpu", fewer)),
        AIOHTTP_ONLY: (AIOHTTP_ONLY, _job("cpu")),
        "ours": ("ours", _job("cpu")),
    }
    found: dict[str, list[Took]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (way, job) in ways.items():
            found[name].append(batch(endpoint, way, job, AT_ONCE, report))
    took = {name: median(each) for name, each in found.items()}
    rows = []
    for name, each in took.items():
        cpu = each.cpu_milliseconds
        of_boto3, of_aiobotocore = GOALS.get(name, ("", ""))
        rows.append(
            [
                name,
                f"{cpu:.3f}{' (<= 0.115)' if name == 'ours' else ''}",
                f"{took[BOTO3].cpu_milliseconds / cpu:.1f}{of_boto3}",
                f"{took[AIOBOTOCORE].cpu_milliseconds / cpu:.1f}{of_aiobotocore}",
                f"{each.rate:,.0f}",
                each.client_share,
                each.stub_share,
                f"{each.lost}",
            ]
        )
    head = (
        "way",
        "CPU ms a record",
        "times boto3's 64 threads",
        "times aiobotocore",
        "records per s",
        "client",
        "stub's CPU",
        "lost",
    )
    report.show(table(head, rows))
    assert not any(each.lost for each in took.values())


def test_share_of_the_possible(endpoint: StubServer, report: Report) -> None:
    """Have an endpoint that takes its time; the whole run counts, its start and end too."""
    rows: list[list[str]] = []
    lost = 0
    for latency, in_flight in LATENCIES:
        possible = in_flight / latency
        for way, seconds in (
            ("boto3, threads", LATENCY_SECONDS // 4),
            ("ours", LATENCY_SECONDS),
        ):
            job = _job("share", round(possible * seconds), in_flight=in_flight)
            took = batch(endpoint, way, job, EndpointSettings(latency=latency), report)
            lost += took.lost
            rows.append(
                [
                    _endpoint(latency, in_flight),
                    way,
                    f"{took.rate:,.0f}",
                    f"{took.rate / possible:.1%}{' (>= 95 %)' if way == 'ours' else ''}",
                    f"{took.latency * 1_000:.2f}",
                    f"{took.rate * took.latency / in_flight:.1%}",
                    f"{took.cpu_milliseconds:.3f}",
                    took.client_share,
                    took.stub_share,
                    f"{took.lost}",
                ]
            )
    head = (
        "endpoint",
        "way",
        "records per s",
        "of the possible",
        "ms by the endpoint's clock",
        "of what that permits",
        "CPU ms a record",
        "client",
        "stub's CPU",
        "lost",
    )
    report.show(table(head, rows))
    assert not lost


def _endpoint(latency: float, in_flight: int) -> str:
    return f"{latency * 1_000:.0f} ms x {in_flight}"


def test_share_of_the_clean_rate(endpoint: StubServer, report: Report) -> None:
    """Refuse some of the calls with 429, several times, between two runs without a refusal."""
    rows: list[list[str]] = []
    lost = 0
    for latency, in_flight in LATENCIES:
        job = _job("throttled", round(in_flight / latency * THROTTLED_SECONDS), in_flight=in_flight)
        clean = EndpointSettings(latency=latency)
        refusing = EndpointSettings(latency=latency, throttled=THROTTLED)
        tooks = [
            batch(endpoint, "ours", job, behaviour, report)
            for behaviour in (clean, *[refusing] * THROTTLED_RUNS, clean)
        ]
        lost += sum(took.lost for took in tooks)
        first, *throttled, last = tooks
        rate = (first.rate + last.rate) / 2
        shares = [took.rate / rate for took in throttled]
        rows.append(
            [
                _endpoint(latency, in_flight),
                f"{first.rate:,.0f}, {last.rate:,.0f}",
                ", ".join(f"{share:.1%}" for share in shares),
                f"{min(shares):.1%} (>= 92 %)",
                median(throttled).stub_share,
            ]
        )
    head = ("endpoint", "clean records per s, before and after", "of the clean rate", "least", "stub's CPU")
    report.show(f"{THROTTLED:.0%} of the calls refused with 429\n", table(head, rows))
    assert not lost


def test_multi_record(endpoint: StubServer, report: Report) -> None:
    """Send a hundred records in a payload beside one by one, at once and with 20 ms."""
    rows: list[list[str]] = []
    lost = 0
    for latency in (0.0, 0.02):
        rate = 0.0
        for max_records in (None, 100) if latency else (None, 10, 100, 1_000):
            records = RECORDS if max_records is None else 10 * RECORDS
            job = _job("multi", records, max_records=max_records)
            took = batch(endpoint, "ours", job, EndpointSettings(latency=latency), report)
            lost += took.lost
            rate = rate or took.rate
            rows.append(
                [
                    f"{latency * 1_000:.0f} ms",
                    "SingleRecord" if max_records is None else f"MultiRecord, {max_records}",
                    f"{took.rate:,.0f}",
                    f"{took.rate / rate:.1f}{' (>= 20)' if max_records == 100 and not latency else ''}",
                    f"{took.cpu_milliseconds:.4f}",
                    took.stub_share,
                ]
            )
    head = (
        "endpoint",
        "payloads",
        "records per s",
        "times SingleRecord",
        "CPU ms a record",
        "stub's CPU",
    )
    report.show(table(head, rows))
    assert not lost
