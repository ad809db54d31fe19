"""What a plan would send, told without sending anything: counted where it can be, else estimated from samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import starmap

from airflow_sm_plugin.core.text import duration
from airflow_sm_plugin.invoke.request import DEFAULT_PAYLOAD_BYTES

_SHOWN = 20
_RATES = (100, 1_000)
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1_024
_WHOLE = 100
"""From so many on a number is shown without decimals."""


@dataclass(frozen=True)
class Sample:
    """What was seen of some inputs' beginnings.

    :param records: lines that are not empty
    :param text: bytes that hold them
    :param stored: bytes of the objects that held these: fewer where they are compressed
    """

    records: int = 0
    text: int = 0
    stored: int = 0

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.records + other.records, self.text + other.text, self.stored + other.stored)


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How inputs become payloads, in Batch Transform's words."""

    split_type: str = "Line"
    batch_strategy: str = "SingleRecord"
    max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES

    @property
    def needs_sample(self) -> bool:
        """Whether the number of payloads depends on what the inputs hold."""
        return self.split_type != "None"

    def payloads(self, size: int | None, sample: Sample) -> float:
        """Return how many payloads come of an input.

        :param size: bytes, None where nobody knows: such an input counts as one payload
        """
        if size is None or (size and not (self.needs_sample and sample.stored)):
            return 1
        if not size:
            return 0
        records = size * sample.records / sample.stored
        if self.batch_strategy == "SingleRecord":
            return max(1, records)
        text = size * sample.text / sample.stored
        return max(1, min(records, math.ceil(text / self.max_payload_bytes)))


@dataclass(frozen=True)
class ModelEstimate:
    """What one model would get."""

    target_model: str
    inputs: int
    bytes: int
    payloads: float
    shards: int
    missing: bool


@dataclass(frozen=True, kw_only=True)
class PlanEstimate:
    """What a plan would hold.

    :param carried: inputs that are done already and left out
    :param models: each with what it would get
    :param shard_bytes: of each shard
    :param sampled: inputs whose beginning was read to estimate payloads; None where they are counted
    """

    endpoint_name: str
    carried: int
    models: Sequence[ModelEstimate]
    shard_bytes: Sequence[int]
    splitting: Splitting
    sampled: int | None

    @property
    def payloads(self) -> float:
        """Payloads in all."""
        return sum(model.payloads for model in self.models)

    def lines(self) -> list[str]:
        """Return it as a table of plain text."""
        facts = [
            ("endpoint", self.endpoint_name),
            ("inputs", f"{sum(model.inputs for model in self.models):,}{self._carried()}"),
            ("bytes", in_bytes(sum(model.bytes for model in self.models))),
            ("models", f"{len(self.models):,}{self._missing()}"),
            ("payloads", self._payloads()),
            ("shards", self._shards()),
            ("time", self._time()),
        ]
        head = ["nothing is invoked and nothing written; the plan would be:"]
        return [*head, *(f"  {name:<10}{value}" for name, value in facts), "", *self._table()]

    def _carried(self) -> str:
        return f", besides {self.carried:,} that are done already" if self.carried else ""

    def _missing(self) -> str:
        missing = sum(model.missing for model in self.models)
        return f", of which {missing:,} have no artefact" if missing else ""

    def _payloads(self) -> str:
        if self.sampled is None:
            return f"{self.payloads:,.0f}, one for each input"
        if not self.sampled and self.models:
            return "unknown: no input could be read"
        what = f"{self.splitting.batch_strategy}, estimated from the beginning of {self.sampled:,} inputs"
        return f"about {self.payloads:,.0f} ({what})"

    def _shards(self) -> str:
        if not self.shard_bytes:
            return "0"
        least, most = in_bytes(min(self.shard_bytes)), in_bytes(max(self.shard_bytes))
        return f"{len(self.shard_bytes):,}, of {least} to {most}"

    def _time(self) -> str:
        if self.sampled == 0 and self.models:
            return "unknown"
        slow, fast = (f"{duration(self.payloads / rate)} at {rate:,}" for rate in _RATES)
        return f"about {slow} payloads a second over all shards, {fast}; the loading of models comes on top"

    def _table(self) -> list[str]:
        largest = sorted(self.models, key=lambda model: (-model.bytes, -model.inputs, model.target_model))
        width = max((len(model.target_model) for model in largest[:_SHOWN]), default=0)
        width = max(width, len("target model"))
        rows = [_row("target model", "inputs", "bytes", "payloads", "shards", width=width)]
        for model in largest[:_SHOWN]:
            payloads = "?" if self.sampled == 0 else f"{model.payloads:,.0f}"
            row = _row(
                model.target_model,
                f"{model.inputs:,}",
                in_bytes(model.bytes),
                payloads,
                f"{model.shards:,}",
                width=width,
            )
            rows.append(f"{row}  no artefact" if model.missing else row)
        if len(largest) > _SHOWN:
            rows.append(f"  and {len(largest) - _SHOWN:,} more")
        return rows


def _row(model: str, inputs: str, size: str, payloads: str, shards: str, *, width: int) -> str:
    return f"  {model:<{width}}{inputs:>12}{size:>14}{payloads:>14}{shards:>9}"


def payloads_of(sizes: Iterable[int | None], splitting: Splitting, sample: Sample) -> float:
    """Return how many payloads come of these inputs."""
    return math.fsum(starmap(splitting.payloads, ((size, sample) for size in sizes)))


def in_bytes(size: float) -> str:
    """Return a number of bytes for people: ``1.5 MiB``."""
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    text = f"{size:,.0f}" if unit == 0 or size >= _WHOLE else f"{size:.1f}"
    return f"{text} {_UNITS[unit]}"
