"""Sixty stores with a small model each, for the multi-model examples: train, upload to S3, compare. Not a DAG.

The data set is scikit-learn's digits: 1,797 scanned digits of 64 pixels. A store gets every sixtieth row to be scored;
its model has learned from all the other stores' rows.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from demo_data import aws, create_bucket_and_role

INFERENCE = """
import json, pathlib

def model_fn(model_dir):
    return json.loads(pathlib.Path(model_dir, "model.json").read_text())

def transform_fn(model, data, content_type, accept):
    answers = []
    for line in data.split():
        pixels = [float(value) for value in line.split(",")]
        scores = [
            intercept + sum(weight * pixel for weight, pixel in zip(weights, pixels))
            for weights, intercept in zip(model["weights"], model["intercepts"])
        ]
        answers.append(f"{scores.index(max(scores))},{max(scores):.3f}")
    return "\\n".join(answers), accept
"""
"""What each model's container runs: class and score of each row, in plain Python."""


def upload_data(bucket: str, role: str, prefix: str, stores: int) -> dict[str, str]:
    """Train a model for each store; put models, rows to score, by Hive partition, and labels into S3."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier

    create_bucket_and_role(bucket, role)
    pixels, digits = load_digits(return_X_y=True)
    objects: dict[str, bytes] = {}
    labels: dict[str, list[int]] = {}
    for store in range(stores):
        name, others = f"{store:03d}", [row for row in range(len(digits)) if row % stores != store]
        learned = RidgeClassifier().fit(pixels[others], digits[others])
        table = [",".join(f"{value:g}" for value in row) for row in pixels[store::stores]]
        objects[f"models/store-{name}.tar.gz"] = _archive(learned)
        objects[f"inputs/store_id={name}/day.csv"] = ("\n".join(table) + "\n").encode()
        labels[name] = digits[store::stores].tolist()
    objects["labels.json"] = json.dumps(labels).encode()
    s3 = aws("s3")
    for key, body in objects.items():
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=body)
    locations = {"models": "models/", "inputs": "inputs/", "labels": "labels.json"}
    return {name: f"s3://{bucket}/{prefix}/{location}" for name, location in locations.items()}


def report(batch: dict[str, Any], labels: str) -> dict[str, Any]:
    """Compare the predictions with the labels; summarize the batch."""
    s3 = aws("s3")
    right = total = 0
    for store, digits in json.loads(_read(s3, labels)).items():
        lines = _read(s3, f"{batch['outputs']}/store_id={store}/day.csv.out").splitlines()
        predicted = [int(line.split(",")[0]) for line in lines]
        right += sum(a == b for a, b in zip(predicted, digits, strict=True))
        total += len(digits)
    if total != batch["records"]:
        raise ValueError(f"{total} records were to be scored, the report says {batch['records']}")
    return {
        **{name: batch[name] for name in ("models", "inputs", "records", "failed")},
        "accuracy": round(right / total, 4),
        "records_per_second": round(batch["records"] / batch["seconds"]),
        "report": f"{batch['outputs']}/report.html",
    }


def _read(s3: Any, location: str) -> str:  # noqa: ANN401 - a boto3 client
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return str(s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def _archive(learned: Any) -> bytes:  # noqa: ANN401 - scikit-learn has no types
    model = {"weights": learned.coef_.round(6).tolist(), "intercepts": learned.intercept_.round(6).tolist()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for name, text in (("code/inference.py", INFERENCE), ("model.json", json.dumps(model))):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
