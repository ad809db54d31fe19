"""Links from a task in Airflow's user interface to the AWS console, for Airflow 2.11 and 3."""

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
    domains = (domain for prefix, domain in _DOMAINS.items() if region_name.startswith(prefix))
    return f"https://{next(domains, f'{region_name}.console.aws.amazon.com')}"


def persist_endpoint(
    context: Context,
    *,
    region_name: str,
    endpoint_name: str,
    data_capture: Mapping[str, object] | None = None,
) -> None:
    """Store a task's endpoint for its links. Call it before the first wait: a failed task needs them most."""
    if (ti := context.get("ti")) is None:
        return
    ti.xcom_push(key=_ENDPOINT_KEY, value={"region_name": region_name, "endpoint_name": endpoint_name})
    location = captured_data(data_capture or {}, endpoint_name=endpoint_name)
    if location is not None:
        ti.xcom_push(key=_DATA_CAPTURE_KEY, value={"region_name": region_name, "location": str(location)})


def persist_report(context: Context, *, region_name: str, location: str) -> None:
    """Store the location of ``report.html``, which need not exist yet, for its link."""
    if (ti := context.get("ti")) is not None:
        ti.xcom_push(key=_BATCH_REPORT_KEY, value={"region_name": region_name, "location": location})


class _StoredLink(BaseOperatorLink):
    """A link whose address is built from an XCom of the task."""

    key: ClassVar[str]
    address: ClassVar[Callable[..., str]]

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's signature, whose types differ between 2 and 3
        """Build the address; empty while the task has stored nothing."""
        stored = XCom.get_value(key=self.key, ti_key=ti_key)
        return self.address(**stored) if isinstance(stored, dict) else ""


class EndpointConsoleLink(_StoredLink):
    """A link from a task instance to its endpoint's page in the SageMaker console."""

    name: ClassVar[str] = "SageMaker endpoint"
    key = _ENDPOINT_KEY

    @staticmethod
    def address(*, region_name: str, endpoint_name: str) -> str:
        return f"{console_url(region_name)}/sagemaker/home?region={region_name}#/endpoints/{endpoint_name}"


class EndpointLogsLink(_StoredLink):
    """The endpoint's CloudWatch log group."""

    name: ClassVar[str] = "CloudWatch logs"
    key = _ENDPOINT_KEY

    @staticmethod
    def address(*, region_name: str, endpoint_name: str) -> str:
        # The console demands slashes that are quoted twice, with $ for %.
        group = quote(quote(endpoint_log_group(endpoint_name), safe=""), safe="").replace("%", "$")
        home = f"{console_url(region_name)}/cloudwatch/home?region={region_name}"
        return f"{home}#logsV2:log-groups/log-group/{group}"


class DataCaptureLink(_StoredLink):
    """The S3 folder of the endpoint's captured requests and answers, which SageMaker creates with the first capture."""

    name: ClassVar[str] = "SageMaker data capture"
    key = _DATA_CAPTURE_KEY

    @staticmethod
    def address(*, region_name: str, location: str) -> str:
        folder = S3Uri.parse(location)
        prefix = quote(folder.key, safe="/")
        return f"{console_url(region_name)}/s3/buckets/{folder.bucket}?region={region_name}&prefix={prefix}"


class BatchReportLink(_StoredLink):
    """A batch's report in the S3 console. An address of the object itself would be presigned, and so a secret."""

    name: ClassVar[str] = "Batch report"
    key = _BATCH_REPORT_KEY

    @staticmethod
    def address(*, region_name: str, location: str) -> str:
        uri = S3Uri.parse_object(location)
        prefix = quote(uri.key, safe="/")
        return f"{console_url(region_name)}/s3/object/{uri.bucket}?region={region_name}&prefix={prefix}"


def captured_data(config: Mapping[str, object], *, endpoint_name: str) -> S3Uri | None:
    """Derive the folder of an endpoint's captured data from its DataCaptureConfig; None when it captures none.

    SageMaker stores under ``<DestinationS3Uri>/<endpoint>/<variant>/<yyyy>/<mm>/<dd>/<hh>/`` (Developer Guide, "Capture
    data from real-time endpoint").
    """
    destination = config.get("DestinationS3Uri")
    if config.get("EnableCapture") is not True or not isinstance(destination, str):
        return None
    try:
        parsed = S3Uri.parse(destination)
    except InvalidS3Uri:  # SageMaker refuses it, and names the reason
        return None
    folders = [*filter(None, parsed.key.strip("/").split("/")), endpoint_name]
    return S3Uri(parsed.bucket, "/".join(folders) + "/")
