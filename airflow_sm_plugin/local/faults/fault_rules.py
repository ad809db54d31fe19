"""The rules of a fault plan: their JSON, the calls that a rule matches, and the error that it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

from airflow_sm_plugin.local.faults.recorded import RecordedFailure, recorded_answers, recorded_for_rule
from airflow_sm_plugin.local.protocol.call_names import CallName
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, RUNTIME

FAULTS = ("error", "throttle", "latency", "drop", "lost_answer")

_RESOURCE_LIMIT = (
    "The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances, with current utilization of 0 "
    "Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this "
    "quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this quota."
)
_OF_CODE: Mapping[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AccessDeniedException": (400, "User is not authorized to perform this operation"),
    "InternalDependencyException": (530, "An internal dependency failed."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InternalFailure": (500, "The request processing has failed because of an unknown error."),
    "ModelNotReadyException": (
        429,
        "The model is not ready for inference yet. Please try your request later.",
    ),
    "ResourceLimitExceeded": (400, _RESOURCE_LIMIT),
    "ServiceUnavailable": (503, "The service is unavailable. Try your call again."),
    "SlowDown": (503, "Please reduce your request rate."),
    "Throttling": (400, "Rate exceeded"),
    "ThrottlingException": (400, "Rate exceeded"),
    "ValidationError": (400, "The request is not valid."),
    "ValidationException": (400, "The request is not valid."),
}
"""Status and message of a code, for rules that give only the code."""

_CODE_OF_STATUS: Mapping[int, str] = {
    400: "ValidationException",
    403: "AccessDeniedException",
    429: "ThrottlingException",
    500: "InternalFailure",
    503: "ServiceUnavailable",
    530: "InternalDependencyException",
}
_S3_CODE_OF_STATUS: Mapping[int, str] = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
_QUERY_PROTOCOL = frozenset({"sns", "sts", "iam"})


class BadRule(ValueError):
    """A rule is wrong; the message names the reason."""


@dataclass(frozen=True)
class Rule:
    """A fault, and the calls that it strikes.

    :param fault: one of :data:`FAULTS`
    :param operation: glob: ``CreateEndpoint``, ``Describe*``, ``*`` (SageMaker and its runtime), or with a service,
        ``s3:GetObject``, ``application-autoscaling:*``, ``*:*``
    :param resource: glob on the resource's name; a call without a resource does not match
    :param target_model: glob on TargetModel of InvokeEndpoint; a call without it does not match
    :param body_contains: text in the body of an invocation; other calls do not match
    :param method: HTTP method
    :param path: glob on the HTTP path, for calls of any service
    :param probability: of striking a matching call, 0 to 1
    :param times: strike at most so often; None sets no limit
    :param after: let the first so many matching calls pass
    :param status: HTTP status of the error, 400 to 599
    :param situation: of ``recorded_answers.json``: status, code and body of the error are that row's
    :param seconds: hold the call for so long before it is carried out; ``lost_answer`` holds it afterwards
    """

    fault: str
    operation: str | None = None
    resource: str | None = None
    target_model: str | None = None
    body_contains: str | None = None
    method: str | None = None
    path: str | None = None
    probability: float = 1.0
    times: int | None = None
    after: int = 0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    situation: str | None = None
    seconds: float = 0.0

    def concerns(self, call: CallName) -> bool:
        return (
            _operation_matches(self.operation, call)
            and (self.method is None or self.method.upper() == call.method)
            and (self.path is None or fnmatchcase(call.path, self.path))
            and _matches(self.resource, call.resource)
            and _matches(self.target_model, call.target_model)
            and (self.body_contains is None or self.body_contains.encode() in call.body)
        )

    def recorded(self, call: CallName) -> RecordedFailure | None:
        """Make the error of the rule's situation, or the runtime's throttling; None for any other error."""
        if self.situation is not None:
            return recorded_for_rule(self.situation, endpoint=call.resource or "")
        is_plain_throttle = self.fault == "throttle" and not (self.status or self.code or self.message)
        if is_plain_throttle and call.service == RUNTIME:
            return recorded_for_rule("throttled at the runtime", endpoint=call.resource or "")
        return None

    def answer(self, call: CallName) -> tuple[int, str, str]:
        """Choose status, code and message of the error; the call's service has the defaults."""
        code = self.code or _default_code(self, call)
        status, message = _OF_CODE.get(code, (500, "A fault of the fault plan."))
        return self.status or status, code, self.message or message


def rule_from(value: object) -> Rule:
    """Read a rule from JSON. Raises BadRule."""
    if not isinstance(value, Mapping):
        raise BadRule(f"a rule is an object, not {value!r}")
    names = {field.name for field in fields(Rule)}
    unknown = sorted(set(value) - names)
    if unknown:
        raise BadRule(f"unknown {', '.join(unknown)}; known are {', '.join(sorted(names))}")
    given = {name: item for name, item in value.items() if item is not None}
    for name, item in given.items():
        check, expected = _CHECKS[name]
        if not check(item):
            raise BadRule(f"{name} must be {expected}, not {item!r}")
    if "fault" not in given:
        raise BadRule(f"a rule needs fault: {', '.join(FAULTS)}")
    rule = Rule(**given)
    if rule.operation is None and rule.path is None:
        raise BadRule("a rule needs operation or path")
    if rule.fault == "latency" and not rule.seconds:
        raise BadRule("latency needs seconds")
    refused = {"status", "code", "message", "situation"} & set(given)
    if refused and rule.fault not in ("error", "throttle"):
        raise BadRule(f"{rule.fault} answers no error of its own: it takes no {', '.join(sorted(refused))}")
    if rule.situation is not None and len(refused) > 1:
        others = ", ".join(sorted(refused - {"situation"}))
        raise BadRule(f"a situation determines the whole answer: no {others} beside it")
    return rule


def _matches(pattern: str | None, value: str | None) -> bool:
    return pattern is None or (value is not None and fnmatchcase(value, pattern))


def _operation_matches(pattern: str | None, call: CallName) -> bool:
    if pattern is None:
        return True
    if ":" in pattern:
        return fnmatchcase(f"{call.service}:{call.operation}", pattern)
    return call.service in (CONTROL_PLANE, RUNTIME) and fnmatchcase(call.operation, pattern)


def _default_code(rule: Rule, call: CallName) -> str:
    if call.service == "s3":
        code = "SlowDown" if rule.fault == "throttle" else "InternalError"
        return _S3_CODE_OF_STATUS.get(rule.status or 0, code)
    if rule.fault == "throttle":
        return "Throttling" if call.service in _QUERY_PROTOCOL else "ThrottlingException"
    code = _CODE_OF_STATUS.get(rule.status or 500, "InternalFailure")
    return "ValidationError" if code == "ValidationException" and call.service == RUNTIME else code


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: object, *, least: float, most: float = float("inf")) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and least <= value <= most
    )


def _is_integer(value: object, *, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, int) and _is_number(value, least=least, most=most)


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "fault": (lambda value: value in FAULTS, f"one of {', '.join(FAULTS)}"),
    "operation": (_is_text, "a glob such as CreateEndpoint, Describe* or s3:GetObject"),
    "resource": (_is_text, "a glob"),
    "target_model": (_is_text, "a glob"),
    "body_contains": (_is_text, "a text"),
    "method": (_is_text, "an HTTP method"),
    "path": (_is_text, "a glob"),
    "probability": (lambda value: _is_number(value, least=0, most=1), "a number from 0 to 1"),
    "times": (lambda value: _is_integer(value, least=1), "a whole number from 1"),
    "after": (lambda value: _is_integer(value, least=0), "a whole number from 0"),
    "status": (lambda value: _is_integer(value, least=400, most=599), "a whole number from 400 to 599"),
    "code": (_is_text, "an error code"),
    "message": (_is_text, "a text"),
    "situation": (lambda value: value in recorded_answers(), "a situation of recorded_answers.json"),
    "seconds": (lambda value: _is_number(value, least=0), "a number of seconds >= 0"),
}
