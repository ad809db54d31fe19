"""A sensor to test, in the two modes that one test process can run to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.stubs.s3 import QUICK, StubS3, fixed, stub_s3, use
from tests.support import run_task

OUTPUT, FAILURE = "s3://results/one.out", "s3://failures/one-error.out"
INVOCATION = {"output_location": OUTPUT, "failure_location": FAILURE, "input_location": "s3://inputs/one.csv"}


def sensor(**arguments: Any) -> SageMakerAsyncInferenceSensor:  # noqa: ANN401 - the sensor's own
    """Make a sensor that polls often and gives each poll little time."""
    defaults: dict[str, Any] = {
        "task_id": "wait",
        "poke_interval": 0.01,
        "aws_conn_id": None,
        "botocore_config": QUICK,
    }
    return SageMakerAsyncInferenceSensor(**defaults | arguments)


@pytest.fixture(params=["poke", "deferrable"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a sensor of the given arguments to its end, blocking a worker or deferred."""

    def to_its_end(**arguments: Any) -> Any:  # noqa: ANN401 - a location or a list of them
        return run_task(lambda: sensor(deferrable=request.param == "deferrable", **arguments))

    return to_its_end


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubS3]:
    """An S3 whose answers the test decides; nothing exists in it yet."""
    with stub_s3(fixed({})) as stub:
        use(monkeypatch, stub.url)
        yield stub


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was logged so far: Airflow 3's task logger writes to stdout, Airflow 2's through logging."""
    return lambda: caplog.text + "".join(capfd.readouterr())
