"""No parameters, within the service model or of wrong types, make an operation fail with a 500.

Generated from botocore's model: minimal, full and odd ones for each operation that is answered, and raw JSON.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from botocore.model import ListShape, MapShape, Shape, StructureShape

from airflow_sm_plugin.local.account import operations
from airflow_sm_plugin.local.protocol.errors import UnknownOperationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, service_model
from airflow_sm_plugin.local.protocol.validation import satisfies
from airflow_sm_plugin.local.server import EmbeddedSageMaker

MODEL = service_model(CONTROL_PLANE)


def is_answered(name: str) -> bool:
    operations.load()
    try:
        return operations.handler_of(name) is not None or name in operations.PASSED_ON
    except UnknownOperationFailure:
        return False


OPERATIONS = sorted(filter(is_answered, MODEL.operation_names))
ROUNDS = 3
TEXTS = [
    "a",
    "a-b",
    "x" * 20,
    "ml.m5.large",
    "arn:aws:sagemaker:us-east-1:123456789012:endpoint/none",
    "arn:aws:iam::123456789012:role/sagemaker",
    "s3://bucket/key",
    "s3://",
    "1",
    "",
    "é",
    "a/b",
    "$",
    "--",
    "\u2028",
]
WRONG: list[Any] = [
    None,
    True,
    1,
    -1.5,
    "",
    "x",
    [],
    {},
    [None],
    [1],
    {"a": 1},
    10**30,
    float("nan"),
    {"Key": None},
]
BODIES: list[Any] = [
    [],
    "x",
    1,
    None,
    {},
    {"": 1},
    {"NextToken": "zz"},
    {"MaxResults": "x"},
    {"SortBy": []},
    {"Tags": [1]},
]
HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sagemaker/aws4_request, SignedHeaders=host, "
    "Signature=0",
    "Content-Type": "application/x-amz-json-1.1",
}


class Generator:
    """Generates a value of a shape.

    :param share: how many optional members are given
    :param wrong: how many values are of another type
    """

    def __init__(self, seed: str, *, share: float, wrong: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._share = share
        self._wrong = wrong

    def value(self, shape: Shape, depth: int = 0) -> Any:  # noqa: ANN401 - JSON
        draw = self._random
        if draw.random() < self._wrong:
            return draw.choice(WRONG)
        if isinstance(shape, StructureShape):
            return {
                name: self.value(member, depth + 1)
                for name, member in shape.members.items()
                if depth < 6 and (name in shape.required_members or draw.random() < self._share)
            }
        if isinstance(shape, ListShape):
            count = max(int(shape.metadata.get("min", 0)), draw.choice([0, 1, 2]))
            return [self.value(shape.member, depth + 1) for _ in range(min(count, 5))]
        if isinstance(shape, MapShape):
            return {
                f"{draw.choice(TEXTS)}": self.value(shape.value, depth + 1)
                for _ in range(draw.choice([0, 2]))
            }
        return self._scalar(shape)

    def _scalar(self, shape: Shape) -> object:
        draw = self._random
        if shape.type_name == "string":
            pattern = shape.metadata.get("pattern")
            fits = [text for text in TEXTS if not pattern or satisfies(text, pattern)]
            return draw.choice(shape.metadata.get("enum") or fits or TEXTS)
        if shape.type_name == "boolean":
            return draw.choice([True, False])
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 10**6)
        return max(least, min(draw.choice([0, 1, 2, 50, 10**6]), most))


def bodies(name: str) -> Iterator[object]:
    shape = MODEL.operation_model(name).input_shape
    yield from BODIES
    for number in range(ROUNDS):
        for share, wrong in ((0.0, 0.0), (0.4, 0.0), (0.9, 0.0), (0.3, 0.15), (0.6, 0.03)):
            if shape is not None:
                yield Generator(f"{name} {number}", share=share, wrong=wrong).value(shape)


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedSageMaker]:
    """Run one that is filled with what the generated calls create."""
    with EmbeddedSageMaker() as embedded:
        yield embedded


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_parameters_make_an_operation_fail(own_server: EmbeddedSageMaker, name: str) -> None:
    headers = {**HEADERS, "X-Amz-Target": f"SageMaker.{name}"}
    with requests.Session() as session:
        for body in bodies(name):
            answer = session.post(own_server.url, data=json.dumps(body), headers=headers, timeout=600)
            assert answer.status_code < 500, (body, answer.text)
            if answer.status_code >= 400:
                error = answer.json()
                assert error["__type"], (body, error)
                assert error.get("message") or error.get("Message"), (body, error)
