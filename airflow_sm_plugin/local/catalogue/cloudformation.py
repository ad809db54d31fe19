"""Refuse CloudFormation templates with SageMaker resources: moto would create them in its own, unused SageMaker.

A template is checked before moto creates its resources, and so are nested templates with a literal TemplateURL. Where
only moto can resolve a TemplateURL (one with functions), moto refuses the resource.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl

import yaml

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.protocol.errors import TemplateFailure

_PREFIX = "AWS::SageMaker::"
_STACK = "AWS::CloudFormation::Stack"
_CARRYING_OUT = ("CreateStack", "UpdateStack", "CreateChangeSet", "CreateStackSet", "UpdateStackSet")
"""The actions that deploy a template, at once or later; the others only read it."""


def check(body: bytes) -> None:
    """Refuse a call of CloudFormation that would create SageMaker resources. Raises TemplateFailure."""
    _refuse_in_moto()
    form = dict(parse_qsl(body.decode(errors="replace")))
    if form.get("Action") not in _CARRYING_OUT:
        return
    try:
        text = form.get("TemplateBody") or _fetched(form.get("TemplateURL", ""))
        refused = [f"{path} ({kind})" for path, kind in _sagemaker_resources(text, "", set())]
    except yaml.YAMLError as error:
        raise TemplateFailure(f"Template format error: {' '.join(str(error).split())}") from None
    if refused:
        raise TemplateFailure(_text(", ".join(refused)))


def _text(resources: str) -> str:
    return (
        f"Template format error: Unrecognized resource types: {resources}. The embedded SageMaker creates no resources "
        "for CloudFormation; create them with SageMaker's own operations."
    )


def _sagemaker_resources(text: str, prefix: str, read: set[str]) -> Iterator[tuple[str, str]]:
    """Yield logical names (``Outer.Inner`` in a nested stack) and types; a nested template is *read* once."""
    template = _parsed(text)
    resources = template.get("Resources") if isinstance(template, Mapping) else None
    for name, resource in resources.items() if isinstance(resources, Mapping) else ():
        kind = resource.get("Type") if isinstance(resource, Mapping) else None
        if not isinstance(kind, str):
            continue
        if kind.startswith(_PREFIX):
            yield f"{prefix}{name}", kind
        properties = resource.get("Properties") if kind == _STACK else None
        url = properties.get("TemplateURL") if isinstance(properties, Mapping) else None
        if isinstance(url, str) and url not in read:
            read.add(url)
            yield from _sagemaker_resources(_fetched(url), f"{prefix}{name}.", read)


def _parsed(text: str) -> object:
    try:
        return cast("object", json.loads(text))
    except ValueError:
        return cast("object", yaml.load(text, Loader=_Loader))  # noqa: S506 - a SafeLoader


def _fetched(url: str) -> str:
    """Fetch the template at a URL in S3; empty when moto does not find it either."""
    from moto.cloudformation.utils import get_stack_from_s3_url

    try:
        return str(get_stack_from_s3_url(url, account_id=ACCOUNT_ID, partition="aws"))
    except Exception:  # noqa: BLE001 - moto reports the wrong URL in its own answer
        return ""


class _Loader(yaml.SafeLoader):
    """Reads the short forms of functions (``!Sub``) as mappings of their argument; refuses Python's own tags."""


def _function(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:  # noqa: ANN401 - any template's value
    if isinstance(node, yaml.MappingNode):
        return {tag: loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: node.value}


_Loader.add_multi_constructor("!", _function)


@functools.cache
def _refuse_in_moto() -> None:
    """Have moto refuse a SageMaker resource, instead of creating or silently skipping it."""
    from moto.cloudformation import parsing
    from moto.cloudformation.exceptions import ValidationError

    class_of = parsing.resource_class_from_type

    def refusing(resource_type: str) -> Any:  # noqa: ANN401 - moto's class
        if resource_type.startswith(_PREFIX):
            raise ValidationError(message=_text(resource_type))
        return class_of(resource_type)

    parsing.resource_class_from_type = refusing
