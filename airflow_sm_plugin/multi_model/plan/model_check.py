"""Look whether the artefacts of target models are there, before the endpoint is asked for the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.outcome import Sight
from airflow_sm_plugin.batches.listing import listed_page
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import AccessDenied
from airflow_sm_plugin.hooks.multi_model_endpoint import EndpointModels

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

MOST_LOOKS = 1_000
"""Models that are looked at one by one; of more the prefix is listed, which tells of a thousand objects at once."""

LOOKS_AT_ONCE = 32


async def missing_models(s3: S3Objects, endpoint: EndpointModels, models: Sequence[str]) -> tuple[str, ...]:
    """Return those target models of which an artefact is not there, in the order of their names.

    Where nobody may look, none is taken for missing, and the log tells so.

    :raises ServiceError: S3 refused otherwise, or did not answer at any attempt
    """
    missing: set[str] = set()
    names = {model.lstrip("/"): model for model in models}
    for prefix in endpoint.prefixes if names else ():
        absent = _looked_for if len(names) <= MOST_LOOKS else _listed
        try:
            missing |= {names[name] for name in await absent(s3, prefix, names)}
        except AccessDenied as error:
            log.info("the models below %s are not looked for: %s", prefix, error)
    return tuple(sorted(missing))


async def _looked_for(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    """Return which of the names below the prefix are no objects, by a HeadObject each."""
    asked = list(names)
    found = await side_by_side(s3.stat, (f"{prefix}{name}" for name in asked), at_once=LOOKS_AT_ONCE)
    if forbidden := found.count(Sight.FORBIDDEN):
        log.info(
            "%d models below %s cannot be looked at: S3 answered 403, as it does without s3:GetObject, and for what is "
            "missing without s3:ListBucket; the endpoint has its own role, so they are tried",
            forbidden,
            prefix,
        )
    return {name for name, seen in zip(asked, found, strict=True) if seen is Sight.ABSENT}


async def _listed(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    """Return which of the names below the prefix are no objects, by a listing up to the last of them."""
    uri, absent = S3Uri.parse(prefix), set(names)
    last = f"{uri.key}{max(absent)}"
    after: str | None = ""
    while after is not None and after < last:
        page = await listed_page(s3, uri, after)
        absent.difference_update(listed.key.removeprefix(uri.key) for listed in page.objects)
        after = page.next_start_after
    return absent
