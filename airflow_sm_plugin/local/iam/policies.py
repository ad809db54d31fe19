"""Identity policies of IAM: Allow and Deny, with wildcards in actions and resources, and a few condition keys.

Every other element is refused by name, so that no policy seems to permit, or to deny, what it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_POLICY_MEMBERS = {"Version", "Id", "Statement"}
_STATEMENT_MEMBERS = {"Sid", "Effect", "Action", "Resource", "Condition"}
_OPERATORS = ("StringEquals", "StringLike")
CONDITION_KEYS = (
    "application-autoscaling:service-namespace",
    "iam:AWSServiceName",
    "iam:PassedToService",
)
"""The condition keys that :mod:`~airflow_sm_plugin.local.iam.permissions` has values of."""
_ACTION = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_RESOURCE = re.compile(r"\*|arn:[a-z*-]*:[a-z0-9-]+:[a-z0-9*-]*:(\d{12}|\*|):.+", re.DOTALL)


class BadPolicy(ValueError):
    """IAM would refuse the policy, or this service does not evaluate an element of it."""


@dataclass(frozen=True)
class Permission:
    """What a call needs.

    :param resource: an ARN; ``*`` where the action takes no resource
    :param context: values of condition keys
    """

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyStatement:
    """One statement. ``conditions`` are triples of operator, key and values."""

    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def applies(self, permission: Permission) -> bool:
        return (
            any(_matches(action.lower(), permission.action.lower()) for action in self.actions)
            and any(_matches(resource, permission.resource) for resource in self.resources)
            and all(self._holds(permission, *condition) for condition in self.conditions)
        )

    @staticmethod
    def _holds(permission: Permission, operator: str, key: str, values: tuple[str, ...]) -> bool:
        value = permission.context.get(key)
        if value is None:
            return False
        return (
            value in values if operator == "StringEquals" else any(_matches(each, value) for each in values)
        )


@dataclass(frozen=True)
class IdentityPolicy:
    """The statements of all policies of one identity."""

    statements: tuple[PolicyStatement, ...]

    @classmethod
    def read(cls, document: object) -> IdentityPolicy:
        """Read a policy document, or a list of them. Raises BadPolicy."""
        documents = document if isinstance(document, list) else [document]
        return cls(tuple(statement for each in documents for statement in _statements(each)))

    def allows(self, permission: Permission) -> bool:
        """Decide: a Deny that applies wins; without an Allow that applies, the permission is missing."""
        applying = [statement.allows for statement in self.statements if statement.applies(permission)]
        return bool(applying) and all(applying)

    def denies(self, permission: Permission) -> bool:
        """Check whether the permission is denied explicitly."""
        return any(not statement.allows and statement.applies(permission) for statement in self.statements)


def _statements(document: object) -> Iterable[PolicyStatement]:
    if not isinstance(document, Mapping):
        raise BadPolicy("a policy is an object with Version and Statement")
    _check_members(document, _POLICY_MEMBERS, "a policy")
    if document.get("Version") != "2012-10-17":
        raise BadPolicy(f'Version must be "2012-10-17", not {document.get("Version")!r}')
    given = document.get("Statement")
    statements = given if isinstance(given, list) else [given]
    return [_statement(statement) for statement in statements]


def _statement(statement: object) -> PolicyStatement:
    if not isinstance(statement, Mapping):
        raise BadPolicy("a statement is an object with Effect, Action and Resource")
    _check_members(statement, _STATEMENT_MEMBERS, "a statement")
    effect = statement.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise BadPolicy(f"Effect must be Allow or Deny, not {effect!r}")
    return PolicyStatement(
        effect == "Allow",
        _texts(statement.get("Action"), "Action", _ACTION),
        _texts(statement.get("Resource"), "Resource", _RESOURCE),
        tuple(_conditions(statement.get("Condition", {}))),
    )


def _conditions(given: object) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    if not isinstance(given, Mapping):
        raise BadPolicy("Condition is an object of operators")
    for operator, keys in given.items():
        if operator not in _OPERATORS or not isinstance(keys, Mapping):
            raise BadPolicy(f"condition operators are {' and '.join(_OPERATORS)} here, not {operator}")
        for key, values in keys.items():
            if key not in CONDITION_KEYS:
                raise BadPolicy(
                    f"condition key {key} is not evaluated here; known are {', '.join(CONDITION_KEYS)}"
                )
            yield operator, key, _texts(values, key, re.compile(".+", re.DOTALL))


def _check_members(given: Mapping[object, object], known: set[str], what: str) -> None:
    unknown = ", ".join(sorted(str(name) for name in given if name not in known))
    if unknown:
        raise BadPolicy(f"{what} with {unknown} is not evaluated here; known are {', '.join(sorted(known))}")


def _texts(given: object, name: str, form: re.Pattern[str]) -> tuple[str, ...]:
    values = given if isinstance(given, list) else [given]
    wrong = next((value for value in values if not isinstance(value, str) or not form.fullmatch(value)), None)
    if wrong is not None or not values:
        raise BadPolicy(f"{name} must be text, or a list of texts, that IAM accepts; not {wrong or given!r}")
    return tuple(values)


def _matches(pattern: str, value: str) -> bool:
    """Match IAM's wildcards: ``*`` stands for any characters, also slashes and colons, ``?`` for one."""
    parts = (
        ".*" if part == "*" else "." if part == "?" else re.escape(part)
        for part in re.split("([*?])", pattern)
    )
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
