"""Fetch a job's CSV objects from S3. Raises InputFailure, whose text is the job's FailureReason."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_sm_plugin.local.automl.plan import Channel
from airflow_sm_plugin.local.automl.request import InputChannel
from airflow_sm_plugin.local.s3_objects import Location, ObjectFailure, keys_below, read
from airflow_sm_plugin.local.state import Region


class InputFailure(Exception):
    """The input is not there or cannot be read."""


def fetch(region: Region, channel: InputChannel, folder: Path) -> tuple[Channel, int]:
    """Copy the channel's objects into ``folder``; returns the files in order and their size in bytes."""
    folder.mkdir(parents=True)
    try:
        places = (
            _manifest(region, channel.uri) if channel.kind == "ManifestFile" else _prefix(region, channel.uri)
        )
        if not places:
            raise InputFailure(f"No object was found at the S3 location {channel.uri}.")
        files = []
        for number, place in enumerate(places):
            # The number keeps two objects of one name apart; messages name the file.
            path = folder / f"{number:05d}-{place.key.rsplit('/', 1)[-1]}"
            path.write_bytes(read(region, place))
            files.append(path)
    except ObjectFailure as failure:
        raise InputFailure(f"The input data could not be read: {failure}.") from failure
    size = sum(path.stat().st_size for path in files)
    return {"files": [str(path) for path in files], "gzipped": channel.gzipped}, size


def _prefix(region: Region, uri: str) -> list[Location]:
    location = Location.parse(uri)
    return [Location(location.bucket, key) for key in keys_below(region, location) if not key.endswith("/")]


def _manifest(region: Region, uri: str) -> list[Location]:
    """Read ``[{"prefix": "s3://bucket/folder/"}, "relative/key", …]``."""
    try:
        entries = json.loads(read(region, Location.parse(uri)))
        prefix = str(entries[0]["prefix"])
        return [Location.parse(prefix + str(entry)) for entry in entries[1:]]
    except (ValueError, LookupError, TypeError) as error:
        raise InputFailure(f"The manifest file {uri} cannot be read: {error}.") from error
