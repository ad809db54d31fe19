"""Every block of the README does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore import xform_name

from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for block_language, text in BLOCKS if block_language == language]


def test_every_make_target_it_names_exists() -> None:
    named = set(re.findall(r"`?make (\w[\w.-]*)`?", README))
    assert named >= {"demo", "up", "down", "test", "check"}
    for target in named:
        subprocess.run(["/usr/bin/env", "make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_every_file_it_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_every_import_it_names_works() -> None:
    named = re.findall(r"`((?:operators|sensors|hooks|core|callbacks)\.[\w.]+)`", README)
    assert len(named) >= 9
    for path in named:
        module, _, name = path.rpartition(".")
        imported = __import__(f"airflow_sm_plugin.{module}", fromlist=[name])
        assert hasattr(imported, name), path


def test_the_policy_allows_what_the_hooks_call_and_no_more() -> None:
    """The actions are those of the hooks' client calls, and what SageMaker and S3 ask for beside them."""
    (policy,) = blocks("json")
    statements = json.loads(policy)["Statement"]
    allowed = {action for one in statements for action in _listed(one["Action"])}
    rooms = [ROOT / "airflow_sm_plugin" / room for room in ("hooks", "endpoints")]
    source = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    called = set(re.findall(r"client\.(\w+)\(", source)) - {"get_paginator"}
    called |= set(re.findall(r"pages_of\(\s*[\w.]+,\s*\"(\w+)\"", source))
    sagemaker = {
        xform_name(action.partition(":")[2]): action for action in allowed if action.startswith("sagemaker:")
    }
    unused = {action for call, action in sagemaker.items() if call not in called}
    assert unused == {"sagemaker:UpdateEndpointWeightsAndCapacities"}, "Application Auto Scaling asks for it"
    others = {xform_name(action.partition(":")[2]) for action in allowed} - set(sagemaker)
    s3_calls = {"head_object", "get_object", "put_object"}
    assert called - s3_calls - set(sagemaker) - others == set()
    assert {"s3:GetObject", "s3:PutObject", "s3:ListBucket", "iam:PassRole", "iam:GetRole"} < allowed
    (passing,) = (one for one in statements if "iam:PassRole" in _listed(one["Action"]))
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    assert passing["Resource"] != "*"
    # What goes over our own transport.
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "s3:DeleteObject"} < allowed


def _listed(action: str | list[str]) -> list[str]:
    return [action] if isinstance(action, str) else action


def test_the_embedded_sagemaker_starts_with_the_command_it_shows(tmp_path: Path) -> None:
    console = "\n".join(blocks("console"))
    assert "python -m airflow_sm_plugin.local --host 127.0.0.1 --port 4580" in console
    assert re.search(r"^ready http://127\.0\.0\.1:4580$", console, re.MULTILINE)
    with EmbeddedProcess(tmp_path / "log") as embedded:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", embedded.url)


def test_the_output_it_shows_has_the_columns_of_the_demo() -> None:
    from airflow_sm_plugin.local.stack.demo_view import COLUMNS

    shown = next(text for text in blocks("text") if "breast_cancer" in text)
    for heading in COLUMNS.values():
        assert all(word in shown for word in heading.split())


def test_its_dag_runs(airflow_db: None, aws: str, tmp_path: Path) -> None:
    """The DAG runs to its end, word for word, once the bucket, the job and the role that it names are there."""
    (code,) = blocks("python")
    (tmp_path / "churn_scores.py").write_text(code)
    _prepare_what_it_names()
    finished = subprocess.run(
        [Path(sys.executable).with_name("airflow"), "dags", "test", "churn_scores"],
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-5000:]
    s3 = boto3.client("s3")
    (output,) = s3.list_objects_v2(Bucket="my-bucket", Prefix="scores/")["Contents"]
    rows = s3.get_object(Bucket="my-bucket", Key=output["Key"])["Body"].read().decode().split()
    assert [row.split(",")[0] for row in rows] == ["no", "yes"]
    assert all(0 <= float(row.split(",")[1]) <= 1 for row in rows)


def _prepare_what_it_names() -> None:
    s3, iam, sagemaker = boto3.client("s3"), boto3.client("iam"), boto3.client("sagemaker")
    s3.create_bucket(Bucket="my-bucket")
    role = iam.create_role(RoleName="SageMakerRole", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    rows = [f"{calls},{months},{'yes' if calls > 20 else 'no'}" for calls in range(40) for months in range(3)]
    s3.put_object(
        Bucket="my-bucket", Key="train/train.csv", Body="\n".join(["calls,months,churn", *rows]).encode()
    )
    s3.put_object(Bucket="my-bucket", Key="customers.csv", Body=b"3,1\n37,2\n")
    sagemaker.create_auto_ml_job(
        AutoMLJobName="churn",
        RoleArn=role,
        InputDataConfig=[
            {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://my-bucket/train/"}},
                "TargetAttributeName": "churn",
            }
        ],
        OutputDataConfig={"S3OutputPath": "s3://my-bucket/autopilot"},
        AutoMLJobConfig={"CompletionCriteria": {"MaxCandidates": 1}, "Mode": "ENSEMBLING"},
    )
    while True:
        job = sagemaker.describe_auto_ml_job_v2(AutoMLJobName="churn")
        if job["AutoMLJobStatus"] != "InProgress":
            break
        time.sleep(0.1)
    assert job["AutoMLJobStatus"] == "Completed", job.get("FailureReason")
