"""Write a candidate's archives: ``model.joblib``, ``code/inference.py`` and the modules it imports.

The modules are this package's :mod:`airflow_sm_plugin.local.automl.archive`, under names of their own
(``automl_tabular`` for ``…archive.tabular``), so that an archive runs where this package is not installed.
"""

from __future__ import annotations

import io
import re
import tarfile
from importlib import resources
from pathlib import Path

import joblib

_PACKAGE = "airflow_sm_plugin.local.automl.archive"
_IMPORT = re.compile(rf"^from {re.escape(_PACKAGE)}\.(\w+) import", re.MULTILINE)


def write_archive(path: Path, *, entry: str, model: object) -> None:
    """Write ``model.tar.gz``; ``entry`` is the module that becomes ``code/inference.py``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pickled = io.BytesIO()
    joblib.dump(model, pickled)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        _add(archive, "model.joblib", pickled.getvalue())
        for name, source in _sources(entry).items():
            _add(archive, f"code/{name}.py", source.encode())


def _sources(entry: str) -> dict[str, str]:
    """Return the entry's source and those it imports, by their names in the archive."""
    found: dict[str, str] = {}
    todo = [(entry, "inference")]
    while todo:
        module, name = todo.pop()
        source = (resources.files(_PACKAGE) / f"{module}.py").read_text(encoding="utf-8")
        found[name] = _IMPORT.sub(r"from automl_\1 import", source)
        todo += [
            (other, f"automl_{other}") for other in _IMPORT.findall(source) if f"automl_{other}" not in found
        ]
    return found


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(content))
