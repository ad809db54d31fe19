"""Sphinx's configuration: ``make docs``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
# `import airflow` writes to AIRFLOW_HOME.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-sm-docs-"))

import error_classes

from airflow_sm_plugin import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "airflow-sm-plugin"
author = "The authors of airflow-sm-plugin"
project_copyright = "Apache License 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
# A console block with a command over several lines is no error.
suppress_warnings = ["misc.highlighting_failure"]

html_title = f"airflow-sm-plugin {release}"
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# A DAG in a guide is copied whole; prompts of a shell are left out.
copybutton_prompt_text = "$ "

autodoc_typehints = "none"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 88
add_module_names = False
python_use_unqualified_type_names = True

linkcheck_timeout = 20
linkcheck_ignore = [r"http://127\.0\.0\.1.*", r"http://localhost.*"]


def _fill_generated_pages(_app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "troubleshooting":
        source[0] = source[0].replace(error_classes.MARK, error_classes.page())


def setup(app: Sphinx) -> None:
    """Generate the list of error classes when its page is read."""
    app.connect("source-read", _fill_generated_pages)
