"""Plan without writing or invoking anything, and estimate what would be sent."""

from __future__ import annotations

import functools
import itertools
import operator
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.exceptions import AccessDenied, InputNotFound
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.payloads.whole_lines import BLANK
from airflow_sm_plugin.multi_model.plan.draft import Draft, spool_inputs
from airflow_sm_plugin.multi_model.plan.estimate import (
    ModelEstimate,
    PlanEstimate,
    Sample,
    Splitting,
    payloads_of,
)
from airflow_sm_plugin.multi_model.plan.make import earlier_plans
from airflow_sm_plugin.multi_model.plan.packing import Piece
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import PlanStore

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_SAMPLES = 20
_SAMPLE_BYTES = 262_144
_GZIP = 31
"""zlib's word for a gzip header."""


async def estimate_plan(
    s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels | None, splitting: Splitting
) -> PlanEstimate:
    """Return what :func:`~airflow_sm_plugin.multi_model.plan.make.make_plan` would plan; errors as there."""
    settings = settings.checked().apart_from(endpoint)
    plans = PlanStore(s3, settings.folder)
    with PlanSpool.opened() as spool:
        await spool_inputs(s3, settings, spool, endpoint)
        latest = await plans.latest()
        before = None if latest is None else await plans.stored(latest.plan_location)
        earlier = () if settings.restart else earlier_plans(settings, latest, before)
        draft = await Draft.of(s3, settings, endpoint, spool, earlier)
        samples = await _sampled(s3, spool) if splitting.needs_sample else []
        return PlanEstimate(
            endpoint_name=settings.endpoint_name,
            carried=draft.carried,
            models=list(_models(draft, splitting, sum(samples, Sample()))),
            shard_bytes=[_bytes_of(spool, pieces) for pieces in draft.packed],
            splitting=splitting,
            sampled=len(samples) if splitting.needs_sample else None,
        )


def _models(draft: Draft, splitting: Splitting, sample: Sample) -> Iterator[ModelEstimate]:
    shards = Counter(
        model
        for pieces in draft.packed
        for model, _ in itertools.groupby(pieces, operator.attrgetter("target_model"))
    )
    missing = frozenset(draft.missing)
    for model in draft.models:
        name = model.target_model
        yield ModelEstimate(
            target_model=name,
            inputs=model.inputs,
            bytes=sum(size or 0 for size in draft.spool.sizes_of(name)),
            payloads=payloads_of(draft.spool.sizes_of(name), splitting, sample),
            shards=shards[name],
            missing=name in missing,
        )


def _bytes_of(spool: PlanSpool, pieces: Sequence[Piece]) -> int:
    return sum(size or 0 for piece in pieces for size in spool.sizes_of(piece.target_model, piece))


async def _sampled(s3: S3Objects, spool: PlanSpool) -> list[Sample]:
    """Read the beginnings of some inputs, spread over all."""
    found = await side_by_side(functools.partial(_sample, s3), spool.some(_SAMPLES), at_once=_SAMPLES)
    return [sample for sample in found if sample is not None]


async def _sample(s3: S3Objects, one: BatchInput) -> Sample | None:
    try:
        body = await s3.read(one.source, first_bytes=_SAMPLE_BYTES)
    except (AccessDenied, InputNotFound) as error:
        log.info("the input %s is no sample: %s", one.source, error)
        return None
    text = _unpacked(body)
    return Sample(sum(1 for line in text.split(b"\n") if line.strip(BLANK)), len(text), len(body))


def _unpacked(body: bytes) -> bytes:
    """Return the beginning of what was compressed with gzip; what was not is returned as it is."""
    try:
        return zlib.decompressobj(_GZIP).decompress(body, 16 * _SAMPLE_BYTES)
    except zlib.error:
        return body
