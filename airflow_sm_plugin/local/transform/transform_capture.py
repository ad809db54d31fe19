"""Data capture of transform jobs: manifests of the objects that were transformed, and of those written.

Form and places: Developer Guide, "Capture data from batch transform job".
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence

from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.input_objects import InputObject
from airflow_sm_plugin.local.account.s3_objects import Location
from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.transform.transform_plan import Capture


def write_manifests(
    region: Region,
    capture: Capture,
    sources: Sequence[InputObject],
    output: Location,
    *,
    started: datetime.datetime,
) -> None:
    """Write the manifests of a completed job below the hour of its start. Raises ObjectFailure."""
    outputs = [(f"{output.below('').uri.rstrip('/')}/", f"{source.relative}.out") for source in sources]
    for folder, entries in (("input", map(_split, sources)), ("output", outputs)):
        for manifest in manifests(entries):
            name = f"{folder}/{started:%Y/%m/%d/%H}/{uuid.uuid4()}.jsonl"
            body = json.dumps(manifest).encode()
            s3_objects.write(region, capture.destination.below(name), body, kms_key_id=capture.kms_key_id)


def manifests(entries: Iterable[tuple[str, str]]) -> list[list[object]]:
    """Return manifests, ``[{"prefix": "s3://bucket/p/"}, "name", …]``, of (prefix, name) pairs: one for each prefix."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for prefix, name in entries:
        names[prefix].append(name)
    return [[{"prefix": prefix}, *below] for prefix, below in names.items()]


def _split(source: InputObject) -> tuple[str, str]:
    uri = source.location.uri
    if uri.endswith(f"/{source.relative}"):
        return uri.removesuffix(source.relative), source.relative
    folder, _, name = uri.rpartition("/")
    return f"{folder}/", name
