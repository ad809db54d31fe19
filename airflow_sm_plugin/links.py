"""Links from a task in Airflow's user interface to the AWS console; the same classes serve Airflow 2.11 and 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow_sm_plugin._compat import BaseOperatorLink, Context, XCom
from airflow_sm_plugin.core.container_logs import endpoint_log_group

if TYPE_CHECKING:
    from airflow_sm_plugin._compat import BaseOperator

_ENDPOINT_KEY = "sagemaker_endpoint_link"
_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


def console_url(region_name: str) -> str:
    """Return the console's address for a region, in that region's partition."""
    domain = next((domain for prefix, domain in _DOMAINS.items() if region_name.startswith(prefix)), None)
    return f"https://{domain or f'{region_name}.console.aws.amazon.com'}"


def persist_endpoint(context: Context, *, region_name: str, endpoint_name: str) -> None:
    """Remember which endpoint a task is about, for its links. Call it before the first wait: a failed task needs it."""
    ti = context.get("ti")
    if ti is not None:
        ti.xcom_push(key=_ENDPOINT_KEY, value={"region_name": region_name, "endpoint_name": endpoint_name})


class _EndpointLink(BaseOperatorLink):
    """A link made of the endpoint that the task wrote down."""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's signature, whose types differ between 2 and 3
        """Return the address, or nothing before the task knows its endpoint."""
        stored = XCom.get_value(key=_ENDPOINT_KEY, ti_key=ti_key)
        return self.address(**stored) if isinstance(stored, dict) else ""

    @staticmethod
    def address(*, region_name: str, endpoint_name: str) -> str:
        """Return the address for an endpoint."""
        return f"{console_url(region_name)}/sagemaker/home?region={region_name}#/endpoints/{endpoint_name}"


class EndpointConsoleLink(_EndpointLink):
    """The endpoint in the SageMaker console."""

    name: ClassVar[str] = "SageMaker endpoint"


class EndpointLogsLink(_EndpointLink):
    """The endpoint's CloudWatch log group."""

    name: ClassVar[str] = "CloudWatch logs"

    @staticmethod
    def address(*, region_name: str, endpoint_name: str) -> str:
        """Return the address of the log group; the console wants its slashes quoted twice, with ``$`` for ``%``."""
        group = quote(quote(endpoint_log_group(endpoint_name), safe=""), safe="").replace("%", "$")
        home = f"{console_url(region_name)}/cloudwatch/home?region={region_name}"
        return f"{home}#logsV2:log-groups/log-group/{group}"
