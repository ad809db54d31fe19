"""Where an endpoint's captured requests and answers are in S3."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidS3Uri


def captured_data(config: Mapping[str, object], *, endpoint_name: str) -> S3Uri | None:
    """Return the folder of an endpoint's captured data; None when it captures none.

    SageMaker stores under ``<DestinationS3Uri>/<endpoint>/<variant>/<yyyy>/<mm>/<dd>/<hh>/`` (Developer Guide, "Capture
    data from real-time endpoint").

    :param config: SageMaker's DataCaptureConfig
    """
    destination = config.get("DestinationS3Uri")
    if config.get("EnableCapture") is not True or not isinstance(destination, str):
        return None
    try:
        parsed = S3Uri.parse(destination)
    except InvalidS3Uri:  # it is SageMaker that refuses it, with the reason
        return None
    folders = [*filter(None, parsed.key.strip("/").split("/")), endpoint_name]
    return S3Uri(parsed.bucket, "/".join(folders) + "/")
