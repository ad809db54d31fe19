"""Links from a task in Airflow's user interface to the AWS console; the same classes serve Airflow 2.11 and 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow_sm_plugin._compat import BaseOperatorLink, Context, XCom
from airflow_sm_plugin.core.names import endpoint_log_group
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidS3Uri

if TYPE_CHECKING:
    from airflow_sm_plugin._compat import BaseOperator

_ENDPOINT_KEY = "sagemaker_endpoint_link"
_DATA_CAPTURE_KEY = "sagemaker_data_capture_link"
_BATCH_REPORT_KEY = "sagemaker_batch_report_link"
_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


def console_url(region_name: str) -> str:
    """Return the console's address for a region, in that region's partition."""
    domain = next((domain for prefix, domain in _DOMAINS.items() if region_name.startswith(prefix)), None)
    return f"https://{domain or f'{region_name}.console.aws.amazon.com'}"


def persist_endpoint(
    context: Context,
    *,
    region_name: str,
    endpoint_name: str,
    data_capture: Mapping[str, object] | None = None,
) -> None:
    """Remember which endpoint a task is about, for its links. Call it before the first wait: a failed task needs it.

    :param data_capture: the endpoint's DataCaptureConfig, where the task knows of one
    """
    ti = context.get("ti")
    if ti is None:
        return
    ti.xcom_push(key=_ENDPOINT_KEY, value={"region_name": region_name, "endpoint_name": endpoint_name})
    location = captured_data(data_capture or {}, endpoint_name=endpoint_name)
    if location is not None:
        ti.xcom_push(key=_DATA_CAPTURE_KEY, value={"region_name": region_name, "location": str(location)})


def persist_report(context: Context, *, region_name: str, location: str) -> None:
    """Remember where a batch's report for people lies, or will lie, for its link.

    :param location: ``s3://bucket/key`` of ``report.html``
    """
    ti = context.get("ti")
    if ti is not None:
        ti.xcom_push(key=_BATCH_REPORT_KEY, value={"region_name": region_name, "location": location})


class _StoredLink(BaseOperatorLink):
    """A link made of what the task wrote down."""

    key: ClassVar[str]
    address: ClassVar[Callable[..., str]]

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's signature, whose types differ between 2 and 3
        """Return the address, or nothing before the task knows it."""
        stored = XCom.get_value(key=self.key, ti_key=ti_key)
        return self.address(**stored) if isinstance(stored, dict) else ""


class EndpointConsoleLink(_StoredLink):
    """The endpoint in the SageMaker console."""

    name: ClassVar[str] = "SageMaker endpoint"
    key = _ENDPOINT_KEY

    @staticmethod
    def address(*, region_name: str, endpoint_name: str) -> str:
        """Return the address for an endpoint."""
        return f"{console_url(region_name)}/sagemaker/home?region={region_name}#/endpoints/{endpoint_name}"


class EndpointLogsLink(_StoredLink):
    """The endpoint's CloudWatch log group."""

    name: ClassVar[str] = "CloudWatch logs"
    key = _ENDPOINT_KEY

    @staticmethod
    def address(*, region_name: str, endpoint_name: str) -> str:
        """Return the address of the log group; the console wants its slashes quoted twice, with ``$`` for ``%``."""
        group = quote(quote(endpoint_log_group(endpoint_name), safe=""), safe="").replace("%", "$")
        home = f"{console_url(region_name)}/cloudwatch/home?region={region_name}"
        return f"{home}#logsV2:log-groups/log-group/{group}"


class DataCaptureLink(_StoredLink):
    """The endpoint's captured requests and answers in the S3 console; nothing when none are captured.

    It opens the folder with one folder for each variant; SageMaker makes it with the first capture.
    """

    name: ClassVar[str] = "SageMaker data capture"
    key = _DATA_CAPTURE_KEY

    @staticmethod
    def address(*, region_name: str, location: str) -> str:
        """Return the address of a folder, ``s3://bucket/prefix/``."""
        folder = S3Uri.parse(location)
        prefix = quote(folder.key, safe="/")
        return f"{console_url(region_name)}/s3/buckets/{folder.bucket}?region={region_name}&prefix={prefix}"


class BatchReportLink(_StoredLink):
    """A batch's report in the S3 console, whose button *Open* shows it to who may read it.

    Not an address that opens the object itself: that would be presigned, so a secret.
    """

    name: ClassVar[str] = "Batch report"
    key = _BATCH_REPORT_KEY

    @staticmethod
    def address(*, region_name: str, location: str) -> str:
        """Return the address of an object, ``s3://bucket/key``."""
        uri = S3Uri.parse_object(location)
        prefix = quote(uri.key, safe="/")
        return f"{console_url(region_name)}/s3/object/{uri.bucket}?region={region_name}&prefix={prefix}"


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
