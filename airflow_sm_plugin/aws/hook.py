"""Base of the hooks: clients that no answer breaks, and that fetch fresh credentials when theirs have expired."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import NoCredentialsError
from botocore.loaders import Loader, create_loader

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.answers import ERROR, AnswerParsers, AwaitedParsers
from airflow_sm_plugin.aws.errors import meaning_of_parsed
from airflow_sm_plugin.core.service_errors import Meaning

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.model import OperationModel

log = get_log(__name__)

_FRESH_SECONDS = 5.0
"""Seconds in which all requests with the same expired credentials share one fetch of fresh ones."""

_MISSING_SECONDS = 1.0
"""Seconds between searches for missing credentials: a silent metadata service costs seconds each time."""

_SENT_AGAIN = "airflow_sm_plugin_sent_again"


@functools.lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Loader:
    """Make the reader of botocore's service models, once for all sessions: each one of its own costs 50 ms.

    :param data_path: botocore's setting of further folders of models
    """
    return create_loader(data_path)


class AwsHook(AwsBaseHook):
    """The provider's hook for boto3's clients. Takes the arguments of the provider's ``AwsBaseHook``.

    Where AWS says that credentials have expired, they are fetched again (the role is assumed again, files, environment
    and instance are asked again) and the request is signed and sent once more, without a pause: it was not carried out.
    What Airflow's connection itself holds is read again by the task's next try only.
    """

    credentials: RenewableCredentials | None = None
    """Credentials of the latest session."""
    before_call: Callable[[], None] | None = None
    """Called before each call of boto3's clients; an exception it raises ends the call."""

    @property
    def log(self) -> Any:  # noqa: ANN401 - Airflow's logger has another type in each of its versions
        kind = type(self)
        return get_log(f"airflow.task.hooks.{kind.__module__}.{kind.__qualname__}")

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - the provider's
        session: Any = super().get_session(region_name=region_name, deferrable=deferrable)
        if not isinstance(session, boto3.session.Session):  # aiobotocore's, in a trigger
            session.register_component("response_parser_factory", AwaitedParsers())
            return session
        core = cast("Any", session)._session  # noqa: SLF001 - as the provider does, boto3 has no public way
        core.register_component("response_parser_factory", AnswerParsers())
        core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
        core.register("before-call", self._may_call)
        credentials = core.get_credentials()
        if not isinstance(credentials, RenewableCredentials):

            def fetch() -> Credentials | None:
                fresh: Any = super(AwsHook, self).get_session(region_name=region_name)
                return cast("Credentials | None", fresh.get_credentials())

            self.credentials = core._credentials = RenewableCredentials(credentials, fetch)  # noqa: SLF001 - as above
            core.register("needs-retry", self.credentials.send_again)
        return session

    def _may_call(self, **_: object) -> None:
        if self.before_call is not None:
            self.before_call()


class RenewableCredentials:
    """A session's credentials, fetched again even if botocore considers them valid, or found none.

    :param held: None where there are none yet, as when a metadata service does not answer
    :param fetch: makes a session of its own and returns its credentials
    """

    def __init__(self, held: Credentials | None, fetch: Callable[[], Credentials | None]) -> None:
        self._held = held
        self._fetch = fetch
        self._lock = threading.Lock()
        self._renewed_at = -math.inf

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever botocore asks of credentials
        return getattr(self._held, name)

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """Make a getter of a property of the credentials held at the time of the call; None where there are none."""
        return lambda: getattr(self._held, name, None)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Get keys and token that belong together. Blocks while missing credentials are searched for.

        :raises NoCredentialsError: there are still none
        """
        if self._held is None:
            self.renew(longest_age=_MISSING_SECONDS)
        if self._held is None:
            raise NoCredentialsError
        return self._held.get_frozen_credentials()

    def renew(self, *, longest_age: float = _FRESH_SECONDS) -> None:
        """Fetch fresh credentials, unless just tried; keep the old ones where there are none. Blocks.

        :param longest_age: seconds
        """
        with self._lock:
            if time.monotonic() - self._renewed_at < longest_age:
                return
            try:
                self._held = self._fetch() or self._held
            except Exception as error:  # noqa: BLE001 - AWS's first answer is the one to report
                log.warning("fresh credentials could not be fetched: %s", type(error).__name__)
            self._renewed_at = time.monotonic()

    def send_again(
        self,
        response: tuple[Any, Mapping[str, Any]] | None,
        request_dict: dict[str, Any],
        operation: OperationModel,
        **_: object,
    ) -> float | None:
        """Have botocore send a request once more when its credentials had expired: a handler of ``needs-retry``."""
        if response is None or response[0].status_code < ERROR:
            return None
        context = request_dict.setdefault("context", {})
        if (
            _SENT_AGAIN in context
            or meaning_of_parsed(response[1], operation.name) is not Meaning.CREDENTIALS_EXPIRED
        ):
            return None
        context[_SENT_AGAIN] = True
        self.renew()
        return 0.0
