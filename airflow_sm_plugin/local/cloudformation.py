"""Refuse CloudFormation templates with SageMaker resources: moto would make them in a SageMaker that nothing else sees.

A template is read before anything of it is made, nested ones too where their TemplateURL can be read off it. What only
moto can resolve (a TemplateURL with functions) is refused when it comes to the resource.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl

import yaml

from airflow_sm_plugin.local.aws import ACCOUNT_ID

_PREFIX = "AWS::SageMaker::"
_STACK = "AWS::CloudFormation::Stack"
_CARRYING_OUT = ("CreateStack", "UpdateStack", "CreateChangeSet", "CreateStackSet", "UpdateStackSet")
"""The actions whose template is, or can be, carried out; the others only look at it."""
_DEEPEST = 10
"""Nesting that is followed; a stack that contains itself has no end."""


def refused(body: bytes) -> str | None:
    """Return why a call of CloudFormation is refused, None when moto can carry it out."""
    form = dict(parse_qsl(body.decode(errors="replace")))
    if form.get("Action") not in _CARRYING_OUT:
        return None
    _refuse_in_moto()
    try:
        text = form.get("TemplateBody") or _fetched(form.get("TemplateURL", ""))
        found = [f"{path} ({kind})" for path, kind in _sagemaker_resources(text, "", _DEEPEST)]
    except yaml.YAMLError as error:
        return f"Template format error: {' '.join(str(error).split())}"
    return _text(", ".join(found)) if found else None


def _text(resources: str) -> str:
    return (
        f"Template format error: Unrecognized resource types: {resources}. The embedded SageMaker makes no resources "
        "for CloudFormation; make them with SageMaker's own operations."
    )


def _sagemaker_resources(text: str, place: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield logical names (``Outer.Inner`` in a nested stack) and types."""
    template = _parsed(text)
    resources = template.get("Resources") if isinstance(template, Mapping) else None
    for name, resource in resources.items() if isinstance(resources, Mapping) else ():
        kind = resource.get("Type") if isinstance(resource, Mapping) else None
        if not isinstance(kind, str):
            continue
        if kind.startswith(_PREFIX):
            yield f"{place}{name}", kind
        url = (resource.get("Properties") or {}).get("TemplateURL") if kind == _STACK else None
        if isinstance(url, str) and depth:
            yield from _sagemaker_resources(_fetched(url), f"{place}{name}.", depth - 1)


def _parsed(text: str) -> object:
    try:
        return cast("object", json.loads(text))
    except ValueError:
        return cast("object", yaml.load(text, Loader=_Loader))  # noqa: S506 - a SafeLoader


def _fetched(url: str) -> str:
    """Return the template at an address in S3, nothing where moto will find none either."""
    from moto.cloudformation.utils import get_stack_from_s3_url

    try:
        return str(get_stack_from_s3_url(url, account_id=ACCOUNT_ID, partition="aws"))
    except Exception:  # noqa: BLE001 - moto answers this address itself, and says what is wrong with it
        return ""


class _Loader(yaml.SafeLoader):
    """Reads the short forms of functions (``!Sub``) as what they are applied to; refuses Python's own tags."""


def _function(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:  # noqa: ANN401 - any template's value
    if isinstance(node, yaml.MappingNode):
        return {tag: loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: node.value}


_Loader.add_multi_constructor("!", _function)


@functools.cache
def _refuse_in_moto() -> None:
    """Have moto refuse a SageMaker resource instead of making, or silently leaving out, one."""
    from moto.cloudformation import parsing
    from moto.cloudformation.exceptions import ValidationError

    class_of = parsing.resource_class_from_type

    def refusing(resource_type: str) -> Any:  # noqa: ANN401 - moto's class
        if resource_type.startswith(_PREFIX):
            raise ValidationError(message=_text(resource_type))
        return class_of(resource_type)

    parsing.resource_class_from_type = refusing
