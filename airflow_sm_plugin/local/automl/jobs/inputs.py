"""Fetch a job's CSV objects from S3. Raises InputFailure, whose text is the job's FailureReason."""

from __future__ import annotations

from pathlib import Path

from airflow_sm_plugin.local.account.input_objects import BadManifest, objects_below, objects_in_manifest
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure, read
from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.automl.jobs.request import InputChannel
from airflow_sm_plugin.local.automl.training.plan import Channel


class InputFailure(Exception):
    """The input is not there or cannot be read."""


def fetch(region: Region, channel: InputChannel, folder: Path) -> tuple[Channel, int]:
    """Copy the channel's objects into ``folder``; returns the files in order and their size in bytes."""
    folder.mkdir(parents=True)
    listed = objects_in_manifest if channel.kind == "ManifestFile" else objects_below
    try:
        places = [one.location for one in listed(region, Location.parse(channel.uri))]
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
    except BadManifest as error:
        raise InputFailure(f"{error}.") from error
    size = sum(path.stat().st_size for path in files)
    return {"files": [str(path) for path in files], "gzipped": channel.gzipped}, size
