"""The example DAGs: all parse, and under Airflow 2.11 the main job runs to its end with ``dag.test()``.

Under Airflow 3 a real scheduler runs it, in ``tests/e2e/test_main_job.py``.

``image_uri`` is not run: its virtualenv comes from a package index. Its function is tested beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import json_of, run_dag
from tests.dags.main_job import (
    DATA_SETS,
    assert_documented_xcoms,
    assert_good_predictions,
    assert_masked_trace_id,
    assert_nothing_left,
    assert_success,
)
from tests.support import Account

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"
ON_AIRFLOW_3 = find_spec("airflow.sdk") is not None
PARSE = """
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 2.11
    from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps({"errors": bag.import_errors, "dags": sorted(bag.dags)}))
"""

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def parsed(airflow_db: None) -> dict[str, Any]:
    """The DAG folder as Airflow parses it, without any AWS."""
    return json_of("-c", PARSE, DAGS)


def test_every_example_parses(parsed: Mapping[str, Any]) -> None:
    """One is for Airflow 3 only: asset watchers are new there."""
    on_3 = {"finished_inferences"}
    everywhere = {
        "after_scores",
        "async_batch",
        "autopilot_to_predictions",
        "demo_endpoint",
        "idle_endpoints",
        "image_uri",
        "multi_model_batch",
        "multi_model_form",
        "score_file",
    }
    broken = {Path(name).stem for name in parsed["errors"]}
    assert broken == (set() if ON_AIRFLOW_3 else on_3), parsed["errors"]
    assert set(parsed["dags"]) == everywhere | (on_3 if ON_AIRFLOW_3 else set())


@pytest.fixture(scope="module")
def main_job(airflow_db: None, module_account: Account) -> dict[str, Any]:
    """The main job, run once by ``dag.test()``: state, tasks, XComs and rendered fields as Airflow stored them."""
    return run_dag(DAGS, "autopilot_to_predictions", url=module_account.url)


@pytest.mark.skipif(ON_AIRFLOW_3, reason="a real scheduler runs it: tests/e2e/test_main_job.py")
def test_the_main_job_does_its_work_and_leaves_nothing(main_job: Mapping[str, Any], account: Account) -> None:
    assert_success(main_job)
    for data_set in DATA_SETS:
        assert_good_predictions(main_job, data_set)
        assert_documented_xcoms(main_job, data_set)
        assert_masked_trace_id(main_job, data_set)
        assert_nothing_left(main_job, data_set, account)
