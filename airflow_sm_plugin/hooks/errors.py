"""Turn botocore's errors into ours, which know whether a retry helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InvalidRequest,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)

_BY_MEANING: dict[Meaning, type[SageMakerInferenceError]] = {
    Meaning.ACCESS_DENIED: AccessDenied,
    Meaning.THROTTLED: Throttled,
    Meaning.UNAVAILABLE: ServiceUnavailable,
}


def meaning(error: ClientError) -> Meaning:
    """Say what an error answer of AWS means."""
    details = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return meaning_of(str(details.get("Code", "")), str(details.get("Message", "")), int(status))


def translate(error: ClientError | BotoCoreError, doing: str) -> SageMakerInferenceError:
    """Return our error for botocore's.

    :param doing: the call and its object, e.g. ``"sagemaker:CreateModel churn"``; it opens the message
    """
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        kind = _BY_MEANING.get(meaning(error), RequestRefused)
        remedy = (
            ": allow this action to the task's role, or mend its credentials" if kind is AccessDenied else ""
        )
        return kind(f"{doing}: AWS answered {details.get('Code')}: {details.get('Message')}{remedy}")
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return AccessDenied(
            f"{doing}: no AWS credentials: {error}; set them in the Airflow connection or give a role"
        )
    if isinstance(error, NoRegionError):
        return InvalidRequest(
            f"{doing}: no AWS region: pass region_name, or set it in the Airflow connection"
        )
    if isinstance(error, ParamValidationError):
        return InvalidRequest(
            f"{doing}: the request is not well formed; botocore names the fields: {_fields(error)}"
        )
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return ServiceUnavailable(
            f"{doing}: the service did not answer: {error}. Check the endpoint URL, region, proxy and network; a later "
            f"retry may fare better"
        )
    return ServiceUnavailable(f"{doing}: {error}")


def _fields(error: ParamValidationError) -> str:
    """Return botocore's report cut to its first words per line: the rest shows values."""
    return "; ".join(line.split(", value:")[0].strip() for line in str(error).splitlines()[1:])


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise our errors instead of botocore's for one call."""
    try:
        yield
    except ParamValidationError as error:
        raise translate(error, doing) from None  # its own text shows the values
    except (ClientError, BotoCoreError) as error:
        raise translate(error, doing) from error
