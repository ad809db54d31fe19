"""CustomAttributes of a batch's invocations: a template over what is known of the input and the payload.

``{run}``, ``{source}`` and ``{first_record}``, and the fields of the input's key
(:mod:`airflow_sm_plugin.batches.templates`). What a header cannot carry, a name in other letters say, is percent-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from airflow_sm_plugin.batches.templates import fields_of, render
from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.s3 import S3Uri

_VISIBLE = "".join(map(chr, range(0x20, 0x7F)))


def attribute_fields(source: str, given: Mapping[str, str], *, relative: str | None = None) -> dict[str, str]:
    """Return what a template may say about an input, but for ``first_record``.

    :param source: ``s3://bucket/key``
    :param given: fields that go before those of the key: ``run`` and the like
    :param relative: the key below the inputs' prefix, None where they have none
    """
    found = {**fields_of(S3Uri.parse(source).key, relative=relative), **given, "source": source}
    return {name: value if value.isascii() else quote(value, safe=_VISIBLE) for name, value in found.items()}


def check_template(template: str) -> None:
    """Make sure that a template is well formed; its fields are known with the first key only.

    :raises InvalidRequest: it is not
    """
    render(template, _Anything(), what="custom_attributes")


class _Anything(dict[str, str]):
    """Fields of every name."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> str:
        return "x"


def attributes_of(template: str, fields: Mapping[str, str], *, first_record: int) -> str:
    """Return the CustomAttributes of one payload.

    :param fields: of :func:`attribute_fields`
    :raises InvalidRequest: the template names a field that is not there
    :raises InvalidCustomAttributes: what it gives is too long or cannot be sent; the message does not show it
    """
    return validate(render(template, {**fields, "first_record": str(first_record)}, what="custom_attributes"))
