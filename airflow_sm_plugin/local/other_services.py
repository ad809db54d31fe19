"""What is answered here of other services' calls, because moto alone would not see, or would hide, our resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sm_plugin.local import cloudformation, tagging_api
from airflow_sm_plugin.local.answers import Answer, fault_answer
from airflow_sm_plugin.local.call_names import CallName
from airflow_sm_plugin.local.environ import body_of
from airflow_sm_plugin.local.state import Account

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def other_service_answer(account: Account, name: CallName, environ: WSGIEnvironment) -> Answer | None:
    """Return our answer to a call of another service, None when it is moto's to answer."""
    if name.service == "cloudformation":
        why = cloudformation.refused(body_of(environ))
        return fault_answer(name, 400, "ValidationError", why) if why else None
    if name.service == tagging_api.SIGNED_AS:
        return tagging_api.answer(account.region(name.region), name, body_of(environ))
    return None
