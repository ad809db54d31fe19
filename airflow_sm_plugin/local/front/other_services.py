"""What is answered here of other services' calls, because moto alone would not see, or would hide, our resources."""

from __future__ import annotations

from collections.abc import Callable

from airflow_sm_plugin.local.account.state import Account
from airflow_sm_plugin.local.catalogue import cloudformation, tagging_api
from airflow_sm_plugin.local.protocol.call_names import CallName
from airflow_sm_plugin.local.protocol.protocol import Response


def other_service_response(account: Account, name: CallName, body: Callable[[], bytes]) -> Response | None:
    """Return our answer to a call of another service, None when it is moto's to answer. Raises ServiceError."""
    if name.service == "cloudformation":
        cloudformation.check(body())
    if name.service == tagging_api.SIGNED_AS:
        return tagging_api.answer(account.region(name.region), name.operation, body())
    return None
