"""What the README says, and shows, is so; its DAG runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EMBEDDED = (ROOT / "docs" / "embedded-sagemaker.md").read_text()
OFFLINE = (ROOT / "docs" / "offline.md").read_text()
EXAMPLE = ROOT / "docs" / "examples" / "test_first_model.py"


def blocks(language: str, page: str = README) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [text for block_language, text in found if block_language == language]


def test_every_make_target_it_names_exists() -> None:
    named = set(re.findall(r"`?make (\w[\w.-]*)`?", README))
    assert named >= {"demo", "demo-batch", "up", "down", "docs"}
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


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
    (code,) = blocks("python")
    assert max(map(len, code.splitlines())) <= 96


def test_its_picture_is_small() -> None:
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", README)
    content = (ROOT / picture).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 200_000


def test_the_embedded_sagemaker_starts_with_the_command_of_its_page(tmp_path: Path) -> None:
    console = "\n".join(blocks("console", EMBEDDED))
    assert "python -m airflow_sm_plugin.local --host 127.0.0.1 --port 4580" in console
    assert re.search(r"^ready http://127\.0\.0\.1:4580$", console, re.MULTILINE)
    with EmbeddedProcess(tmp_path / "log") as embedded:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", embedded.url)


def test_the_output_that_is_shown_has_the_columns_of_the_demo() -> None:
    from airflow_sm_plugin.local.stack.demo_view import COLUMNS

    shown = next(text for text in blocks("text", OFFLINE) if "breast_cancer" in text)
    for heading in COLUMNS.values():
        assert all(word in shown for word in heading.split())


def test_its_dag_and_the_example_of_a_test_run(tmp_path: Path) -> None:
    """The README's DAG, word for word, under the test file that the documentation shows, with the shipped fixture."""
    (code,) = blocks("python")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "first_model.py").write_text(code)
    (tmp_path / "test_first_model.py").write_text(EXAMPLE.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", str(tmp_path)],
        cwd=tmp_path,
        env={**_outside(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in finished.stdout, finished.stdout[-5000:] + finished.stderr[-5000:]


def _outside() -> dict[str, str]:
    """Return the environment without what this run of pytest, and its Airflow, have set."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "AIRFLOW_", "AWS_"))
    }
