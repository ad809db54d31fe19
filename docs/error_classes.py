"""The part of ``troubleshooting.md`` that is generated: every error class, from its docstring in ``exceptions.py``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from airflow_sm_plugin import exceptions
from airflow_sm_plugin.exceptions import SageMakerInferenceError

MARK = "<!-- error classes -->"
"""Where the page has the list."""

GROUPS = {
    "InvalidRequest": "Arguments",
    "AutoMLJobError": "Autopilot jobs",
    "ResourceConflict": "Names that are taken",
    "ModelNotFound": "Models",
    "ModelCreationRefused": "Models that SageMaker refuses",
    "ModelPackageError": "Model Registry",
    "EndpointError": "Endpoints",
    "InferenceError": "Inferences and batches",
    "TaskKilled": "Killed tasks",
    "ServiceError": "Answers of AWS",
}
"""The classes directly below the root, in the page's order, and their headings."""


def classes() -> list[type[SageMakerInferenceError]]:
    """List every error class but the root, in the order of the source."""
    found = [
        value
        for value in vars(exceptions).values()
        if inspect.isclass(value) and issubclass(value, SageMakerInferenceError)
    ]
    return [value for value in found if value is not SageMakerInferenceError]


def group_of(error: type[SageMakerInferenceError]) -> str:
    """Name the class directly below the root that an error class belongs to."""
    ancestors = [value.__name__ for value in error.__mro__]
    return ancestors[ancestors.index("SageMakerInferenceError") - 1]


def page() -> str:
    """Render all groups as Markdown."""
    return "\n".join(line for group in GROUPS for line in _section(group))


def _section(group: str) -> Iterator[str]:
    yield f"### {GROUPS[group]}\n"
    yield "| Class | When it happens, and what to do | Retried |\n|---|---|---|"
    for error in classes():
        if group_of(error) == group:
            retried = "yes" if error.retryable else "no"
            yield f"| `{error.__name__}` | {_meaning(error)} | {retried} |"
    yield ""


def _meaning(error: type[SageMakerInferenceError]) -> str:
    text = re.sub(r"\s+", " ", inspect.getdoc(error) or "").replace("``", "`").replace("|", "\\|")
    below = [child.__name__ for child in error.__subclasses__()]
    return text + (f" More exactly: {', '.join(f'`{name}`' for name in below)}." if below else "")
