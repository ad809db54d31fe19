"""How endpoints come and go, in the background: real containers, real statuses, settable times.

Blue/green: the instances of the old configuration serve until the new ones answer. An update whose containers
do not come up leaves the endpoint InService with the old configuration, as SageMaker's rollback does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from airflow_sm_plugin.local.containers import ContainerFailed
from airflow_sm_plugin.local.endpoints import KIND, LiveEndpoint, tell_deleted, tell_serving
from airflow_sm_plugin.local.pipelines import Pipeline
from airflow_sm_plugin.local.state import Record, Region, now

log = logging.getLogger(__name__)

_SERVICE_FAILED = "Request to service failed. If failure persists after retry, contact customer support."


def create(region: Region, live: LiveEndpoint) -> None:
    """Bring a new endpoint up: InService, or Failed with the reason."""

    def work() -> None:
        least = region.settings.endpoint_creating_seconds
        reason = _attempt(region, live.start, least)
        if reason is None:
            _settle(region, live.name, "InService", _live=live)
            tell_serving(region, live.name)
        else:
            _settle(region, live.name, "Failed", FailureReason=reason)

    region.in_background(f"create endpoint {live.name}", work)


def replace(region: Region, old: LiveEndpoint, new: LiveEndpoint) -> None:
    """Put ``new`` in the place of ``old``, or leave ``old`` where it is."""

    def work() -> None:
        reason = _attempt(region, new.start, region.settings.endpoint_updating_seconds)
        if reason is not None:
            _settle(region, old.name, "InService", FailureReason=reason)
            return
        config_name = new.config["EndpointConfigName"]
        _settle(region, new.name, "InService", _live=new, EndpointConfigName=config_name)
        tell_serving(region, new.name)
        old.retire(timeout=_longest_invocation(region, old))

    region.in_background(f"update endpoint {old.name}", work)


def rescale(region: Region, live: LiveEndpoint, wanted: Mapping[str, Record]) -> None:
    """Give variants (by name) the DesiredWeight and DesiredInstanceCount wanted."""
    removed: list[Pipeline] = []

    def scale() -> None:
        for name, change in wanted.items():
            variant = live.variants[name]
            removed.extend(variant.scale_to(int(change.get("DesiredInstanceCount", variant.instance_count))))
            variant.weight = float(change.get("DesiredWeight", variant.weight))

    def work() -> None:
        reason = _attempt(region, scale, region.settings.endpoint_updating_seconds)
        _settle(region, live.name, "InService", FailureReason=reason)
        if reason is None:
            tell_serving(region, live.name)
        for pipeline in removed:
            pipeline.retire(timeout=_longest_invocation(region, live))

    region.in_background(f"scale endpoint {live.name}", work)


def delete(region: Region, name: str, live: LiveEndpoint | None) -> None:
    """End an endpoint's instances, then forget it."""

    def work() -> None:
        least = region.settings.endpoint_deleting_seconds
        _attempt(region, lambda: live.retire(timeout=0) if live else None, least)
        with region.table(KIND) as endpoints:
            endpoints.pop(name, None)
        tell_deleted(region, name)

    region.in_background(f"delete endpoint {name}", work)


def _longest_invocation(region: Region, live: LiveEndpoint) -> float:
    """Return for how many seconds an instance taken out of service may still be answering."""
    settings = region.settings
    return settings.async_invocation_timeout_seconds if live.is_async else settings.invocation_timeout_seconds


def _attempt(region: Region, work: Callable[[], None], seconds: float) -> str | None:
    """Do the work, taking ``seconds`` at least; return why it failed, None when it did not."""
    started = time.monotonic()
    reason = None
    try:
        work()
    except ContainerFailed as error:
        reason = str(error)
    except Exception:
        log.exception("an endpoint's containers could not be started")
        reason = _SERVICE_FAILED
    region.closed.wait(max(started + seconds - time.monotonic(), 0))
    return reason


def _settle(region: Region, name: str, status: str, **changes: object) -> None:
    """Set the endpoint's status and the given keys; what is being deployed is no more pending."""
    with region.table(KIND) as endpoints:
        record = endpoints.get(name)
        if record is not None:
            record.update({"FailureReason": None, "_pending": None, **changes})
            record.update({"EndpointStatus": status, "LastModifiedTime": now()})
