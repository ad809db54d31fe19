"""Keep a batch's inputs apart from what is written: results that are listed as inputs run in a circle, for money.

S3 knows keys, no folders. An input prefix is any beginning of a key: ``s3://b/in`` lists ``in-put/x`` too. What is
written below ``s3://b/out`` has keys that begin with ``out/``, so ``s3://b/out-takes`` is another place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest


def check_inputs_apart(inputs: str, places: Mapping[str, str], *, is_object: bool = False) -> None:
    """Refuse inputs of which one may be, or become, an object that is written by a batch or by its endpoint.

    :param inputs: ``s3://bucket/prefix`` that is listed, or the location of one object
    :param places: what is written, for the message, and below which ``s3://bucket/prefix``
    :param is_object: whether ``inputs`` is the location of one object, as a manifest lists it
    :raises InvalidRequest: naming both places
    """
    listed = S3Uri.parse(inputs, name="inputs")
    for what, location in places.items():
        if _meet(listed, S3Uri.parse(location, name=what), is_object=is_object):
            kind = "the input" if is_object else "inputs"
            raise InvalidRequest(
                f"{kind} {inputs} and {what} {location} are not apart: what is written there would be taken for "
                f"inputs, by this run or the next. Use prefixes of which neither contains the other; nothing was sent"
            )


def _meet(listed: S3Uri, written: S3Uri, *, is_object: bool) -> bool:
    """Tell whether a key can be in both places."""
    path = written.key.rstrip("/")
    folder = f"{path}/" if path else ""
    if listed.bucket != written.bucket:
        return False
    return listed.key.startswith(folder) or (not is_object and folder.startswith(listed.key))


def places_written_by(endpoint: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what an endpoint writes, and where, as :func:`check_inputs_apart` takes it.

    :param endpoint: the answer of DescribeEndpoint; None where it is not known
    """
    described = endpoint or {}
    outputs = (described.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}
    places = {
        "the endpoint's S3OutputPath": outputs.get("S3OutputPath"),
        "the endpoint's S3FailurePath": outputs.get("S3FailurePath"),
        "the endpoint's data capture": (described.get("DataCaptureConfig") or {}).get("DestinationS3Uri"),
    }
    return {what: place for what, place in places.items() if place and str(place).startswith("s3://")}
