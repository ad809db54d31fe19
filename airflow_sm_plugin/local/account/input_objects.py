"""List the objects that a job reads: below a prefix or in a manifest.

AWS documents "all objects with the specified key name prefix", and nothing about the markers that Spark and others
leave beside data; whether the service passes them over is not proven. Here they are, as the batch operators do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.manifest_array import parse_array
from airflow_sm_plugin.core.s3 import relative_key
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.local.account.s3_objects import Location, keys_below, read
from airflow_sm_plugin.local.account.state import Region


class BadManifest(Exception):
    """A manifest is none."""


@dataclass(frozen=True)
class InputObject:
    """One object, and its key below the job's prefix."""

    location: Location
    relative: str


def objects_below(region: Region, prefix: Location) -> Iterator[InputObject]:
    """Yield the inputs below a prefix, in S3's order. Raises ObjectFailure."""
    selection = InputSelection(prefix.key)
    for key in keys_below(region, prefix):
        if selection.takes(key):
            yield InputObject(Location(prefix.bucket, key), relative_key(prefix.key, key))


def objects_in_manifest(region: Region, manifest: Location) -> Iterator[InputObject]:
    """Yield what a manifest lists, in its order. Raises ObjectFailure, and BadManifest.

    The relative key is that below the manifest's prefix; how Batch Transform names such outputs is not documented.
    """
    try:
        prefix, names = parse_array(read(region, manifest))
        top = Location.parse(prefix)
    except (InvalidRequest, ValueError) as error:
        raise BadManifest(f"The manifest file {manifest.uri} cannot be read: {error}") from error
    for name in names:
        location = Location.parse(prefix + name)
        yield InputObject(location, relative_key(top.key, location.key))
