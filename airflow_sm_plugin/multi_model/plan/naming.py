"""Which model an input of a multi-model batch goes to, and what its results are called."""

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
    """How inputs are named.

    :param outputs: ``s3://bucket/prefix`` of the results
    :param target_model: template over :func:`~airflow_sm_plugin.batches.templates.fields_of` the key, for inputs of
        which no manifest says the model
    :param output_name: template over the same fields and ``{target_model}``
    :param many_buckets: whether the inputs lie in more than one bucket: ``{relative}`` then begins with the bucket
    """

    outputs: str
    target_model: str | None = None
    output_name: str = RELATIVE
    many_buckets: bool = False

    def checked(self) -> EntryNames:
        """Return the names themselves when the templates are well formed.

        :raises InvalidRequest: one is not
        """
        if self.target_model is not None:
            check_template(self.target_model, argument="target_model")
        check_template(self.output_name, argument="output_name")
        return self

    def named(self, one: BatchInput) -> BatchInput:
        """Return the input with its target model and output name.

        :raises InvalidRequest: it has no model, or one of the names cannot be; it says of which input
        """
        uri = S3Uri.parse(one.source)
        relative = f"{uri.bucket}/{one.relative or uri.key}" if self.many_buckets else one.relative
        fields = fields_of(uri.key, relative=relative)
        model = self._model(one, fields)
        name = render(self.output_name, {**fields, "target_model": model}, argument="output_name")
        self._check_name(name, one)
        return dataclasses.replace(one, target_model=model, output=name, relative=relative)

    def _model(self, one: BatchInput, fields: dict[str, str]) -> str:
        model = one.target_model
        if model is None and self.target_model is not None:
            model = render(self.target_model, fields, argument="target_model")
        if model is None:
            raise InvalidRequest(
                f"nothing says which model the input {one.source} goes to: give target_model, e.g. '{{stem}}.tar.gz', "
                f"or {TARGET_MODEL!r} in its line of the manifest"
            )
        check_header(model, f"the target model of the input {one.source}")
        return model

    def _check_name(self, name: str, one: BatchInput) -> None:
        if not name or name.startswith(("/", _RESERVED)) or name.endswith("/"):
            raise InvalidRequest(
                f"the output name {name!r:.120} of the input {one.source} is not allowed: it must not be empty, not "
                f"begin or end with a slash, and not begin with {_RESERVED}, where the batch keeps its state; change "
                f"output_name"
            )
        try:
            S3Uri.parse(f"{self.outputs.rstrip('/')}/{name}{ATTRIBUTES}")
        except InvalidS3Uri:
            raise InvalidRequest(
                f"the output name {name:.120}… of the input {one.source} is too long: with what is added to it the key "
                f"has over {LONGEST_KEY} bytes, S3's limit; change output_name, or shorten the outputs' prefix"
            ) from None


def same_name(name: str, first: str, second: str) -> InvalidRequest:
    """Return the error of two inputs whose results would have the same name.

    :param first: one input's location
    :param second: the other's, which may be the same
    """
    whose = f"both entries of {first}" if first == second else f"{first} and {second}"
    return InvalidRequest(
        f"the results of {whose} would have the same name, {name}: give output_name, e.g. "
        f"'{{target_model}}/{{relative}}' where one input goes to several models or '{{key}}' where relative keys are "
        f"equal, and list no input twice for the same model"
    )
