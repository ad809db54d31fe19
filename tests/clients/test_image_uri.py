"""The example ``dags/image_uri.py``: what its virtual environment runs, in an environment with the SDK it asks for."""

from __future__ import annotations

import ast
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "dags" / "image_uri.py"

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK's own


@pytest.fixture
def tree() -> ast.FunctionDef:
    pytest.importorskip("sagemaker", reason="the SageMaker Python SDK is not installed here")
    (found,) = (
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "find_image"
    )
    return found


@pytest.fixture
def find_image(tree: ast.FunctionDef) -> Callable[..., str]:
    """Return the function alone, without its decorator and its module, as the virtual environment gets it."""
    tree.decorator_list = []
    namespace: dict[str, Any] = {}
    exec(compile(ast.Module([tree], []), str(SOURCE), "exec"), namespace)  # noqa: S102 - our own example
    found: Callable[..., str] = namespace["find_image"]
    return found


@pytest.mark.parametrize(("instance_type", "kind"), [("ml.m5.xlarge", "cpu"), ("ml.g5.xlarge", "gpu")])
def test_it_finds_the_inference_image_of_framework_version_and_instance(
    find_image: Callable[..., str], instance_type: str, kind: str
) -> None:
    uri = find_image("pytorch", "2.3.0", "py311", "us-east-1", instance_type)
    repository, _, tag = uri.partition(":")
    assert repository.endswith(".dkr.ecr.us-east-1.amazonaws.com/pytorch-inference")
    assert tag.startswith(f"2.3.0-{kind}-py311")


def test_the_version_it_asks_for_is_one_that_it_was_tried_with(tree: ast.FunctionDef) -> None:
    (decorator,) = tree.decorator_list
    assert isinstance(decorator, ast.Call)
    (requirements,) = (
        ast.literal_eval(word.value) for word in decorator.keywords if word.arg == "requirements"
    )
    assert requirements == ["sagemaker>=2.250,<3"]
    major, minor = map(int, importlib.metadata.version("sagemaker").split(".")[:2])
    assert (2, 250) <= (major, minor) < (3, 0)
