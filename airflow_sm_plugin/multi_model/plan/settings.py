"""The settings of a multi-model plan, and the names that they give to its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.folder import ATTRIBUTES, STATE
from airflow_sm_plugin.batches.inputs import (
    MANIFEST_FILE,
    MULTI_MODEL_LIMITS,
    TARGET_MODEL,
    BatchInput,
    InputSource,
)
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.batches.templates import check_template, fields_of, render
from airflow_sm_plugin.core.header_values import check_header
from airflow_sm_plugin.core.names import check_name, digest
from airflow_sm_plugin.core.s3 import LONGEST_KEY, S3Uri, check_inputs_apart
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri
from airflow_sm_plugin.multi_model.state.folder import MultiModelFolder

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels

_RESERVED = f"{STATE}/"


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The arguments of a plan.

    :param outputs: ``s3://bucket/prefix`` of the results, apart from the inputs
    :param owner: identifies the task instance that plans, over all its tries
    :param target_model: template over :func:`~airflow_sm_plugin.batches.templates.fields_of` the key, for inputs whose
        model no manifest gives
    :param output_name: template of the results' names below the outputs, over the same fields and ``{target_model}``
    :param max_shards: upper limit of the number of shards
    :param writer: this try of the task instance
    :param restart: another run plans everything again, not only inputs that are new, changed or not finished
    :param check_models: check that artefacts exist, if their prefix is known
    :param fail_on_missing: a missing artefact fails the plan; else the plan records it
    :param empty_ok: no inputs make an empty plan; else they are an error
    :param state_prefix: ``s3://bucket/prefix``; plans and all state are stored in ``_batch`` below it; by default the
        outputs
    """

    endpoint_name: str
    source: InputSource
    outputs: str
    owner: str
    target_model: str | None = None
    output_name: str = "{relative}"
    max_shards: int = 8
    writer: StateWriter = field(default_factory=StateWriter)
    restart: bool = False
    check_models: bool = True
    fail_on_missing: bool = False
    empty_ok: bool = False
    state_prefix: str | None = None

    def checked(self, endpoint: EndpointModels | None = None) -> PlanSettings:
        """Check every limit, and return the settings with a source that accepts target models.

        The inputs must be apart from everything that the batch and its endpoint write, and from the endpoint's models.
        A manifest's inputs are checked when the manifest is read.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
        check_name(self.endpoint_name, "endpoint name")
        if self.max_shards < 1:
            raise InvalidRequest(f"max_shards is {self.max_shards}, it must be 1 or more")
        source = replace(self.source, limits=MULTI_MODEL_LIMITS, target_models=True).checked()
        S3Uri.parse(self.outputs, name="outputs")
        if self.state_prefix is not None:
            S3Uri.parse(self.state_prefix, name="state_prefix")
        is_manifest = source.inputs_type == MANIFEST_FILE
        if not is_manifest and self.target_model is None:
            raise InvalidRequest(
                "target_model is needed to say which model an input goes to, e.g. '{stem}.tar.gz': only a manifest can "
                "say that by itself"
            )
        if self.target_model is not None:
            check_template(self.target_model, argument="target_model")
        check_template(self.output_name, argument="output_name")
        if not is_manifest:
            check_inputs_apart(source.location, self.written_locations(endpoint))
        return replace(self, source=source)

    def written_locations(self, endpoint: EndpointModels | None) -> dict[str, str]:
        """Return the prefixes below which no input is permitted, each by a name for messages."""
        state = {} if self.state_prefix is None else {"the state_prefix": self.state_prefix}
        return {"the outputs": self.outputs, **state, **({} if endpoint is None else endpoint.locations)}

    def named(self, entry: BatchInput, *, many_buckets: bool = False) -> BatchInput:
        """Return the input with its target model and output name.

        :param many_buckets: the inputs are in more than one bucket: then ``{relative}`` begins with the bucket
        :raises InvalidRequest: the input has no model, or a name is not permitted; the message names the input
        """
        uri = S3Uri.parse(entry.source)
        relative = f"{uri.bucket}/{entry.relative or uri.key}" if many_buckets else entry.relative
        fields = fields_of(uri.key, relative=relative)
        model = self._model(entry, fields)
        output = render(self.output_name, {**fields, "target_model": model}, argument="output_name")
        self._check_output(output, entry)
        return replace(entry, target_model=model, output=output, relative=relative)

    @property
    def arguments(self) -> str:
        """Digest of the arguments that make another batch.

        The number of shards is not among them, nor are ``include`` and ``exclude``: these change the inputs, and the
        remaining inputs that are finished stay finished.
        """
        return digest(
            [
                self.endpoint_name,
                self.source.location,
                self.source.inputs_type,
                self.target_model,
                self.outputs.rstrip("/"),
                self.output_name,
            ]
        )

    @property
    def folder(self) -> MultiModelFolder:
        """The folder of all plans of this batch."""
        return MultiModelFolder.below(
            self.outputs, owner=self.owner, arguments=self.arguments, state_prefix=self.state_prefix
        )

    def _model(self, entry: BatchInput, fields: dict[str, str]) -> str:
        model = entry.target_model
        if model is None and self.target_model is not None:
            model = render(self.target_model, fields, argument="target_model")
        if model is None:
            raise InvalidRequest(
                f"nothing says which model the input {entry.source} goes to: give target_model, e.g. '{{stem}}.tar.gz',"
                f" or {TARGET_MODEL!r} in its line of the manifest"
            )
        check_header(model, f"the target model of the input {entry.source}")
        return model

    def _check_output(self, output: str, entry: BatchInput) -> None:
        if not output or output.startswith(("/", _RESERVED)) or output.endswith("/"):
            raise InvalidRequest(
                f"the output name {output!r:.120} of the input {entry.source} is not allowed: it must not be empty, "
                f"not begin or end with a slash, and not begin with {_RESERVED}, where the batch keeps its state; "
                f"change output_name"
            )
        try:
            S3Uri.parse(f"{self.outputs.rstrip('/')}/{output}{ATTRIBUTES}")
        except InvalidS3Uri:
            raise InvalidRequest(
                f"the output name {output:.120}… of the input {entry.source} is too long: with what is added to it the "
                f"key has over {LONGEST_KEY} bytes, S3's limit; change output_name, or shorten the outputs' prefix"
            ) from None
