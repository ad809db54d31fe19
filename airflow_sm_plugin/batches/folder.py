"""Names of the objects that batches write, made so that they can be distinguished from inputs.

A key of a batch's state, ``<prefix>/_batch/<owner>/<digest>/…``, is recognized by its form. Reports and lists of
failures lie among the outputs under names that a user's file may have, too: they carry :data:`MARK` in their metadata,
which decides. The outputs themselves, ``<name>.out``, may be inputs of a next batch.
"""

from __future__ import annotations

import re

STATE = "_batch"
"""Begins with an underscore: Athena, Spark and Hive skip such names when they read outputs as a table."""

REPORT = "report.json"
REPORT_PAGE = "report.html"
ERRORS = ".errors.jsonl"
ATTRIBUTES = ".attributes.jsonl"

MARK = "airflow-sm-plugin-batch"
"""Metadata key of a batch's objects among the outputs. Its value names the batch and the process that wrote them."""

_STATE_KEY = re.compile(rf"(?:^|/){STATE}/[^/]+/[0-9a-f]{{12}}/")
_INVOCATION_KEY = re.compile(r"(?:^|/)[^/]+/[0-9a-f]{12}/\d{5}-(?:intent|accepted|lost)\.json")


def state_folder(prefix: str, *, owner: str, arguments: str) -> str:
    """Name the folder of a batch's state, without a slash at its end.

    :param prefix: ``s3://bucket/prefix``
    :param owner: the same for all tries of a task instance, and different for each task instance
    :param arguments: :func:`~airflow_sm_plugin.core.names.digest` of the arguments that identify the batch
    """
    return f"{prefix.rstrip('/')}/{STATE}/{owner}/{arguments}"


def numbered(prefix: str, number: int) -> str:
    """Name an entry of a :class:`~airflow_sm_plugin.batches.numbered_log.NumberedLog`; the prefix ends in a slash."""
    return f"{prefix}{number:08d}.json"


def state_in(key: str) -> str | None:
    """Describe a key of a batch's or an invocation's state, for a message; None for any other key."""
    if f"{STATE}/" in key and _STATE_KEY.search(key):
        return "part of the state of a batch"
    if key.endswith(".json") and _INVOCATION_KEY.search(key):
        return "part of the state of an asynchronous invocation"
    return None


def result_if_marked(key: str) -> str | None:
    """Describe an object with this key and :data:`MARK`, for a message; None for a key that batches do not use."""
    name = key.rpartition("/")[2]
    if name in (REPORT, REPORT_PAGE):
        return "the report of a batch"
    if name.endswith(ERRORS):
        return "a batch's list of failures"
    return "a batch's list of response attributes" if name.endswith(ATTRIBUTES) else None
