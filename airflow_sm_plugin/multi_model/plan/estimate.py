"""Estimate a plan for ``plan_only``: the plan that would be made, and the number of payloads it would send.

Nothing is written or invoked. Payloads are counted if each input is one, else estimated from samples.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.text import duration
from airflow_sm_plugin.exceptions import AccessDenied, InputNotFound
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.payloads.lines import BLANK
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from airflow_sm_plugin.multi_model.payloads.source import GZIP_WINDOW_BITS
from airflow_sm_plugin.multi_model.plan.draft import Draft, spool_inputs
from airflow_sm_plugin.multi_model.plan.make import earlier_plans
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import PlanStore

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_SAMPLES = 20
"""Inputs sampled, spread over the batch and read at the same time: 5 MB in all. More give a better mean where records
differ in size, and take more connections and memory."""

_SAMPLE_BYTES = 262_144
"""Bytes read of each, and a sixteenth of the limit of decompressed text: 256 records of 1 KB."""


_MODELS_SHOWN = 20
"""Rows of the table in the log, the largest models first: they decide how long the batch takes."""

_RATES = (100, 1_000)
"""Payloads a second: 64 in flight at 640 ms each, and at 64 ms. The endpoint's own rate is not known before."""

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_WITHOUT_DECIMALS = 100  # and above


class Sample(NamedTuple):
    """Counts over the beginnings of some inputs.

    :param records: lines that are not blank
    :param text: bytes of these beginnings, decompressed
    :param stored: bytes of these beginnings as stored in S3: fewer if they are compressed
    """

    records: int = 0
    text: int = 0
    stored: int = 0


@dataclass(frozen=True)
class ModelEstimate:
    """The part of one model in a plan."""

    target_model: str
    inputs: int
    bytes: int
    payloads: float
    shards: int
    missing: bool


@dataclass(frozen=True, kw_only=True)
class PlanEstimate:
    """The contents of a plan that was not made.

    :param carried: inputs that are finished already and left out
    :param shard_bytes: of each shard
    :param sampled: inputs whose beginning was read to estimate payloads; None if payloads are counted
    """

    endpoint_name: str
    carried: int
    models: Sequence[ModelEstimate]
    shard_bytes: Sequence[int]
    batch_strategy: str
    sampled: int | None

    @property
    def payloads(self) -> float:
        return sum(model.payloads for model in self.models)

    def lines(self) -> list[str]:
        """Format the estimate as a table of plain text."""
        inputs = sum(model.inputs for model in self.models)
        missing = sum(model.missing for model in self.models)
        facts = {
            "endpoint": self.endpoint_name,
            "inputs": f"{inputs:,}{f', besides {self.carried:,} that are done already' if self.carried else ''}",
            "bytes": in_bytes(sum(model.bytes for model in self.models)),
            "models": f"{len(self.models):,}{f', of which {missing:,} have no artefact' if missing else ''}",
            "payloads": self._payloads(),
            "shards": self._shards(),
            "time": self._time(),
        }
        head = "nothing is invoked and nothing written; the plan would be:"
        return [head, *(f"  {name:<10}{value}" for name, value in facts.items()), "", *self._model_rows()]

    @property
    def _is_unknown(self) -> bool:
        return self.sampled == 0 and bool(self.models)

    def _payloads(self) -> str:
        if self.sampled is None:
            return f"{self.payloads:,.0f}, one for each input"
        if self._is_unknown:
            return "unknown: no input could be read"
        source = f"{self.batch_strategy}, estimated from the beginning of {self.sampled:,} inputs"
        return f"about {self.payloads:,.0f} ({source})"

    def _shards(self) -> str:
        if not self.shard_bytes:
            return "0"
        least, most = in_bytes(min(self.shard_bytes)), in_bytes(max(self.shard_bytes))
        return f"{len(self.shard_bytes):,}, of {least} to {most}"

    def _time(self) -> str:
        if self._is_unknown:
            return "unknown"
        slow, fast = (f"{duration(self.payloads / rate)} at {rate:,}" for rate in _RATES)
        return f"about {slow} payloads a second over all shards, {fast}; the loading of models comes on top"

    def _model_rows(self) -> list[str]:
        largest = sorted(self.models, key=lambda model: (-model.bytes, -model.inputs, model.target_model))
        shown, more = largest[:_MODELS_SHOWN], len(largest) - _MODELS_SHOWN
        width = max(map(len, ("target model", *(model.target_model for model in shown))))
        rows = [f"  {'target model':<{width}}{'inputs':>12}{'bytes':>14}{'payloads':>14}{'shards':>9}"]
        for model in shown:
            payloads = "?" if self._is_unknown else f"{model.payloads:,.0f}"
            rows.append(
                f"  {model.target_model:<{width}}{model.inputs:>12,}{in_bytes(model.bytes):>14}{payloads:>14}"
                f"{model.shards:>9,}{'  no artefact' if model.missing else ''}"
            )
        return [*rows, f"  and {more:,} more"] if more > 0 else rows


def in_bytes(size: float) -> str:
    """Format a number of bytes, e.g. ``1.5 MiB``."""
    unit = min((max(int(size), 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    size /= 1_024**unit
    text = f"{size:,.0f}" if unit == 0 or size >= _WITHOUT_DECIMALS else f"{size:.1f}"
    return f"{text} {_UNITS[unit]}"


def payloads_of(sizes: Iterable[int | None], options: SplitOptions, sample: Sample) -> float:
    """Estimate the number of payloads of inputs.

    :param sizes: bytes of each input; an unknown size, None, counts as one payload
    """
    return math.fsum(_payloads(size, options, sample) for size in sizes)


def _payloads(size: int | None, options: SplitOptions, sample: Sample) -> float:
    if size is None or (size and (options.split_type == "None" or not sample.stored)):
        return 1
    if not size:
        return 0
    records = size * sample.records / sample.stored
    if options.batch_strategy == "SingleRecord":
        return max(1, records)
    text = size * sample.text / sample.stored
    return max(1, min(records, math.ceil(text / options.max_payload_bytes)))


async def estimate_plan(
    s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels | None, options: SplitOptions
) -> PlanEstimate:
    """Estimate the plan that :func:`~airflow_sm_plugin.multi_model.plan.make.make_plan` would make; errors as there."""
    settings = settings.checked(endpoint)
    store = PlanStore(s3, settings.folder)
    with PlanSpool.opened() as spool:
        await spool_inputs(s3, settings, spool, endpoint)
        latest = await store.latest()
        earlier = () if settings.restart else earlier_plans(settings, latest, await store.stored(latest))
        draft = await Draft.of(s3, settings, endpoint, spool, earlier)
        samples = None if options.split_type == "None" else await _samples(s3, spool)
        return PlanEstimate(
            endpoint_name=settings.endpoint_name,
            carried=draft.carried,
            models=list(
                _model_estimates(draft, options, Sample(*map(sum, zip(*samples or (), strict=True))))
            ),
            shard_bytes=[
                sum(size or 0 for piece in pieces for size in spool.sizes_of(piece))
                for pieces in draft.packed
            ],
            batch_strategy=options.batch_strategy,
            sampled=None if samples is None else len(samples),
        )


def _model_estimates(draft: Draft, options: SplitOptions, sample: Sample) -> Iterator[ModelEstimate]:
    shards = Counter(model for pieces in draft.packed for model in {piece.target_model for piece in pieces})
    missing = frozenset(draft.missing)
    for model in draft.models:
        name = model.target_model
        yield ModelEstimate(
            target_model=name,
            inputs=model.count,
            bytes=sum(size or 0 for size in draft.spool.sizes_of(model)),
            payloads=payloads_of(draft.spool.sizes_of(model), options, sample),
            shards=shards[name],
            missing=name in missing,
        )


async def _samples(s3: S3Objects, spool: PlanSpool) -> list[Sample]:
    samples = await side_by_side(functools.partial(_sample, s3), spool.spread(_SAMPLES), at_once=_SAMPLES)
    return [sample for sample in samples if sample is not None]


async def _sample(s3: S3Objects, entry: BatchInput) -> Sample | None:
    try:
        body = await s3.read(entry.source, first_bytes=_SAMPLE_BYTES)
    except (AccessDenied, InputNotFound) as error:
        log.info("the input %s cannot be sampled: %s", entry.source, error)
        return None
    try:
        text = zlib.decompressobj(GZIP_WINDOW_BITS).decompress(body, 16 * _SAMPLE_BYTES)
    except zlib.error:
        text = body  # not compressed
    return Sample(sum(1 for line in text.split(b"\n") if line.strip(BLANK)), len(text), len(body))
