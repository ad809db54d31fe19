"""Fields of an S3 key, and templates over them: ``"store-{store_id}.tar.gz"`` for ``…/store_id=7/day.csv``."""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from urllib.parse import quote

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest

_BRACES = "{{ and }} stand for braces themselves"


def fields_of(key: str, *, relative: str | None = None) -> dict[str, str]:
    """Collect the fields that a template can use about a key.

    - one field for each Hive partition ``name=value`` among the key's folders, those of the prefix included; the
      deepest wins, and a value stays as it is spelled in the key (``a%2Fb`` is not decoded)
    - ``key``, and ``relative``: the key below the prefix of the inputs (:func:`relative_key`)
    - ``name``, ``stem`` and ``suffix`` of the object: ``a.csv.gz`` is ``a.csv`` and ``.gz``
    - ``parent``: the name of the folder that holds it, empty at the top of a bucket

    A Hive partition with a name of the last three kinds is ignored.

    :param relative: None if the inputs have no prefix: the full key
    """
    folders, _, name = key.rpartition("/")
    parts = folders.split("/")
    partitions = (part.partition("=") for part in parts)
    dot = name.rfind(".")
    cut = dot if 0 < dot < len(name) - 1 else len(name)
    return {field: value for field, equals, value in partitions if equals and field} | {
        "key": key,
        "relative": key if relative is None else relative,
        "name": name,
        "stem": name[:cut],
        "suffix": name[cut:],
        "parent": parts[-1],
    }


def render(template: str, fields: Mapping[str, str], *, argument: str) -> str:
    """Replace each ``{field}`` by its value.

    Unlike in :meth:`str.format`, a field is only a name: no attribute, index, conversion or format.

    :param argument: the one that holds the template, for the message, which shows the key but neither the template nor
        other values
    :raises InvalidRequest: the template is not well formed, or names an unknown field
    """
    rendered = []
    for literal, field in _pieces(template, argument):
        rendered.append(literal)
        if field is None:
            continue
        if field not in fields:
            about = f" for the key {fields['key']!r}" if "key" in fields else ""
            raise InvalidRequest(
                f"{argument} names the field {{{field}}}, which there is not{about}; there are "
                f"{', '.join(sorted(fields))} ({_BRACES})"
            )
        rendered.append(fields[field])
    return "".join(rendered)


@functools.lru_cache(maxsize=64)
def _pieces(template: str, argument: str) -> tuple[tuple[str, str | None], ...]:
    """Parse a template, once for all keys that it is rendered for."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidRequest(f"{argument} is no template: {error} ({_BRACES})") from None
    for _, field, spec, conversion in parsed:
        if field == "" or spec or conversion:
            raise InvalidRequest(
                f"{argument} may hold fields like {{stem}} only, without a format or conversion, and none that is "
                f"empty ({_BRACES})"
            )
    return tuple((literal, field) for literal, field, _, _ in parsed)


def check_template(template: str, *, argument: str) -> None:
    """Raise InvalidRequest for a malformed template; its fields can only be checked with a key."""
    _pieces(template, argument)


_VISIBLE = "".join(map(chr, range(0x20, 0x7F)))


def attribute_fields(source: str, given: Mapping[str, str], *, relative: str | None = None) -> dict[str, str]:
    """Collect the fields of an input's attribute template, except for ``first_record``; quote other than ASCII.

    :param source: ``s3://bucket/key``
    :param given: fields that override those of the key, such as ``run``
    :param relative: as of :func:`fields_of`
    """
    fields = {**fields_of(S3Uri.parse(source).key, relative=relative), **given, "source": source}
    return {name: value if value.isascii() else quote(value, safe=_VISIBLE) for name, value in fields.items()}


def attributes_of(template: str, fields: Mapping[str, str], *, first_record: int) -> str:
    """Render the CustomAttributes of one payload.

    :param fields: of :func:`attribute_fields`
    :raises InvalidRequest: the template names an unknown field
    :raises InvalidCustomAttributes: the value is too long or cannot be sent; the message does not show it
    """
    return validate(
        render(template, {**fields, "first_record": str(first_record)}, argument="custom_attributes")
    )
