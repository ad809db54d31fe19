"""The documentation's pages are complete and in plain English, and their examples run.

Links and snippets are checked by ``make docs``.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import boto3
import pytest
from botocore import xform_name

from airflow_sm_plugin import exceptions
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.iam import __main__ as iam_command
from airflow_sm_plugin.iam.features import FEATURES
from tests.docs import example_responses
from tests.docs.plain_english import mean_length, sentences
from tests.support import archive

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
]
README = (ROOT / "README.md").read_text()
LONGEST_MEAN = 17
MOST_SEMICOLONS = 1

MODEL = """
def model_fn(model_dir):
    return 2.0

def predict_fn(rows, model):
    return rows * model
"""


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_airflow(*arguments: str, dags: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    command = [str(Path(sys.executable).with_name("airflow")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_sentences_are_short(path: Path) -> None:
    page = path.read_text()
    assert mean_length(page) < LONGEST_MEAN
    assert [text for text in sentences(page) if text.count(";") > MOST_SEMICOLONS] == []


def test_sentences_are_counted_without_code_and_tables() -> None:
    page = (
        "# A b c d\n\nOne two `a b` three. Four five six:\n```\nno no no\n```\n| no no no |\n- x y z e.g. w\n"
    )
    assert list(sentences(page)) == ["One two x three.", "Four five six:", "x y z e.g w"]
    assert mean_length(page) == pytest.approx(4)


def test_every_error_class_is_in_troubleshooting_once() -> None:
    generated = loaded(DOCS / "error_classes.py")
    assert (DOCS / "troubleshooting.md").read_text().count(generated.MARK) == 1
    assert set(generated.GROUPS) == {kind.__name__ for kind in SageMakerInferenceError.__subclasses__()}
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (yes|no) \|$", generated.page(), re.MULTILINE)
    classes = {
        name: kind
        for name, kind in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(kind, SageMakerInferenceError) and kind is not SageMakerInferenceError
    }
    assert sorted(name for name, _, _ in rows) == sorted(classes)
    for name, meaning, retried in rows:
        assert (retried == "yes") == classes[name].retryable, name
        assert " ".join((inspect.getdoc(classes[name]) or "").split()).replace("``", "`") in meaning


def test_the_reference_has_every_public_name() -> None:
    named = set(re.findall(r"`((?:operators|sensors|hooks|core|callbacks|task_groups)\.[\w.]+)`", README))
    assert len(named) >= 16
    reference = "".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r":: airflow_sm_plugin\.([\w.]+)", reference))
    assert named <= documented
    for name in documented - {"exceptions"}:
        module, _, attribute = name.rpartition(".")
        assert getattr(__import__(f"airflow_sm_plugin.{module}", fromlist=[attribute]), attribute).__doc__


def test_every_combination_of_response_keys_has_its_answer() -> None:
    rows = example_responses.listed((DOCS / "response-keys.md").read_text()).splitlines()[2:]
    beginnings = list(example_responses.combinations().values())
    assert len(rows) == len(beginnings), "run `make example-responses`"
    for row, beginning in zip(rows, beginnings, strict=True):
        assert row.startswith(beginning)
        assert len([cell for cell in row.removeprefix(beginning).split(" | ") if len(cell) > 2]) == 2


def test_the_policies_of_the_page_are_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "iam.md").read_text()
    examples = re.findall(
        r"^```console\n\$ python -m airflow_sm_plugin\.iam (.*)\n([\s\S]*?)^```$", page, re.MULTILINE
    )
    assert len(examples) == 2
    for command, shown in examples:
        assert iam_command.main(shlex.split(command)) == 0
        out, remarks = capsys.readouterr()
        assert shown in (out, out + remarks)
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (yes)? ?\| (yes)? ?\|$", page, re.MULTILINE)
    assert rows == [
        (name, feature.about, "yes" if feature.task else "", "yes" if feature.execution else "")
        for name, feature in FEATURES.items()
    ]


def test_every_call_of_a_hook_is_in_a_feature() -> None:
    rooms = [ROOT / "airflow_sm_plugin" / room for room in ("hooks", "endpoints")]
    source = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    called = set(re.findall(r"client\.(\w+)\(", source)) - {"get_paginator"}
    called |= set(re.findall(r"pages_of\(\s*[\w.]+,\s*\"(\w+)\"", source))
    granted = {
        xform_name(action.partition(":")[2])
        for feature in FEATURES.values()
        for grant in feature.task
        for action in grant.actions
    }
    # GetObject permits HeadObject; the older DescribeAutoMLJob is called only where the newer one is denied.
    assert called - granted == {"head_object", "describe_auto_ml_job"}


def test_issue_forms_are_valid() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [path for path in sorted(folder.glob("*.yml")) if path.stem != "config"]
    assert len(forms) == 3
    check = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema"]
    for schema, files in (("github-issue-forms", forms), ("github-issue-config", [folder / "config.yml"])):
        finished = subprocess.run(
            [*check, f"vendor.{schema}", *map(str, files)], capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout


@pytest.mark.slow
def test_the_asynchronous_example_runs(airflow_db: None, aws: str, tmp_path: Path) -> None:
    """The DAG that the guides' snippets come from, once its bucket holds a model and inputs."""
    (tmp_path / "asynchronous.py").write_text((DOCS / "examples" / "asynchronous.py").read_text())
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="my-bucket")
    s3.put_object(Bucket="my-bucket", Key="model.tar.gz", Body=archive({"code/inference.py": MODEL}))
    for number, name in enumerate(("north", "south", "west")):
        s3.put_object(Bucket="my-bucket", Key=f"inputs/{name}.csv", Body=f"{number},2\n3,4\n".encode())
    finished = run_airflow("dags", "test", "asynchronous", dags=tmp_path)
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-5000:]
    outputs = s3.list_objects_v2(Bucket="my-bucket", Prefix="outputs/")["Contents"]
    bodies = {s3.get_object(Bucket="my-bucket", Key=one["Key"])["Body"].read().split()[0] for one in outputs}
    assert bodies >= {b"0.0,4.0", b"2.0,4.0", b"4.0,4.0"}
    endpoints = boto3.client("sagemaker").list_endpoints(NameContains="asynchronous")["Endpoints"]
    assert endpoints == []
