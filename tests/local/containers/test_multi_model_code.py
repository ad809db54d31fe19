"""The code of many archives in one process: each imports its own modules, however it imports them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from airflow_sm_plugin.local.serving.handlers import ContainerAnswer
from airflow_sm_plugin.local.serving.hosted import HostedModels

IMPORTS = """
import helper
import parts.inner as inner
from parts import WORD as of_package
from parts.inner import OUTER

def model_fn(model_dir):
    return helper.Thing()

def transform_fn(model, data, content_type, accept):
    import importlib, pickle, late
    by_name = importlib.import_module("helper").WORD
    below = importlib.import_module("parts.inner").OUTER
    unpickled = pickle._loads(b"chelper\\nThing\\n)R.")
    words = [helper.WORD, of_package, OUTER, inner.OUTER, by_name, below, late.WORD, model.word, unpickled.word]
    return ",".join(words)
"""


@pytest.fixture
def hosted() -> HostedModels:
    return HostedModels({})


def put(folder: Path, files: Mapping[str, str]) -> str:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(folder)


def load(hosted: HostedModels, name: str, url: str) -> ContainerAnswer:
    return hosted.respond("POST", "/models", json.dumps({"model_name": name, "url": url}).encode(), {})


def ask(hosted: HostedModels, name: str) -> str:
    answer = hosted.respond("POST", f"/models/{name}/invoke", b"x", {})
    assert answer.status == 200, answer.body
    return answer.body.decode()


def archive(word: str) -> dict[str, str]:
    """An archive whose modules, of the same names in each, all know its word."""
    return {
        "code/inference.py": IMPORTS,
        "code/helper.py": f"WORD = '{word}'\nclass Thing: word = WORD",
        "code/late.py": "from helper import WORD",
        "code/parts/__init__.py": f"WORD = '{word}'",
        "code/parts/inner.py": "from . import WORD as OUTER",
        "code/json.py": "1/0",
    }


def test_modules_of_the_same_name_are_each_archives_own(hosted: HostedModels, tmp_path: Path) -> None:
    """Imported early or late, as module or from a package, by a statement, by name or by pickle."""
    for word in ("one", "two", "three"):
        assert load(hosted, word, put(tmp_path / word, archive(word))).status == 200
    for word in ("three", "one", "two", "one"):
        assert set(ask(hosted, word).split(",")) == {word}


def test_installed_packages_and_the_standard_library_are_shared(hosted: HostedModels, tmp_path: Path) -> None:
    code = """
import json, waitress
def model_fn(model_dir): return str(id(json)), str(id(waitress))
def transform_fn(model, data, content_type, accept): return ",".join(model)
"""
    for name in ("a", "b"):
        load(hosted, name, put(tmp_path / name, {"code/inference.py": code}))
    assert ask(hosted, "a") == ask(hosted, "b") == f"{id(json)},{id(sys.modules['waitress'])}"


def test_a_module_that_one_archive_has_and_another_has_not(hosted: HostedModels, tmp_path: Path) -> None:
    code = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    try:
        import only_here
    except ImportError:
        return "none"
    return only_here.WORD
"""
    load(
        hosted,
        "with",
        put(tmp_path / "with", {"code/inference.py": code, "code/only_here.py": "WORD = 'here'"}),
    )
    load(hosted, "without", put(tmp_path / "without", {"code/inference.py": code}))
    assert (ask(hosted, "with"), ask(hosted, "without")) == ("here", "none")


def test_an_unloaded_model_leaves_no_module_and_is_freed(hosted: HostedModels, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    code = f"""
class Model:
    def __del__(self): open({str(gone)!r}, "w").close()
def model_fn(model_dir): return Model()
def transform_fn(model, data, content_type, accept): return "x"
"""
    before = set(sys.modules)
    load(hosted, "m", put(tmp_path / "m", {"code/inference.py": code}))
    assert hosted.respond("GET", "/models/m", b"", {}).status == 200
    assert hosted.respond("DELETE", "/models/m", b"", {}).status == 200
    assert gone.exists()
    assert {name for name in set(sys.modules) - before if name.startswith("sagemaker_model_")} == set()
    assert not [path for path in sys.path_importer_cache if path.startswith(str(tmp_path))]


def test_the_contract_of_multi_model_containers(hosted: HostedModels, tmp_path: Path) -> None:
    good = put(
        tmp_path / "good",
        {"code/inference.py": "def model_fn(d): pass\ndef transform_fn(m, d, c, a): return d"},
    )
    bad = put(tmp_path / "bad", {"code/inference.py": "def model_fn(d): raise OSError('broken')"})
    full = put(tmp_path / "full", {"code/inference.py": "def model_fn(d): raise MemoryError"})
    statuses = [
        load(hosted, "m", good).status,
        load(hosted, "m", good).status,
        load(hosted, "bad", bad).status,
        load(hosted, "full", full).status,
        hosted.respond("POST", "/models", b"[]", {}).status,
        hosted.respond("POST", "/models/missing/invoke", b"", {}).status,
        hosted.respond("GET", "/models/missing", b"", {}).status,
        hosted.respond("DELETE", "/models/missing", b"", {}).status,
        hosted.respond("GET", "/elsewhere", b"", {}).status,
    ]
    assert statuses == [200, 409, 500, 507, 400, 404, 404, 404, 404]
    listed = {"models": [{"modelName": "m", "modelUrl": good}]}
    assert json.loads(hosted.respond("GET", "/models", b"", {}).body) == listed
    assert json.loads(hosted.respond("GET", "/models/m", b"", {}).body) == listed["models"][0]
    assert hosted.respond("DELETE", "/models/m", b"", {}).status == 200
    assert json.loads(hosted.respond("GET", "/models", b"", {}).body) == {"models": []}
