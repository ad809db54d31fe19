"""The notebooks that a job leaves beside its candidates."""

from __future__ import annotations

import json

from airflow_sm_plugin.local.automl.training.plan import Plan


def settings_of(plan: Plan) -> str:
    """List what the candidates are made by (Markdown)."""
    shown = {
        "mode": plan["mode"],
        "target": plan["target"],
        "problem type": plan["problem_type"] or "found out from the data",
        "objective": plan["objective"] or "the problem type's default",
        "candidates at most": plan["max_candidates"] or "one of each kind",
        "algorithms": ", ".join(plan["algorithms"]) or "all",
    }
    return "\n".join(f"- {name}: {value}" for name, value in shown.items())


def notebook(title: str, text: str) -> bytes:
    """Return a Jupyter notebook of one Markdown cell."""
    cell = {"cell_type": "markdown", "metadata": {}, "source": [f"{title}\n\n", text]}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 2}).encode()
