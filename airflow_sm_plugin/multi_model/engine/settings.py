"""How a batch invokes its models, and what bounds its memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from airflow_sm_plugin.core.names import joined_to
from airflow_sm_plugin.invoke.request import MODEL_LOAD_SECONDS
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions

WAITING_BYTES = 8 * 1024 * 1024
"""Of payloads that wait in queues, over all models; each model may have one payload and one chunk more."""

OVERHEAD = 400
"""Bytes that a payload, or a result, takes beside its body."""

UNWRITTEN_BYTES = 32 * 1024 * 1024
"""Of results that are not written down yet: nothing is sent while there are more."""

FLUSH_BYTES = 8 * 1024 * 1024
"""Of results that are written down without waiting for the next checkpoint."""

READERS = 32
"""Inputs of one model that are read at the same time, where they are small."""

SMALL, SMALL_READERS = 65_536, 48
"""Bytes up to which an input is small, and how many such are read at the same time, over all models: a connection with
TLS takes a quarter of a megabyte."""

OPEN_INPUTS = 512
"""Inputs that are being read, invoked or written at the same time, but for one of each model."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How a batch invokes its models. The repr shows no custom attributes: they are sensitive.

    :param gunzip: whether the inputs are compressed
    :param custom_attributes: template over the fields of the input's key, ``fields``, ``source`` and ``first_record``
    :param fields: e.g. ``run``
    :param keep_attributes: whether the responses' CustomAttributes are kept in a file beside the output
    :param max_concurrent_transforms: invocations in flight at the same time at most
    :param max_warm_models: models loading or warm at the same time at most; None finds it out
    :param attempts: invocations of one payload at most, those that found its model loading not counted
    :param payload_seconds: how long a payload is tried again
    :param model_load_seconds: how long a cold model is waited for
    :param isolate_bad_records: halve a payload that the model refuses, until only the bad records fail
    :param prefix_ends_in_slash: whether the endpoint's model prefix does; None where that is not known
    :param error_text_limit: characters of a container's error text that a row shows; 0 shows none
    :param checkpoint_seconds: results are written down so often
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
    checkpoint_seconds: float = 1.0

    def name_to_send(self, target_model: str) -> str:
        """Return a target model's name such that the endpoint's prefix and it have exactly one slash between them."""
        return joined_to(target_model, prefix_ends_in_slash=self.prefix_ends_in_slash)

    def output_for(self, content_type: str | None) -> OutputOptions:
        """Return what becomes of answers to an input of its own content type; None is the batch's.

        :raises InvalidRequest: its records and answers cannot be joined
        """
        if content_type is None or self.output.join_source == "None":
            return self.output
        return replace(self.output, content_type=content_type).checked(self.split.split_type)
