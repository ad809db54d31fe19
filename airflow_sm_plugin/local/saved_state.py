"""Write the state of an embedded SageMaker to a folder, and read it at the next start.

Kept: S3 buckets and objects (with metadata and tags), models, model packages, endpoint configurations, jobs that have
ended, and endpoints, which are created again from their configuration. Not kept: endpoints that are Failed, object
versions and bucket settings, queues, topics, scaling, logs, metrics, requests in progress, and jobs that still run.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_sm_plugin.local.account.operations import handler_of
from airflow_sm_plugin.local.account.state import Account, Record, Region
from airflow_sm_plugin.local.automl.jobs.jobs import KIND as AUTOML_JOBS
from airflow_sm_plugin.local.automl.jobs.jobs import request_of
from airflow_sm_plugin.local.endpoints.endpoints import KIND as ENDPOINTS
from airflow_sm_plugin.local.protocol.errors import ServiceFailure

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_KINDS = (
    "model",
    "model-package-group",
    "model-package",
    "endpoint-config",
    AUTOML_JOBS,
    "training-job",
    "processing-job",
    "transform-job",
)
_LIVE = {"_run", "_job", "_request"}
"""The keys of a job's record whose values are objects of the running process."""
_UNFINISHED = {"InProgress", "Stopping"}
_NOT_AGAIN = {"Failed", "OutOfService", "Deleting"}
_HEADERS = (
    "ContentType",
    "ContentEncoding",
    "ContentDisposition",
    "ContentLanguage",
    "CacheControl",
    "Metadata",
)
_S3_REGION = "us-east-1"
"""Lists the buckets of all regions, and creates buckets without a location."""


def save(account: Account, folder: Path) -> None:
    """Replace the folder's state. A process that is killed meanwhile leaves the state of before."""
    new, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(new, ignore_errors=True)
    (new / "objects").mkdir(parents=True)
    state = {
        "buckets": _saved_buckets(account.aws.s3(_S3_REGION), new / "objects"),
        "regions": {region.name: _saved_region(region) for region in account.regions()},
    }
    (new / "state.msgpack").write_bytes(msgspec.msgpack.encode(state))
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(account: Account, folder: Path) -> None:
    """Read the folder's state into an account without records; a folder without one changes nothing.

    Raises ValueError for a state that cannot be read.
    """
    old = folder.with_name(f"{folder.name}.old")
    if not folder.exists() and old.exists():
        old.rename(folder)  # the process was killed between two renames of save()
    file = folder / "state.msgpack"
    if not file.exists():
        return
    try:
        state = msgspec.msgpack.decode(file.read_bytes())
        _load_buckets(account, state["buckets"], folder / "objects")
        for name, saved in state["regions"].items():
            _load_region(account.region(name), saved)
    except (msgspec.DecodeError, KeyError, OSError) as error:
        raise ValueError(
            f"the state in {folder} cannot be read ({error}): remove that folder, or give another --state-dir"
        ) from error


def _saved_region(region: Region) -> Record:
    tables: dict[str, dict[str, Record]] = {}
    for kind in _KINDS:
        with region.table(kind) as records:
            tables[kind] = {
                name: {key: value for key, value in record.items() if key not in _LIVE}
                for name, record in records.items()
                if _is_finished(record)
            }
    with region.table(ENDPOINTS) as endpoints:
        serving = [
            {
                "EndpointName": name,
                "EndpointConfigName": record["EndpointConfigName"],
                "Tags": record["_tags"],
                "CreationTime": record["CreationTime"],
            }
            for name, record in endpoints.items()
            if record["EndpointStatus"] not in _NOT_AGAIN
        ]
        # Encoded here: the records can change as soon as the lock is released.
        return {"tables": msgspec.msgpack.encode(tables), "endpoints": msgspec.msgpack.encode(serving)}


def _is_finished(record: Record) -> bool:
    return not any(key.endswith("JobStatus") and value in _UNFINISHED for key, value in record.items())


def _load_region(region: Region, saved: Record) -> None:
    for kind, records in msgspec.msgpack.decode(saved["tables"]).items():
        for record in records.values() if kind == AUTOML_JOBS else ():
            record["_request"] = request_of(record)
        with region.table(kind) as table:
            table.update(records)
    create = handler_of("CreateEndpoint")
    for endpoint in msgspec.msgpack.decode(saved["endpoints"]):
        created = endpoint.pop("CreationTime")
        try:
            if create is not None:
                create(region, endpoint)
        except ServiceFailure as failure:
            log.warning("the endpoint %s is not kept: %s", endpoint["EndpointName"], failure)
            continue
        with region.table(ENDPOINTS) as endpoints:
            endpoints[endpoint["EndpointName"]]["CreationTime"] = created


def _saved_buckets(s3: S3Client, folder: Path) -> list[Record]:
    buckets = []
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        location: str | None = s3.get_bucket_location(Bucket=name)["LocationConstraint"]  # None is us-east-1
        objects = list(_saved_objects(s3, name, folder))
        buckets.append({"name": name, "region": location or _S3_REGION, "objects": objects})
    return buckets


def _saved_objects(s3: S3Client, bucket: str, folder: Path) -> Iterator[Record]:
    """Copy a bucket's objects into numbered files of the folder, which has those of other buckets already."""
    (folder / bucket).mkdir()
    number = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for listed in page.get("Contents", []):
            number += 1
            answer: dict[str, Any] = {**s3.get_object(Bucket=bucket, Key=listed["Key"])}
            with (folder / bucket / str(number)).open("wb") as file:
                shutil.copyfileobj(answer["Body"], file)
            tags = s3.get_object_tagging(Bucket=bucket, Key=listed["Key"])["TagSet"]
            yield {
                "file": f"{bucket}/{number}",
                "tags": [{"Key": tag["Key"], "Value": tag["Value"]} for tag in tags],
                "put": {
                    "Key": listed["Key"],
                    **{name: answer[name] for name in _HEADERS if answer.get(name)},
                },
            }


def _load_buckets(account: Account, buckets: list[Record], folder: Path) -> None:
    for bucket in buckets:
        name, region = bucket["name"], bucket["region"]
        s3 = account.aws.s3(region)
        location: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=name, **(location if region != _S3_REGION else {}))
        for entry in bucket["objects"]:
            with (folder / entry["file"]).open("rb") as file:
                s3.put_object(Bucket=name, Body=file, **entry["put"])
            if entry["tags"]:
                s3.put_object_tagging(Bucket=name, Key=entry["put"]["Key"], Tagging={"TagSet": entry["tags"]})
