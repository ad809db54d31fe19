"""The training process of a job: ``python -m airflow_sm_plugin.local.automl.training.worker plan.json``.

It writes the candidates' archives below the plan's ``output``, and a JSON event per line on standard output. It is a
process of its own, so that the server needs no scikit-learn, and can stop a job by ending the process. It also ends
when its standard input closes, that is, when the server has ended.

An archive has ``model.joblib``, ``code/inference.py`` and the modules that it imports from
:mod:`airflow_sm_plugin.local.automl.archive`, under other names (``automl_tabular`` for ``…archive.tabular``), so that
it runs without this package.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import threading
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import joblib
import numpy as np

from airflow_sm_plugin.local.automl.archive.ensemble import Ensemble
from airflow_sm_plugin.local.automl.training import dataset
from airflow_sm_plugin.local.automl.training.dataset import read_material
from airflow_sm_plugin.local.automl.training.plan import (
    ENSEMBLING,
    TrainingEvent,
    TrainingPlan,
    default_metric,
)
from airflow_sm_plugin.local.automl.training.recipes import MOST_CANDIDATES, Recipe, recipes
from airflow_sm_plugin.local.automl.training.training import (
    Fitted,
    Material,
    better,
    importances,
    train,
    vote,
)

_PACKAGE = "airflow_sm_plugin.local.automl.archive"
_IMPORT = re.compile(rf"^from {re.escape(_PACKAGE)}\.(\w+) import", re.MULTILINE)

_FEWEST_WITH_ENSEMBLE = 3
"""From so many candidates on, the last is an ensemble; an ensemble of a single model would equal that model."""
Winner = tuple[int, Sequence[Fitted], Sequence[float]]
"""The best candidate: its number, its models and their weights."""


def write_archive(path: Path, *, entry: str, model: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pickled = io.BytesIO()
    joblib.dump(model, pickled)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        _add(archive, "model.joblib", pickled.getvalue())
        for name, source in _sources(entry).items():
            _add(archive, f"code/{name}.py", source.encode())


def _sources(entry: str) -> dict[str, str]:
    sources: dict[str, str] = {}
    todo = [(entry, "inference")]
    while todo:
        module, name = todo.pop()
        source = (resources.files(_PACKAGE) / f"{module}.py").read_text(encoding="utf-8")
        sources[name] = _IMPORT.sub(r"from automl_\1 import", source)
        todo += [
            (other, f"automl_{other}")
            for other in _IMPORT.findall(source)
            if f"automl_{other}" not in sources
        ]
    return sources


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(content))


def main(arguments: list[str]) -> int:
    """Run the plan. A job that cannot go on ends with an event and exit status 0."""
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    plan: TrainingPlan = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        _run(plan)
    except dataset.JobFailed as failure:
        _emit({"event": "failed", "reason": str(failure)})
    return 0


def _run(plan: TrainingPlan) -> None:
    material, report = read_material(plan)
    metric = plan["objective"] or default_metric(material.problem_type)
    _emit({"event": "analyzed", "problem_type": material.problem_type, "objective": metric, "report": report})
    if plan["definitions_only"]:
        return
    most = plan["max_candidates"]
    with_ensemble = plan["mode"] == ENSEMBLING and (most is None or most >= _FEWEST_WITH_ENSEMBLE)
    singles = None if most is None else min(most, MOST_CANDIDATES) - with_ensemble
    chosen = recipes(material.problem_type, plan["algorithms"], singles)
    if not chosen:
        raise dataset.JobFailed(f"No candidate can be trained with {', '.join(plan['algorithms'])}.")
    if plan["mode"] == ENSEMBLING:
        number, members, weights = _ensembling(plan, material, chosen, metric, with_ensemble=with_ensemble)
    else:
        number, members, weights = _tuning(plan, material, chosen, metric)
    columns = importances(members, weights, material, metric)
    _emit({"event": "explained", "number": number, "importances": columns})


def _tuning(plan: TrainingPlan, material: Material, chosen: list[Recipe], metric: str) -> Winner:
    output = Path(plan["output"])
    fitted: list[Fitted] = []
    for number, recipe in enumerate(chosen, start=1):
        _emit_started(number, recipe.name, processor=int(recipe.scaled))
        model = train(recipe, material)
        fitted.append(model)
        processor, algorithm = output / f"dpp{int(recipe.scaled)}.tar.gz", output / f"{number}.tar.gz"
        transformed = processor.with_suffix(".csv")
        if not processor.exists():
            write_archive(processor, entry="features", model=model.processor)
            features = material.features(model.processor, material.fit_on)
            np.savetxt(transformed, features, fmt="%.6g", delimiter=",")
        contents = {"estimator": model.estimator, "classes": len(material.labels)}
        write_archive(algorithm, entry="algorithm", model=contents)
        archives = {"processor": processor, "algorithm": algorithm, "transformed": transformed}
        _emit_trained(number, recipe.name, model.scores, {role: str(path) for role, path in archives.items()})
    best = _best(fitted, metric)
    return best + 1, [fitted[best]], [1.0]


def _ensembling(
    plan: TrainingPlan, material: Material, chosen: list[Recipe], metric: str, *, with_ensemble: bool
) -> Winner:
    fitted: list[Fitted] = []
    for number, recipe in enumerate(chosen, start=1):
        name = f"{recipe.name}_L1_FULL"
        _emit_started(number, name)
        fitted.append(train(recipe, material))
        archive = _pack_ensemble(plan, material, fitted[-1:], [1.0], number)
        _emit_trained(number, name, fitted[-1].scores, {"model": str(archive)})
    best = _best(fitted, metric)
    if not with_ensemble or len(fitted) == 1:
        return best + 1, [fitted[best]], [1.0]
    return _weighted(plan, material, fitted, metric)


def _weighted(plan: TrainingPlan, material: Material, fitted: list[Fitted], metric: str) -> Winner:
    number, name = len(fitted) + 1, "WeightedEnsemble_L2_FULL"
    _emit_started(number, name)
    weights, scores = vote(fitted, material, metric)
    archive = _pack_ensemble(plan, material, fitted, weights, number)
    _emit_trained(number, name, scores, {"model": str(archive)})
    return number, fitted, weights


def _pack_ensemble(
    plan: TrainingPlan, material: Material, fitted: Sequence[Fitted], weights: Sequence[float], number: int
) -> Path:
    model: Ensemble = {
        "members": [
            {"processor": member.processor, "estimator": member.estimator, "weight": weight}
            for member, weight in zip(fitted, weights, strict=True)
            if weight
        ],
        "labels": material.labels or None,
    }
    archive = Path(plan["output"]) / f"{number}.tar.gz"
    write_archive(archive, entry="ensemble", model=model)
    return archive


def _best(fitted: Sequence[Fitted], metric: str) -> int:
    """Find the index of the best model, the latest of several, as in the job's record."""
    best = 0
    for number, model in enumerate(fitted):
        if not better(metric, fitted[best].scores[metric], model.scores[metric]):
            best = number
    return best


def _emit_started(number: int, name: str, *, processor: int = 0) -> None:
    _emit({"event": "started", "number": number, "algorithm": name, "processor": processor})


def _emit_trained(number: int, name: str, scores: dict[str, float], archives: dict[str, str]) -> None:
    _emit({"event": "trained", "number": number, "algorithm": name, "scores": scores, "archives": archives})


def _emit(event: TrainingEvent) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
