"""Choose what an exported Autopilot model answers: its inference response keys.

The algorithm is that of ``AutoML.validate_and_update_inference_response`` of the SageMaker Python SDK 2.x, which
version 3 dropped. A candidate's last container says in ``SAGEMAKER_INFERENCE_SUPPORTED`` what may be asked for; in a
pipeline each selecting container's environment names its input (``…_INPUT``) and its output (``…_OUTPUT``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest, ResponseKeysNotSupported

SUPPORTED = "SAGEMAKER_INFERENCE_SUPPORTED"
INPUT = "SAGEMAKER_INFERENCE_INPUT"
OUTPUT = "SAGEMAKER_INFERENCE_OUTPUT"

Container = dict[str, Any]
"""A container definition as SageMaker spells it: ``Image``, ``ModelDataUrl``, ``Environment``, …"""


def select_response_keys(containers: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Container]:
    """Return new containers that answer ``keys``, in that order; the given ones are never changed.

    Without keys the containers come back as they are. Other environment entries are always kept: inference breaks
    without them.

    :param containers: the candidate's ``InferenceContainers``, in pipeline order
    :param keys: of ``predicted_label``, ``probability``, ``probabilities``, ``labels``; exact and case-sensitive
    :raises ResponseKeysNotSupported: the last container supports none, or not all of them
    :raises InvalidRequest: the keys are one text instead of a list
    """
    if isinstance(keys, str):
        raise InvalidRequest(f"response keys must be a list like ['predicted_label'], not the text {keys!r}")
    selected: list[Container] = [copy.deepcopy(dict(container)) for container in containers]
    if not keys:
        return selected
    _check(selected, keys)
    previous: str | None = None
    for container in selected:
        supported = _supported(container)
        if supported is None:
            previous = None
            continue
        current = ",".join(key for key in keys if key in supported)
        environment = container["Environment"]
        if previous:
            environment[INPUT] = previous
        if current:
            environment[OUTPUT] = current
        previous = current
    return selected


def _check(containers: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    supported = _supported(containers[-1]) if containers else None
    if supported is None:
        raise ResponseKeysNotSupported(
            f"inference response keys {', '.join(keys)} were asked for, but this candidate cannot select its response "
            f"content: its last container has no {SUPPORTED} (so it is with regression in HPO mode, text, image and "
            f"time-series jobs, and old ones); leave inference_response_keys empty"
        )
    bad = [key for key in keys if key not in supported]
    if bad:
        raise ResponseKeysNotSupported(
            f"this candidate does not support the inference response keys {', '.join(map(repr, bad))}; "
            f"it supports {', '.join(supported)} (case-sensitive)"
        )
    if len(set(keys)) != len(keys):
        raise ResponseKeysNotSupported(f"inference response keys are given more than once: {', '.join(keys)}")


def _supported(container: Mapping[str, Any]) -> list[str] | None:
    value = (container.get("Environment") or {}).get(SUPPORTED)
    return None if value is None else [key.strip() for key in value.split(",")]
