"""Limits of serving containers that asynchronous inference must raise, as environment variables.

A serving stack's own defaults are made for real-time requests: 6 MB and a minute. Asynchronous inference takes 1 GB
and an hour, but only when the container's environment says so as well (AWS, "Create an asynchronous inference
endpoint"). The values are those of AWS's examples, sizes in bytes, time-outs in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_sm_plugin.core.template_values import choice

PRESETS: Mapping[str, Mapping[str, str]] = {
    "torchserve": {
        "TS_MAX_REQUEST_SIZE": "100000000",
        "TS_MAX_RESPONSE_SIZE": "100000000",
        "TS_DEFAULT_RESPONSE_TIMEOUT": "1000",
    },
    "mms": {
        "MMS_MAX_REQUEST_SIZE": "1000000000",
        "MMS_MAX_RESPONSE_SIZE": "1000000000",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
    },
    "huggingface": {
        "MMS_MAX_REQUEST_SIZE": "2000000000",
        "MMS_MAX_RESPONSE_SIZE": "2000000000",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
    },
}
"""By name: TorchServe (PyTorch from 1.8 on), the Multi Model Server (PyTorch 1.4), Hugging Face on the latter."""


def with_preset(
    environment: Mapping[str, str] | None, preset: str, *, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a new environment: the preset's entries, save those that are there already.

    :param environment: the user's; what it sets is never overwritten
    :param preset: ``torchserve``, ``mms`` or ``huggingface``
    :param kept: what is set elsewhere (in a model package): the preset leaves these names alone too, and they are not
        part of the result
    :raises InvalidRequest: no such preset
    """
    entries = PRESETS[choice(preset, "serving_preset", tuple(PRESETS))]
    return {key: value for key, value in entries.items() if key not in (kept or {})} | dict(environment or {})
