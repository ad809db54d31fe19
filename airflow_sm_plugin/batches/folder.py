"""Names of the objects that batches write, made so that they can be distinguished from inputs.

State lies in ``<prefix>/_batch/<owner>/<digest>/``, whatever the prefix: a key alone tells it. What lies with a batch's
outputs for people and for later tasks has names that any file may have. It carries :data:`MARK` in its metadata, which
decides. Outputs themselves, ``<name>.out``, are inputs of a next batch like any others.
"""

from __future__ import annotations

import re

STATE = "_batch"
"""What reads outputs as a table (Athena, Spark, Hive) passes over names that begin with an underscore."""

REPORT = "report.json"
REPORT_PAGE = "report.html"
ERRORS = ".errors.jsonl"
ATTRIBUTES = ".attributes.jsonl"

MARK = "airflow-sm-plugin-batch"
"""Name of the metadata of each object among the outputs: which batch and process wrote it."""

_STATE_KEY = re.compile(rf"(?:^|/){STATE}/[^/]+/[0-9a-f]{{12}}/")
_INVOCATION_KEY = re.compile(r"(?:^|/)[^/]+/[0-9a-f]{12}/\d{5}-(?:intent|accepted|lost)\.json")
_REPORTS = (REPORT, REPORT_PAGE)


def state_folder(prefix: str, *, owner: str, arguments: str) -> str:
    """Return the folder of a batch's state, without a slash at its end.

    :param prefix: ``s3://bucket/prefix``
    :param owner: what names the task instance over all its tries
    :param arguments: :func:`~airflow_sm_plugin.core.names.digest` of what makes it another batch
    """
    return f"{prefix.rstrip('/')}/{STATE}/{owner}/{arguments}"


def numbered(prefix: str, number: int) -> str:
    """Return the location of one entry of a :class:`~airflow_sm_plugin.batches.numbered_log.NumberedLog`.

    :param prefix: with a slash at its end
    """
    return f"{prefix}{number:08d}.json"


def state_in(key: str) -> str | None:
    """Return what kind of state a key is, for a message; None for any other key."""
    if f"{STATE}/" in key and _STATE_KEY.search(key):
        return "part of the state of a batch"
    if key.endswith(".json") and _INVOCATION_KEY.search(key):
        return "part of the state of an asynchronous invocation"
    return None


def result_if_marked(key: str) -> str | None:
    """Return what an object with :data:`MARK` and this key is, for a message; None where it may be an input."""
    name = key.rpartition("/")[2]
    if name in _REPORTS:
        return "the report of a batch"
    if name.endswith(ERRORS):
        return "a batch's list of failures"
    return "a batch's list of response attributes" if name.endswith(ATTRIBUTES) else None
