"""Links from a task in Airflow's user interface to the AWS console, for Airflow 2.11 and 3.

Where the task's calls go to an embedded SageMaker, they lead to its pages (``local/pages``) instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow_sm_plugin._compat import BaseOperatorLink, Context, XCom
from airflow_sm_plugin.aws.console import Console
from airflow_sm_plugin.core.names import endpoint_log_group
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidS3Uri

if TYPE_CHECKING:
    from airflow_sm_plugin._compat import BaseOperator

_ENDPOINT_KEY = "sagemaker_endpoint_link"
_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


def console_url(region_name: str) -> str:
    domains = (domain for prefix, domain in _DOMAINS.items() if region_name.startswith(prefix))
    return f"https://{next(domains, f'{region_name}.console.aws.amazon.com')}"


def persist_endpoint(
    context: Context,
    console: Console,
    *,
    endpoint_name: str,
    data_capture: Mapping[str, object] | None = None,
) -> None:
    """Store a task's endpoint for its links. Call it before the first wait: a failed task needs them most."""
    stored = {"region_name": console.region_name, "endpoint_name": endpoint_name}
    _store(context, stored, console.endpoint_pages, EndpointConsoleLink, EndpointLogsLink)
    location = captured_data(data_capture or {}, endpoint_name=endpoint_name)
    if location is not None:
        persist_location(context, console, DataCaptureLink, str(location))


def persist_location(
    context: Context, console: Console, link: type[LocationLink], location: str, *, ending: str = ""
) -> None:
    """Store the ``s3://`` location of an object, or of a folder (with a slash at its end), for a task's link.

    :param location: nothing need be there yet
    :param ending: of the names in a folder and below that an embedded SageMaker lists; AWS's console lists the folder
    """
    stored = {"region_name": console.region_name, "location": location}
    _store(context, stored | ({"ending": ending} if ending else {}), console.object_pages, link)


def _store(context: Context, stored: dict[str, str], pages: str, *links: type[StoredLink]) -> None:
    if (ti := context.get("ti")) is None:
        return
    ti.xcom_push(key=links[0].key, value=stored | ({"pages": pages} if pages else {}))
    if (task := context.get("task")) is not None:
        others = [link for link in task.operator_extra_links if type(link) not in links]
        set_links(task, (*others, *(link() for link in links)))


class StoredLink(BaseOperatorLink):
    """A link whose address is built from an XCom of the task."""

    key: ClassVar[str]
    address: ClassVar[Callable[..., str]]

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's signature, whose types differ between 2 and 3
        """Build the address; empty while the task has stored nothing."""
        stored = XCom.get_value(key=self.key, ti_key=ti_key)
        return self.address(**stored) if isinstance(stored, dict) else ""


def forget_links(task: Any) -> None:  # noqa: ANN401 - Airflow's types differ between 2 and 3
    """Take our links from a running task until it stores them: Airflow 3 stores each link, also an empty one."""
    set_links(task, tuple(link for link in task.operator_extra_links if not isinstance(link, StoredLink)))


def set_links(task: Any, links: tuple[BaseOperatorLink, ...]) -> None:  # noqa: ANN401 - as above
    with suppress(AttributeError):  # a user's subclass can have a property of that name
        task.operator_extra_links = links


class EndpointConsoleLink(StoredLink):
    """A link from a task instance to its endpoint's page in the SageMaker console."""

    name: ClassVar[str] = "SageMaker endpoint"
    key = _ENDPOINT_KEY

    @staticmethod
    def address(*, region_name: str, endpoint_name: str, pages: str = "") -> str:
        if pages:
            return _page(pages, "endpoint", region=region_name, name=endpoint_name)
        return f"{console_url(region_name)}/sagemaker/home?region={region_name}#/endpoints/{endpoint_name}"


class EndpointLogsLink(StoredLink):
    """The endpoint's CloudWatch log group."""

    name: ClassVar[str] = "CloudWatch logs"
    key = _ENDPOINT_KEY

    @staticmethod
    def address(*, region_name: str, endpoint_name: str, pages: str = "") -> str:
        group = endpoint_log_group(endpoint_name)
        if pages:
            return _page(pages, "logs", region=region_name, group=group)
        # The console demands slashes that are quoted twice, with $ for %.
        quoted = quote(quote(group, safe=""), safe="").replace("%", "$")
        home = f"{console_url(region_name)}/cloudwatch/home?region={region_name}"
        return f"{home}#logsV2:log-groups/log-group/{quoted}"


class LocationLink(StoredLink):
    """An object or a folder in the S3 console. An address of the object itself would be presigned, and so a secret.

    An embedded SageMaker opens a page (``.html``) itself, and shows other objects on a page of its own.
    """

    @staticmethod
    def address(*, region_name: str, location: str, pages: str = "", ending: str = "") -> str:
        uri = S3Uri.parse(location)
        is_folder = not uri.key or uri.key.endswith("/")
        if pages and is_folder:
            return _page(
                pages, "s3", bucket=uri.bucket, prefix=uri.key, **({"ending": ending} if ending else {})
            )
        if pages:
            return _page(
                pages, "file" if uri.key.endswith(".html") else "object", bucket=uri.bucket, key=uri.key
            )
        kind = "buckets" if is_folder else "object"
        prefix = quote(uri.key, safe="/")
        return f"{console_url(region_name)}/s3/{kind}/{uri.bucket}?region={region_name}&prefix={prefix}"


class DataCaptureLink(LocationLink):
    """The S3 folder of the endpoint's captured requests and answers, which SageMaker creates with the first capture."""

    name: ClassVar[str] = "SageMaker data capture"
    key = "sagemaker_data_capture_link"


class BatchReportLink(LocationLink):
    """A batch's report."""

    name: ClassVar[str] = "Batch report"
    key = "sagemaker_batch_report_link"


class ResultLink(LocationLink):
    """The object with an endpoint's answer."""

    name: ClassVar[str] = "Result"
    key = "sagemaker_result_link"


class OutputsLink(LocationLink):
    """The folder of a batch's outputs."""

    name: ClassVar[str] = "Outputs"
    key = "sagemaker_outputs_link"


class FailuresLink(LocationLink):
    """A failure object, or the folder of a batch's lists of failures."""

    name: ClassVar[str] = "Failures"
    key = "sagemaker_failures_link"


ALL_LINKS = (
    EndpointConsoleLink,
    EndpointLogsLink,
    DataCaptureLink,
    BatchReportLink,
    ResultLink,
    OutputsLink,
    FailuresLink,
)
"""For the registration with Airflow, without which Airflow 2 shows none."""


def _page(pages: str, page: str, **query: str) -> str:
    """Make the address of an embedded SageMaker's page."""
    parameters = "&".join(f"{name}={quote(value, safe='/')}" for name, value in query.items())
    return f"{pages}{page}?{parameters}"


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
