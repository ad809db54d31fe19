"""Name the target model and the output of each input of a multi-model batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from airflow_sm_plugin.batches.folder import ATTRIBUTES, STATE
from airflow_sm_plugin.batches.inputs import TARGET_MODEL, BatchInput
from airflow_sm_plugin.batches.templates import check_template, fields_of, render
from airflow_sm_plugin.core.header_values import check_header
from airflow_sm_plugin.core.s3 import LONGEST_KEY, S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri

RELATIVE = "{relative}"

_RESERVED = f"{STATE}/"


@dataclass(frozen=True, kw_only=True)
class EntryNames:
    """The templates of a batch's names.

    :param outputs: ``s3://bucket/prefix`` of the results
    :param target_model: template over :func:`~airflow_sm_plugin.batches.templates.fields_of` the key, for inputs whose
        model no manifest gives
    :param output_name: template over the same fields and ``{target_model}``
    :param many_buckets: the inputs are in more than one bucket: then ``{relative}`` begins with the bucket
    """

    outputs: str
    target_model: str | None = None
    output_name: str = RELATIVE
    many_buckets: bool = False

    def checked(self) -> EntryNames:
        """Return the names themselves if the templates are well formed.

        :raises InvalidRequest: a template is not
        """
        if self.target_model is not None:
            check_template(self.target_model, what="target_model")
        check_template(self.output_name, what="output_name")
        return self

    def named(self, entry: BatchInput) -> BatchInput:
        """Return the input with its target model and output name.

        :raises InvalidRequest: the input has no model, or a name is not permitted; the message names the input
        """
        uri = S3Uri.parse(entry.source)
        relative = f"{uri.bucket}/{entry.relative or uri.key}" if self.many_buckets else entry.relative
        fields = fields_of(uri.key, relative=relative)
        model = self._model(entry, fields)
        output = render(self.output_name, {**fields, "target_model": model}, what="output_name")
        self._check_output(output, entry)
        return dataclasses.replace(entry, target_model=model, output=output, relative=relative)

    def _model(self, entry: BatchInput, fields: dict[str, str]) -> str:
        model = entry.target_model
        if model is None and self.target_model is not None:
            model = render(self.target_model, fields, what="target_model")
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
