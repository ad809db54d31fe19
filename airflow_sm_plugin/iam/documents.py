"""Policy documents: the statements of features, with ARNs filled in."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.iam.features import ACTION_CONDITIONS, ANY, CONDITIONS, FEATURES, RESOURCES, WIDER

MOST_CHARACTERS = 6_144
"""Of a managed policy, without whitespace (IAM User Guide, "IAM and AWS STS quotas")."""
_PLACEHOLDER = re.compile("<[a-z-]+>")


def check_features(names: Iterable[str]) -> list[str]:
    """Check features' names, and drop repeated ones.

    :raises InvalidRequest: there is no such feature
    """
    given = list(dict.fromkeys(names))
    unknown = ", ".join(name for name in given if name not in FEATURES)
    if unknown:
        raise InvalidRequest(f"unknown feature {unknown}; known are {', '.join(sorted(FEATURES))}")
    if not given:
        raise InvalidRequest(f"name the features that you use: {', '.join(sorted(FEATURES))}")
    return given


def policy_document(
    features: Sequence[str], role: str, parts: Mapping[str, Sequence[str]], options: Iterable[str]
) -> dict[str, Any] | None:
    """Build the policy of a role; None where the features need nothing of it.

    :param parts: values of the names in resources, of :func:`~airflow_sm_plugin.iam.arguments.parts_of_arns`
    :param options: what makes the grants with ``only_with`` apply
    :raises InvalidRequest: an unknown feature
    """
    grants = [grant for name in check_features(features) for grant in FEATURES[name].grants(role)]
    chosen = set(options)
    actions: dict[tuple[str, str], set[str]] = {}
    for grant in grants:
        if not grant.only_with or grant.only_with in chosen:
            for action in grant.actions:
                key = (grant.resource, action if action in ACTION_CONDITIONS else "")
                actions.setdefault(key, set()).add(action)
    for wide, narrow in WIDER:
        for key in {key for key in actions if key[0] == narrow}:
            actions[key] -= actions.get((wide, key[1]), set())
    actions = {key: names for key, names in actions.items() if names}
    statements = [
        _statement(resource, sorted(actions[resource, single]), parts)
        for resource, single in sorted(actions, key=lambda key: (list(RESOURCES).index(key[0]), key[1]))
    ]
    return {"Version": "2012-10-17", "Statement": statements} if statements else None


def _statement(resource: str, actions: Sequence[str], parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    arns = _filled(RESOURCES[resource], parts)
    condition = CONDITIONS.get(resource) or ACTION_CONDITIONS.get(actions[0])
    sid = "".join(word.capitalize() for word in resource.split("-"))
    return {
        "Sid": "PassRole" if actions == ["iam:PassRole"] else "WithoutResource" if resource == ANY else sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": arns[0] if len(arns) == 1 else arns,
        **({"Condition": {"StringEquals": dict(condition)}} if condition else {}),
    }


def _filled(template: str, parts: Mapping[str, Sequence[str]]) -> list[str]:
    """Fill a template with every combination of its parts' values."""
    names = list(dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name))
    combinations = itertools.product(*(parts[name] for name in names))
    return [template.format_map(dict(zip(names, values, strict=True))) for values in combinations]


def remarks(document: Mapping[str, Any]) -> list[str]:
    """List what the reader of a policy must know: placeholders, actions on every resource, and its size."""
    text = json.dumps(document, separators=(",", ":"))
    lines = []
    if placeholders := ", ".join(sorted(set(_PLACEHOLDER.findall(text)))):
        lines.append(f"replace {placeholders}, or give them as arguments")
    on_all = [
        action
        for statement in document["Statement"]
        if statement["Resource"] == "*"
        for action in statement["Action"]
    ]
    if on_all:
        lines.append(f"these actions support no resource but *: {', '.join(on_all)}")
    if len(text) > MOST_CHARACTERS:
        lines.append(
            f"the policy has {len(text):,} characters, and IAM takes {MOST_CHARACTERS:,} of a managed policy: print "
            "the features one by one, and attach several policies, or use wildcards instead of many names"
        )
    return lines
