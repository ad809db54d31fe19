"""Render a report's page from a template of this package. All texts are escaped."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.core.text import legible

PAGE_TYPE = "text/html; charset=utf-8"

_PACKAGE = __name__.partition(".")[0]


def rendered(template: str, **values: Any) -> bytes:  # noqa: ANN401 - of any template
    """Render a template.

    :param template: path of the file in this package
    """
    return as_utf8(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )


def _source(path: str) -> str:
    return (resources.files(_PACKAGE) / path).read_text(encoding="utf-8")
