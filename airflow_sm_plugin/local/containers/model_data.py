"""Fetch a container's model data and source code from S3, for the folders that a container has in ``/opt/ml``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.containers.archives import Allowance, BadArchive, Parents, TooLarge, extract
from airflow_sm_plugin.local.containers.containers import ContainerFailed, ContainerSpec


def unpack_model_data(region: Region, spec: ContainerSpec, folder: Path, check: Callable[[], None]) -> None:
    """Fill ``folder`` with the model data, if the model has any.

    Raises ContainerFailed: with SageMaker's message when the object is missing or not an archive; with the limit, when
    the data is larger than the settings permit.

    :param check: called repeatedly meanwhile; an exception of it ends the work
    """
    if spec.model_data_url is None:
        return
    try:
        location = Location.parse(spec.model_data_url)
        if spec.unpacked:
            _copy_files(region, location, folder, check, is_object=spec.is_object)
        else:
            unpack(region, location, folder, check)
    except (ObjectFailure, ValueError) as error:
        raise _not_downloaded(spec) from error
    except BadArchive as error:
        if spec.unpacked:
            raise _not_downloaded(spec, f" {error}") from error
        raise ContainerFailed(
            f'Failed to extract model data archive for container "{spec.label}" from URL '
            f'"{spec.model_data_url}". Please ensure that the object located at the URL is a valid tar.gz archive.'
            f"{reason(error)}"
        ) from error


def unpack_source(
    region: Region, spec: ContainerSpec, folder: Path, check: Callable[[], None]
) -> Path | None:
    """Fill ``folder`` with the code in S3 that SAGEMAKER_SUBMIT_DIRECTORY names; None without such code.

    Raises ContainerFailed with a message of our own: a container of SageMaker then only fails its health check.
    """
    if spec.source_url is None:
        return None
    try:
        unpack(region, Location.parse(spec.source_url), folder, check)
    except (ObjectFailure, BadArchive, ValueError) as error:
        raise ContainerFailed(
            f'Failed to fetch the source code for container "{spec.label}" from SAGEMAKER_SUBMIT_DIRECTORY '
            f'"{spec.source_url}": {error}. Please ensure that the object located at the URL is a valid tar.gz archive.'
        ) from error
    return folder


def reason(error: BadArchive) -> str:
    """Name the exceeded limit of the settings, as an addition to SageMaker's message."""
    return f" {error}" if isinstance(error, TooLarge) else ""


def _not_downloaded(spec: ContainerSpec, why: str = "") -> ContainerFailed:
    return ContainerFailed(
        f'Failed to download model data for container "{spec.label}" from URL: "{spec.model_data_url}". '
        "Please ensure that there is an object located at the URL and that the role passed to CreateModel "
        f"has permissions to download the object.{why}"
    )


def unpack(region: Region, location: Location, folder: Path, check: Callable[[], None]) -> None:
    """Fill ``folder`` with an archive from S3. Raises ObjectFailure; BadArchive if it is not a tar.gz, or too large."""
    archive = folder.with_name(f"{folder.name}.tar.gz")
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("wb") as file:
            s3_objects.copy_to(region, location, file, count=lambda _: check())
        extract(archive, folder, _allowance(region.settings), check)
    finally:
        archive.unlink(missing_ok=True)


def _copy_files(
    region: Region, location: Location, folder: Path, check: Callable[[], None], *, is_object: bool
) -> None:
    """Copy an object, or the objects below a prefix. Raises ObjectFailure, also for an empty prefix; BadArchive."""
    allowance = _allowance(region.settings)
    parents = Parents(folder, allowance)
    keys = {location.key: location.key.rpartition("/")[2]}
    if not is_object:
        below = s3_objects.keys_below(region, location)
        keys = {key: key.removeprefix(location.key).lstrip("/") for key in below if not key.endswith("/")}
    if not keys:
        raise ObjectFailure(location, "NoSuchKey")

    def count(size: int) -> None:
        check()
        allowance.take(size)

    for key, name in keys.items():
        check()
        allowance.take_file()
        target = parents.check(name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                s3_objects.copy_to(region, Location(location.bucket, key), file, count=count)
        except OSError as error:  # a key that is both a file and a folder, or a name that is too long
            raise BadArchive(f"{name[:100]!r} cannot be a file: {error.strerror}") from error


def _allowance(settings: Settings) -> Allowance:
    return Allowance.of(settings.model_data_limit_mb, settings.model_data_limit_files)
