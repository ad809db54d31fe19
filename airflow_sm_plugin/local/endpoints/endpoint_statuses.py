"""Put an endpoint at rest into a status it did not come to by itself: patched, out of service, failed."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.endpoints.endpoints import KIND
from airflow_sm_plugin.local.faults.outcomes import BadOutcome, is_seconds

STATUSES = (
    "OutOfService",
    "Creating",
    "Updating",
    "SystemUpdating",
    "RollingBack",
    "InService",
    "Failed",
    "UpdateRollbackFailed",
)


def put_status(region: Region, name: str, value: object) -> bool:
    """Give an endpoint ``{"status": …, "seconds": …, "reason": …}``; say whether there is one of that name.

    :param value: after ``seconds`` the status is again what it was; without them it stays until something changes
        it. ``reason`` is the FailureReason, none when left out

    Raises BadOutcome saying what is wrong with it.
    """
    if not isinstance(value, Mapping) or set(value) - {"status", "seconds", "reason"}:
        raise BadOutcome('a status is {"status": …, "seconds": number or null, "reason": text or null}')
    if value.get("status") not in STATUSES:
        raise BadOutcome(f"status must be one of {', '.join(STATUSES)}, not {value.get('status')!r}")
    seconds = value.get("seconds")
    if seconds is not None and not is_seconds(seconds):
        raise BadOutcome(f"seconds must be a number of seconds >= 0, or null, not {seconds!r}")
    with region.table(KIND) as endpoints:
        record = endpoints.get(name)
        if record is None:
            return False
        if record.get("_pending") is not None:
            raise BadOutcome(f"endpoint {name} is being deployed: set its outcome before instead")
        before = {key: record.get(key) for key in ("EndpointStatus", "FailureReason")}
        forced = {"EndpointStatus": value["status"], "FailureReason": value.get("reason")}
        marker = object()
        record.update({**forced, "LastModifiedTime": now(), "_forced": marker})
    if seconds is not None:
        region.in_background(f"status of {name}", lambda: _restore(region, record, before, seconds))
    return True


def _restore(region: Region, record: Record, before: Record, seconds: float) -> None:
    with region.lock:
        marker, status = record["_forced"], record["EndpointStatus"]
    region.closed.wait(seconds)
    with region.lock:
        if record.get("_forced") is marker and record["EndpointStatus"] == status:
            record.update({**before, "LastModifiedTime": now()})
