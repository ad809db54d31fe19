"""Find a transform job's input objects: below a prefix, or in a manifest."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_sm_plugin.local.account.input_objects import (
    BadManifest,
    InputObject,
    objects_below,
    objects_in_manifest,
)
from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.transform.transform_io import BadInput
from airflow_sm_plugin.local.transform.transform_plan import Plan


def sources_of(region: Region, plan: Plan) -> Iterator[InputObject]:
    """Yield the objects to transform; ``.out`` behind an object's relative key names its output.

    Raises ObjectFailure, and BadInput for a manifest that is none.
    """
    try:
        yield from (objects_in_manifest if plan.is_manifest else objects_below)(region, plan.source)
    except BadManifest as error:
        raise BadInput(str(error)) from error
