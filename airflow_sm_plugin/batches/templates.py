"""Fields of an S3 key, and templates over them: ``"store-{store_id}.tar.gz"`` for ``…/store_id=7/day.csv``."""

from __future__ import annotations

import functools
import string
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest

_EXAMPLE = "{{ and }} stand for braces themselves"


def fields_of(key: str, *, relative: str | None = None) -> dict[str, str]:
    """Return what a template may say about a key.

    - one field for each Hive partition ``name=value`` among the key's folders, those of the prefix included; the
      deepest wins, and a value stays as it is spelled in the key (``a%2Fb`` is not decoded)
    - ``key``, and ``relative``: the key below the prefix of the inputs (:func:`relative_key`)
    - ``name``, ``stem`` and ``suffix`` of the object: ``a.csv.gz`` is ``a.csv`` and ``.gz``
    - ``parent``: the name of the folder it lies in, empty at the top of a bucket

    Every key has the last two kinds, and a Hive partition of one of their names stays hidden.

    :param relative: None where the inputs have no prefix: the whole key
    """
    folders, _, name = key.rpartition("/")
    parts = folders.split("/")
    fields = dict(_partitions(parts))
    dot = name.rfind(".")
    cut = dot if 0 < dot < len(name) - 1 else len(name)
    return fields | {
        "key": key,
        "relative": key if relative is None else relative,
        "name": name,
        "stem": name[:cut],
        "suffix": name[cut:],
        "parent": parts[-1],
    }


def _partitions(folders: list[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        name, equals, value = folder.partition("=")
        if equals and name:
            yield name, value


def render(template: str, fields: Mapping[str, str], *, what: str) -> str:
    """Return the template with each ``{field}`` replaced by its value, and nothing else done.

    It looks like :meth:`str.format`, but a field is only a name: no attribute, index, conversion or format.

    :param what: the argument that holds the template, for the message, which shows neither the template nor a value
        but the key's
    :raises InvalidRequest: the template is not well formed, or names a field that is not there
    """
    rendered = []
    for literal, field in _pieces(template, what):
        rendered.append(literal)
        if field is None:
            continue
        if field not in fields:
            about = f" for the key {fields['key']!r}" if "key" in fields else ""
            raise InvalidRequest(
                f"{what} names the field {{{field}}}, which there is not{about}; there are "
                f"{', '.join(sorted(fields))} ({_EXAMPLE})"
            )
        rendered.append(fields[field])
    return "".join(rendered)


@functools.lru_cache(maxsize=64)
def _pieces(template: str, what: str) -> tuple[tuple[str, str | None], ...]:
    """Take a template apart, once for all the keys it is rendered for."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidRequest(f"{what} is no template: {error} ({_EXAMPLE})") from None
    for _, field, spec, conversion in parsed:
        if field == "" or spec or conversion:
            raise InvalidRequest(
                f"{what} may hold fields like {{stem}} only, without a format or conversion, and none that is empty "
                f"({_EXAMPLE})"
            )
    return tuple((literal, field) for literal, field, _, _ in parsed)


def check_template(template: str, *, what: str) -> None:
    """Make sure that a template is well formed; whether its fields are there only a key tells.

    :raises InvalidRequest: it is not
    """
    _pieces(template, what)


_VISIBLE = "".join(map(chr, range(0x20, 0x7F)))


def attribute_fields(source: str, given: Mapping[str, str], *, relative: str | None = None) -> dict[str, str]:
    """Return what a template may say about an input, but for ``first_record``.

    :param source: ``s3://bucket/key``
    :param given: fields that go before those of the key: ``run`` and the like
    :param relative: the key below the inputs' prefix, None where they have none
    """
    found = {**fields_of(S3Uri.parse(source).key, relative=relative), **given, "source": source}
    return {name: value if value.isascii() else quote(value, safe=_VISIBLE) for name, value in found.items()}


def attributes_of(template: str, fields: Mapping[str, str], *, first_record: int) -> str:
    """Return the CustomAttributes of one payload.

    :param fields: of :func:`attribute_fields`
    :raises InvalidRequest: the template names a field that is not there
    :raises InvalidCustomAttributes: what it gives is too long or cannot be sent; the message does not show it
    """
    return validate(render(template, {**fields, "first_record": str(first_record)}, what="custom_attributes"))
