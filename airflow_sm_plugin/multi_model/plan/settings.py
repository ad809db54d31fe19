"""The settings of a multi-model plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.inputs import MANIFEST_FILE, MULTI_MODEL_LIMITS, InputSource
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.core.names import check_name, digest
from airflow_sm_plugin.core.s3 import S3Uri, check_inputs_apart
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.plan.naming import RELATIVE, EntryNames
from airflow_sm_plugin.multi_model.state.folder import MultiModelFolder

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The arguments of a plan.

    :param outputs: ``s3://bucket/prefix`` of the results, apart from the inputs
    :param owner: identifies the task instance that plans, over all its tries
    :param target_model: template for inputs whose model no manifest gives
    :param output_name: template of the results' names below the outputs
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
    output_name: str = RELATIVE
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
        self.names().checked()
        if not is_manifest:
            check_inputs_apart(source.location, self.written_locations(endpoint))
        return replace(self, source=source)

    def written_locations(self, endpoint: EndpointModels | None) -> dict[str, str]:
        """Return the prefixes below which no input is permitted, each by a name for messages."""
        state = {} if self.state_prefix is None else {"the state_prefix": self.state_prefix}
        return {"the outputs": self.outputs, **state, **({} if endpoint is None else endpoint.places)}

    def names(self, *, many_buckets: bool = False) -> EntryNames:
        return EntryNames(
            outputs=self.outputs,
            target_model=self.target_model,
            output_name=self.output_name,
            many_buckets=many_buckets,
        )

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
