"""The example ``dags/image_uri.py`` as Airflow reads it; what it runs is tested where the SageMaker SDK is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dags.conftest import json_of

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parents[2] / "dags"
READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 2.11
    from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1] + "/image_uri.py")
found = bag.dags["image_uri"]
find, create = found.get_task("find_image"), found.get_task("create_model")
print(json.dumps({
    "errors": bag.import_errors,
    "kind": type(find).__mro__[2].__name__ + type(find).__name__,
    "requirements": find.requirements,
    "upstream": sorted(create.upstream_task_ids),
    "params": sorted(found.params),
    "modules": sorted(name for name in sys.modules if name.split(".")[0] in ("sagemaker", "boto3")),
}))
"""


def test_it_finds_the_image_in_an_environment_of_its_own_and_hands_it_to_the_model(airflow_db: None) -> None:
    found = json_of("-c", READ, DAGS)
    assert found["errors"] == {}
    assert "Virtualenv" in found["kind"]
    assert found["requirements"] == ["sagemaker>=2.250,<3"]
    assert found["upstream"] == ["find_image"]
    assert {"framework", "version", "model_data_url", "execution_role"} < set(found["params"])


def test_it_is_short() -> None:
    assert len((DAGS / "image_uri.py").read_text().splitlines()) <= 80
