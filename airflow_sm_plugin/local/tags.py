"""AddTags, ListTags, DeleteTags for everything that has an ARN here; a record keeps its tags under ``_tags``."""

from __future__ import annotations

from airflow_sm_plugin.local.errors import ValidationFailure
from airflow_sm_plugin.local.operations import NotOurs, Params, operation
from airflow_sm_plugin.local.state import Record, Region

_MOST = 50


@operation("AddTags")
def add_tags(region: Region, params: Params) -> Record:
    """Add tags; one of a key already there replaces it."""
    with region.lock:
        record = _tagged(region, params["ResourceArn"])
        tags = {one["Key"]: one for one in [*record.get("_tags", []), *params["Tags"]]}
        if len(tags) > _MOST:
            raise ValidationFailure(f"A resource has at most {_MOST} tags, not {len(tags)}.")
        record["_tags"] = list(tags.values())
        return {"Tags": record["_tags"]}


@operation("ListTags")
def list_tags(region: Region, params: Params) -> Record:
    """List a resource's tags, all on one page: there are never more than a page holds."""
    with region.lock:
        return {"Tags": list(_tagged(region, params["ResourceArn"]).get("_tags", []))}


@operation("DeleteTags")
def delete_tags(region: Region, params: Params) -> Record:
    """Remove tags by key; a key that is not there is fine."""
    with region.lock:
        record = _tagged(region, params["ResourceArn"])
        record["_tags"] = [one for one in record.get("_tags", []) if one["Key"] not in params["TagKeys"]]
    return {}


def _tagged(region: Region, arn: str) -> Record:
    record = region.with_arn(arn)
    if record is None:
        raise NotOurs(arn)
    return record
