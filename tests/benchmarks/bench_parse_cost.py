"""A DAG file's cost at every parse, beside the Amazon provider's operators: ``make bench``.

Each file is parsed in a process that has imported Airflow already, as the dag processor's forks have. The figures are
medians of one run on one machine; quote the ratios.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.report import Report, table

OURS = """
from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
"""
PROVIDERS = "from airflow.providers.amazon.aws.operators.sagemaker import SageMakerModelOperator\n"
PLAIN = "from airflow.providers.standard.operators.empty import EmptyOperator\n"
MEASURE = """
import json, re, sys, time
from airflow.sdk import BaseOperator, DAG
def peak():
    return int(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
kilobytes, cpu, wall = peak(), time.process_time(), time.perf_counter()
exec(sys.stdin.read())
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({"cpu": cpu, "wall": wall, "kilobytes": peak() - kilobytes}))
"""
RUNS = 5


def _measured(code: str, bytecode: Path) -> dict[str, float]:
    """Return the medians of runs with bytecode at hand, as an installed package has it; the first run writes it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    runs = []
    for _ in range(RUNS + 1):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE],
            input=code,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    del runs[0]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def test_parse_cost(report: Report, tmp_path: Path) -> None:
    """Measure the imports of a DAG file with our operators, with the provider's, and with none of either."""
    results = {"plain operators": PLAIN, "ours": OURS, "the provider's": PROVIDERS}
    measured = {name: _measured(code, tmp_path) for name, code in results.items()}
    rows = [
        [name, f"{cost['cpu']:.3f}", f"{cost['wall']:.3f}", f"{cost['kilobytes'] / 1024:.1f}"]
        for name, cost in measured.items()
    ]
    ratio = measured["the provider's"]["cpu"] / measured["ours"]["cpu"]
    head = ("imports of a DAG file", "CPU s", "wall s", "memory MB")
    report.show(table(head, rows), f"the provider's / ours, CPU: {ratio:.1f}\n")
    assert all(cost["wall"] > 0 for cost in measured.values())
