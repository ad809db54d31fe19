"""A batch's report for people: one page that opens offline, with nothing loaded from anywhere."""

from __future__ import annotations

import functools
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.core.text import legible
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.charts import charts_of
from airflow_sm_plugin.multi_model.report.view import view_of

_TEMPLATE = "report.html.jinja"


def page_of(report: BatchReport) -> bytes:
    """Return the content of ``report.html``. What the report quotes, names and containers' texts, is escaped."""
    page = _template().render(view=view_of(report), charts=charts_of(report))
    return as_utf8(page)


@functools.cache
def _template() -> Template:
    source = (
        resources.files("airflow_sm_plugin.multi_model.report")
        .joinpath(_TEMPLATE)
        .read_text(encoding="utf-8")
    )
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    return environment.from_string(source)
