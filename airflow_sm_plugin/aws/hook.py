"""Base of the hooks: clients that no answer breaks, and that fetch fresh credentials when theirs have expired.

All hooks of one :class:`~airflow_sm_plugin.aws.connection.AwsConnection` share a session. One line of the log names
connection, region and kind of credentials; what the provider and botocore log about these is logged at DEBUG.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook, SessionFactory
from botocore.exceptions import NoCredentialsError
from botocore.loaders import Loader, create_loader

from airflow_sm_plugin._log import DebugLog, get_log
from airflow_sm_plugin.aws.answers import ERROR, AnswerParsers, AwaitedParsers
from airflow_sm_plugin.aws.connection import SharedSession
from airflow_sm_plugin.aws.errors import meaning_of_parsed
from airflow_sm_plugin.core.service_errors import Meaning

if TYPE_CHECKING:
    from botocore.config import Config
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


_chatter = DebugLog(log.logger, {})
_is_connecting: ContextVar[bool] = ContextVar("is_connecting", default=False)


@contextmanager
def connecting() -> Iterator[None]:
    """Keep the lines of botocore from the log in which it names the origin of credentials and endpoint URLs."""
    token = _is_connecting.set(True)
    try:
        yield
    finally:
        _is_connecting.reset(token)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Filter botocore's INFO lines while one of our hooks connects, unless its loggers are set to DEBUG."""
    is_detail = record.levelno <= logging.INFO and not logging.getLogger(record.name).isEnabledFor(
        logging.DEBUG
    )
    return not (is_detail and _is_connecting.get())


for _name in (
    "botocore.configprovider",
    "botocore.credentials",
    "aiobotocore.credentials",
    "airflow.hooks.base",  # of Airflow 2.11
):
    logging.getLogger(_name).addFilter(_is_worth_logging)


class _QuietSessionFactory(SessionFactory):  # type: ignore[misc, valid-type]  # Airflow's setting names the class
    @property
    def log(self) -> Any:  # noqa: ANN401 - as in :class:`AwsHook`
        return _chatter


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

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - handed on
        shared: SharedSession | None = None,
        **kwargs: Any,  # noqa: ANN401 - handed on
    ) -> None:
        super().__init__(*args, **kwargs)
        self._shared = shared or SharedSession()

    @property
    def log(self) -> Any:  # noqa: ANN401 - Airflow's logger has another type in each of its versions
        if _is_connecting.get():
            return _chatter
        kind = type(self)
        return get_log(f"airflow.task.hooks.{kind.__module__}.{kind.__qualname__}")

    @functools.cached_property
    def conn_config(self) -> Any:  # noqa: ANN401 - the provider's wrapper
        """Read Airflow's connection, once for all hooks that share a session."""
        with self._shared.lock:
            if self._shared.conn_config is None:
                with connecting():
                    self._shared.conn_config = super().conn_config
            return self._shared.conn_config

    def get_client_type(
        self,
        region_name: str | None = None,
        config: Config | None = None,
        deferrable: bool = False,  # noqa: FBT001, FBT002 - the provider's
    ) -> Any:  # noqa: ANN401 - as the provider's
        with self._shared.lock, connecting():
            client: Any = super().get_client_type(region_name, config, deferrable)
        if not deferrable:
            client.meta.events.register("before-call", self._may_call)
        return client

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - the provider's
        self._may_call()
        region_name = region_name or self.region_name
        if deferrable:
            session = self._new_session(region_name, deferrable=True)
            session.register_component("response_parser_factory", AwaitedParsers())
            self._log_connection(session.get_config_variable("region"))
            return session
        with self._shared.lock:
            if region_name not in self._shared.made:
                self._shared.made[region_name] = self._prepared(region_name)
            session, self.credentials = self._shared.made[region_name]
        return session

    def _prepared(self, region_name: str | None) -> tuple[boto3.session.Session, RenewableCredentials]:
        session = self._new_session(region_name)
        core = cast("Any", session)._session  # noqa: SLF001 - as the provider does, boto3 has no public way
        core.register_component("response_parser_factory", AnswerParsers())
        core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
        with connecting():
            held = core.get_credentials()
        credentials = RenewableCredentials(held, lambda: self._new_session(region_name).get_credentials())
        core._credentials = credentials  # noqa: SLF001 - as above
        core.register("needs-retry", credentials.send_again)
        self._log_connection(session.region_name, held.method if held else "none found yet")
        return session, credentials

    def _new_session(self, region_name: str | None, *, deferrable: bool = False) -> Any:  # noqa: ANN401 - boto3's or aiobotocore's
        factory = _QuietSessionFactory(conn=self.conn_config, region_name=region_name, config=self.config)
        with connecting():
            return factory.create_session(deferrable=deferrable)

    def _log_connection(self, region_name: str | None, method: str = "") -> None:
        """Log connection, region and kind of credentials, once for all hooks that share a session."""
        if self._shared.is_logged:
            return
        self._shared.is_logged = True
        is_missing = bool(self.aws_conn_id) and not self.conn_config
        get_log(__name__).log(
            logging.WARNING if is_missing and self.aws_conn_id != self.default_conn_name else logging.INFO,
            "AWS: %s, region %s%s",
            f"Airflow has no connection {self.aws_conn_id}, so boto3's own credentials"
            if is_missing
            else f"connection {self.aws_conn_id}"
            if self.aws_conn_id
            else "boto3's own credentials",
            region_name or "unknown",
            f", credentials: {method}" if method else "",
        )

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
