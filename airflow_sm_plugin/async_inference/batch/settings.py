"""The settings of an asynchronous batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_sm_plugin.async_inference.batch.round import RequestTemplate
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.invoke.async_request import DEFAULT_INVOCATION_TIMEOUT, DEFAULT_REQUEST_TTL


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The settings of an asynchronous batch.

    :param ledger_prefix: ``s3://bucket/prefix`` for its state and report
    :param owner: what names the task instance over all its tries
    :param run: what stays the same over the retries of one run of the task, and differs when it is cleared; None where
        that cannot be told: every call then counts as a cleared task's
    :param task_try: this try of the task instance
    :param attempts: rounds in all: what failed or expired is sent again in the next
    :param max_rate: requests per second at most
    :param at_once: requests on their way at the same time
    :param max_in_flight: accepted requests without a result at most; None for no limit
    :param resend: send again what a kill or a lost answer left in doubt, instead of waiting for it
    :param restart: whether a cleared task sends everything, or only what is new, changed or failed
    :param failure_text_limit: bytes of a failure object that a row shows; 0 shows none
    :param wait_seconds: how long a result may take after its submission; None: RequestTTL + InvocationTimeout
    :param check_in_seconds: so often a long wait asks whether the endpoint is still there
    :param options: how state, rows and report are kept
    :param patience_seconds: how long nothing at all may be accepted before a submission gives up; a retry goes on
    """

    template: RequestTemplate
    source: InputSource
    ledger_prefix: str
    owner: str
    run: str | None = None
    task_try: TaskTry = field(default_factory=TaskTry)
    attempts: int = 2
    max_rate: float = 500.0
    at_once: int = 64
    max_in_flight: int | None = None
    resend: bool = False
    restart: bool = False
    failure_text_limit: int = 1_000
    wait_seconds: float | None = None
    check_in_seconds: float = 1_800.0
    patience_seconds: float = 600.0
    options: ObjectOptions = PLAIN

    @property
    def arguments(self) -> str:
        """Digest of what makes it another batch.

        How fast and how often it is sent does not. Neither do ``include`` and ``exclude``: they change the inputs, and
        what was sent of those that stay is not sent again.
        """
        template = self.template
        return digest(
            [
                template.endpoint_name,
                template.content_type,
                template.accept,
                template.request_ttl,
                template.invocation_timeout,
                self.source.location,
                self.source.inputs_type,
                self.source.custom_attributes,
            ]
        )

    @property
    def result_seconds(self) -> float:
        if self.wait_seconds is not None:
            return self.wait_seconds
        ttl = self.template.request_ttl or DEFAULT_REQUEST_TTL
        return float(ttl + (self.template.invocation_timeout or DEFAULT_INVOCATION_TIMEOUT))
