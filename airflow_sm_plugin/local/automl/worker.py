"""The training process of one job: ``python -m airflow_sm_plugin.local.automl.worker plan.json``.

Writes the candidates' archives below the plan's ``output`` and one JSON event a line on standard output. A process
of its own, so that the server needs no scikit-learn and stopping a job is killing it; it ends by itself when its
standard input closes, that is, when the server is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np

from airflow_sm_plugin.local.automl import dataset, problems
from airflow_sm_plugin.local.automl.archive.ensemble import Ensemble
from airflow_sm_plugin.local.automl.archive.tabular import is_missing, layout_of, number, parse
from airflow_sm_plugin.local.automl.packing import write_archive
from airflow_sm_plugin.local.automl.plan import ENSEMBLING, Event, Plan
from airflow_sm_plugin.local.automl.recipes import Recipe, recipes
from airflow_sm_plugin.local.automl.training import Fitted, Material, folds_of, train, vote


def main(arguments: list[str]) -> int:
    """Run the plan; a job that cannot go on is an event, not an exit status."""
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    plan: Plan = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        _run(plan)
    except dataset.JobFailed as failure:
        _tell({"event": "failed", "reason": str(failure)})
    return 0


def _run(plan: Plan) -> None:
    material, report = _material(plan)
    objective = plan["objective"] or problems.default_metric(material.problem_type)
    _tell(
        {"event": "analyzed", "problem_type": material.problem_type, "objective": objective, "report": report}
    )
    if plan["definitions_only"]:
        return
    chosen = recipes(material.problem_type, plan["algorithms"])
    if not chosen:
        raise dataset.JobFailed(f"No candidate can be trained with {', '.join(plan['algorithms'])}.")
    if plan["mode"] == ENSEMBLING:
        _ensembling(plan, material, chosen, objective)
    else:
        _tuning(plan, material, chosen)


def _material(plan: Plan) -> tuple[Material, str]:
    """Read and check the data; returns it with a report on what was found."""
    given = plan["training"]
    table = dataset.read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    place = dataset.column(table, plan["target"])
    training = dataset.with_value(table, place, least=dataset.LEAST_ROWS)
    validation = _validation(plan, training, place)
    target = dataset.target_of(training, validation, place, plan["problem_type"])
    rows = training.rows + (validation.rows if validation else [])
    weight = dataset.column(training, plan["weight"]) if plan["weight"] else None
    skip = frozenset({place} if weight is None else {place, weight})
    layout = layout_of(training.columns, training.rows, skip)
    if not layout["numeric"] and not layout["categorical"]:
        raise dataset.JobFailed("The data has no column but the target that holds any value.")
    kept = [[field for index, field in enumerate(row) if index not in skip] for row in rows]
    numbers, texts = parse(layout, kept)
    values = np.array(target.values, dtype=np.float64)
    folds = folds_of(
        values, training=len(training.rows), classes=len(target.labels), fraction=plan["validation_fraction"]
    )
    material = Material(
        layout=layout,
        numbers=numbers,
        texts=texts,
        target=values,
        labels=target.labels,
        problem_type=target.problem_type,
        weights=None if weight is None else _weights(rows, weight, plan["weight"] or ""),
        folds=folds,
        fit_on=folds[0][0] if len(folds) == 1 else np.arange(len(rows)),
    )
    return material, _report(training, material)


def _validation(plan: Plan, training: dataset.Table, place: int) -> dataset.Table | None:
    given = plan["validation"]
    if given is None:
        return None
    table = dataset.read_table([Path(name) for name in given["files"]], gzipped=given["gzipped"])
    if table.columns != training.columns:
        raise dataset.JobFailed("The validation data must have the same header as the training data.")
    return dataset.with_value(table, place)


def _weights(rows: list[list[str]], place: int, name: str) -> np.typing.NDArray[np.float64]:
    weights = np.array([number(row[place]) for row in rows])
    if not (weights >= 0).all():
        raise dataset.JobFailed(f"The sample weight column {name!r} must hold numbers >= 0 only.")
    return weights


def _report(table: dataset.Table, material: Material) -> str:
    """Write the data exploration report (Markdown)."""
    missing = [sum(is_missing(row[place]) for row in table.rows) for place in range(len(table.columns))]
    layout = material.layout
    kinds = {layout["columns"][place]: kind for kind in ("numeric", "categorical") for place in layout[kind]}
    lines = [f"| {name} | {kinds.get(name, '-')} | {gaps} |" for name, gaps in zip(table.columns, missing, strict=True)]
    head = f"{len(table.rows)} training rows, problem type {material.problem_type}"
    classes = f", classes {', '.join(material.labels)}" if material.labels else ""
    return "\n".join([f"{head}{classes}.", "", "| column | type | missing |", "|---|---|---|", *lines])


def _tuning(plan: Plan, material: Material, chosen: list[Recipe]) -> None:
    """Train candidates of a feature processor and an algorithm each."""
    output = Path(plan["output"])
    for place, recipe in enumerate(chosen[: plan["max_candidates"]], start=1):
        _tell({"event": "started", "number": place, "algorithm": recipe.name})
        fitted = train(recipe, material)
        processor = output / f"dpp{int(recipe.scaled)}.tar.gz"
        if not processor.exists():
            write_archive(processor, entry="features", model=fitted.processor)
        algorithm = output / f"{place}.tar.gz"
        write_archive(
            algorithm,
            entry="algorithm",
            model={"estimator": fitted.estimator, "classes": len(material.labels)},
        )
        archives = {"processor": str(processor), "algorithm": str(algorithm)}
        _tell_trained(place, recipe.name, fitted.scores, archives, processor=int(recipe.scaled))


def _ensembling(plan: Plan, material: Material, chosen: list[Recipe], objective: str) -> None:
    """Train single models, then a weighted ensemble of them; each is a candidate with one container."""
    most = plan["max_candidates"]
    fitted: list[Fitted] = []
    for place, recipe in enumerate(chosen[: max(1, most - 1)], start=1):
        name = f"{recipe.name}_L1_FULL"
        _tell({"event": "started", "number": place, "algorithm": name})
        fitted.append(train(recipe, material))
        _pack_ensemble(plan, material, fitted[-1:], [1.0], place)
        _tell_ensemble(plan, name, place, fitted[-1].scores)
    if most == 1 or len(fitted) == 1:
        return
    place = len(fitted) + 1
    name = "WeightedEnsemble_L2_FULL"
    _tell({"event": "started", "number": place, "algorithm": name})
    weights, measured = vote(fitted, material, objective)
    _pack_ensemble(plan, material, fitted, weights, place)
    _tell_ensemble(plan, name, place, measured)


def _pack_ensemble(
    plan: Plan, material: Material, fitted: list[Fitted], weights: list[float], place: int
) -> None:
    model: Ensemble = {
        "members": [
            {"processor": member.processor, "estimator": member.estimator, "weight": weight}
            for member, weight in zip(fitted, weights, strict=True)
            if weight
        ],
        "labels": material.labels or None,
    }
    write_archive(_ensemble_path(plan, place), entry="ensemble", model=model)


def _ensemble_path(plan: Plan, place: int) -> Path:
    return Path(plan["output"]) / f"{place}.tar.gz"


def _tell_ensemble(plan: Plan, name: str, place: int, measured: dict[str, float]) -> None:
    _tell_trained(place, name, measured, {"model": str(_ensemble_path(plan, place))}, processor=0)


def _tell_trained(
    place: int, name: str, measured: dict[str, float], archives: dict[str, str], *, processor: int
) -> None:
    _tell(
        {
            "event": "trained",
            "number": place,
            "algorithm": name,
            "scores": measured,
            "archives": archives,
            "processor": processor,
        }
    )


def _tell(event: Event) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
