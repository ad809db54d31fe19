"""Find a transform job's input objects: below a prefix, or in a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_sm_plugin.local import s3_objects
from airflow_sm_plugin.local.s3_objects import Location
from airflow_sm_plugin.local.state import Region
from airflow_sm_plugin.local.transform_io import BadInput, manifest_entries, relative_key
from airflow_sm_plugin.local.transform_plan import Plan


@dataclass(frozen=True)
class Source:
    """One input object, and the name its output gets ``.out`` appended to."""

    location: Location
    name: str


def sources_of(region: Region, plan: Plan) -> Iterator[Source]:
    """Yield the objects to transform. Raises ObjectFailure, and BadInput for a manifest that is none."""
    if plan.is_manifest:
        for uri, name in manifest_entries(_json(s3_objects.read(region, plan.source))):
            yield Source(Location.parse(uri), name)
        return
    for key in s3_objects.keys_below(region, plan.source):
        if not key.endswith("/"):  # what consoles store to show a folder
            yield Source(Location(plan.source.bucket, key), relative_key(plan.source.key, key))


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadInput("The manifest file is not JSON") from error
