"""Settings of a batch's invocations, and the bounds of its memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_sm_plugin.invoke.request import MODEL_LOAD_SECONDS
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions

WAITING_BYTES = 4 * 1024 * 1024
"""Payloads waiting in queues, over all models; each model may have one payload and one piece of its input more. Enough
for eight thousand payloads of 128 bytes, half a second of work; more takes memory and sends nothing sooner."""

OVERHEAD = 400
"""Bytes of memory that a payload, or a result, takes beside its body: its own objects and entries of queues, measured
with short bodies."""

UNWRITTEN_BYTES = 32 * 1024 * 1024
"""Results in memory that are not in S3 yet; above this limit no payload is sent. Four times ``FLUSH_BYTES``, so that a
slow write holds nothing up."""

FLUSH_BYTES = 8 * 1024 * 1024
"""Results that are written at once, without waiting for the next checkpoint: large enough for one request to S3 to be
cheap, small enough to be resent."""

READERS = 32
"""Inputs of one model that are read at the same time: enough for small objects to follow each other without a pause.
More take connections from other models."""

SMALL, SMALL_READERS = 65_536, 24
"""Size up to which an input is small, in bytes, and how many small inputs are read at the same time, over all models. A
connection with TLS takes a quarter of a megabyte on asyncio's own loop; 24 read 800 inputs a second at 30 ms each, more
than one process can do."""

OPEN_INPUTS = 512
"""Inputs that are read, invoked or written at the same time; each model may have one more. Each takes some kilobytes;
fewer keep small inputs waiting for the next checkpoint."""

CHECKPOINT_SECONDS = 0.4
"""Seconds between writes of results. With the writes' own time, a killed task repeats about half a second of work;
shorter, the two objects of each write cost more than 3 % of the CPU and make a journal that takes long to read."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Settings of a batch's invocations. The repr shows no custom attributes: they are sensitive.

    :param gunzip: whether the inputs are compressed
    :param custom_attributes: template over the fields of the input's key, ``fields``, ``source`` and ``first_record``
    :param fields: e.g. ``run``
    :param keep_attributes: whether the responses' CustomAttributes are kept in a file beside the output
    :param max_concurrent_transforms: limit of invocations in flight
    :param max_warm_models: limit of models that are loading or warm; None adapts to the endpoint
    :param attempts: limit of invocations of one payload, without those that found its model loading, or were throttled
        while other payloads succeeded
    :param payload_seconds: how long a payload is retried
    :param model_load_seconds: how long to wait for a cold model
    :param isolate_bad_records: halve a payload that the model refuses, until only the bad records fail
    :param prefix_ends_in_slash: whether the endpoint's model prefix does; None when unknown
    :param error_text_limit: characters of a container's error text in a row of errors; 0 leaves the text out
    :param checkpoint_seconds: interval between writes of results; what was answered since is invoked again after a kill
    """

    endpoint_name: str
    content_type: str | None = None
    accept: str | None = None
    target_variant: str | None = None
    split: SplitOptions = field(default_factory=SplitOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    gunzip: bool = False
    custom_attributes: str | None = field(default=None, repr=False)
    fields: Mapping[str, str] = field(default_factory=dict)
    keep_attributes: bool = False
    max_concurrent_transforms: int = 64
    max_warm_models: int | None = None
    attempts: int = 5
    payload_seconds: float = 600.0
    model_load_seconds: float = MODEL_LOAD_SECONDS
    isolate_bad_records: bool = False
    prefix_ends_in_slash: bool | None = None
    error_text_limit: int = 1_000
    checkpoint_seconds: float = CHECKPOINT_SECONDS
