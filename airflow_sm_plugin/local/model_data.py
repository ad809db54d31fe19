"""Fetch a container's model data from S3 and lay it out as a container sees ``/opt/ml/model``."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local import s3_objects
from airflow_sm_plugin.local.containers import ContainerFailed, ContainerSpec
from airflow_sm_plugin.local.s3_objects import Location
from airflow_sm_plugin.local.state import Region

_ERRORS = (Boto3Error, BotoCoreError, ClientError)


class BadArchive(Exception):
    """An object is no tar.gz, or it would write outside of its folder."""


def unpack_model_data(region: Region, spec: ContainerSpec, folder: Path) -> None:
    """Fill ``folder`` with the model data, nothing when the model has none.

    Raises ContainerFailed in SageMaker's words when the object is missing or is no archive. An archive cannot
    write outside of ``folder`` (tarfile's ``data`` filter).
    """
    if spec.model_data_url is None:
        return
    try:
        if spec.unpacked:
            _copy_prefix(region, spec.model_data_url, folder)
        else:
            _download_and_extract(region, spec, folder)
    except (*_ERRORS, FileNotFoundError) as error:
        raise ContainerFailed(
            f'Failed to download model data for container "{spec.label}" from URL: "{spec.model_data_url}". '
            "Please ensure that there is an object located at the URL and that the role passed to CreateModel "
            "has permissions to download the object."
        ) from error


def unpack_target_model(region: Region, location: Location, folder: Path) -> None:
    """Fill ``folder`` with one archive of a multi-model container.

    Raises ObjectFailure when S3 does not give it, BadArchive when it is no tar.gz.
    """
    archive = folder.with_name(f"{folder.name}.tar.gz")
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("wb") as file:
            s3_objects.copy_to(region, location, file)
        _extract(archive, folder)
    finally:
        archive.unlink(missing_ok=True)


def _download_and_extract(region: Region, spec: ContainerSpec, folder: Path) -> None:
    bucket, key = _split(str(spec.model_data_url))
    archive = folder.with_name(f"{folder.name}.tar.gz")
    region.aws.s3(region.name).download_file(bucket, key, str(archive))
    try:
        _extract(archive, folder)
    except BadArchive as error:
        raise ContainerFailed(
            f'Failed to extract model data archive for container "{spec.label}" from URL '
            f'"{spec.model_data_url}". Please ensure that the object located at the URL is a valid tar.gz archive.'
        ) from error
    finally:
        archive.unlink()


def _extract(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BadArchive(str(error)) from error


def _copy_prefix(region: Region, url: str, folder: Path) -> None:
    bucket, prefix = _split(url)
    s3 = region.aws.s3(region.name)
    found = False
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            key = entry["Key"]
            target = (folder / key.removeprefix(prefix).lstrip("/")).resolve()
            if key.endswith("/") or not target.is_relative_to(folder.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(target))
            found = True
    if not found:
        raise FileNotFoundError(url)


def _split(url: str) -> tuple[str, str]:
    parts = urlsplit(url, allow_fragments=False)
    return parts.netloc, parts.path.lstrip("/")
