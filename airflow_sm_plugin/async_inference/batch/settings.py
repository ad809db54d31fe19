"""The settings of an asynchronous batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_sm_plugin.async_inference.batch.round import RequestTemplate
from airflow_sm_plugin.async_inference.watch_state import CHECK_IN_SECONDS
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.report.elements import NO_RUN, RunContext
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.invoke.async_request import DEFAULT_INVOCATION_TIMEOUT, DEFAULT_REQUEST_TTL


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The settings of an asynchronous batch.

    :param ledger_prefix: ``s3://bucket/prefix`` for its state and report
    :param owner: the same for all tries of a task instance, and different for each task instance
    :param run: the same for all retries of a task, and another once the task is cleared; None if unknown: every call
        then counts as one of a cleared task
    :param attempts: rounds in all; a round sends again the failed and expired inputs of the one before
    :param max_rate: requests per second
    :param at_once: requests without an answer at the same time
    :param max_in_flight: most accepted requests without a result; None for no limit
    :param resend: whether doubtful requests (after a kill or a lost answer) are sent again, instead of waited for
    :param restart: whether a cleared task sends everything, or only new, changed and failed inputs
    :param failure_text_limit: bytes of a failure object in its row; 0 for none
    :param wait_seconds: permitted wait for a result after its submission; None: RequestTTL + InvocationTimeout
    :param check_in_seconds: a longer wait is interrupted, to check whether the endpoint still exists
    :param options: KMS key, ACL and metadata of new objects
    :param context: of the task, for the report's page
    :param patience_seconds: a submission gives up after so long without any accepted request; a retry goes on
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
    check_in_seconds: float = CHECK_IN_SECONDS
    patience_seconds: float = 600.0
    options: ObjectOptions = PLAIN
    context: RunContext = NO_RUN

    @property
    def arguments(self) -> str:
        """Digest of the arguments that identify the batch.

        Rates and attempts do not. Neither do ``include`` and ``exclude``: with changed patterns the inputs that stay
        are not sent again.
        """
        source = (self.source.location, self.source.inputs_type, self.source.custom_attributes)
        return digest([*vars(self.template).values(), *source])

    @property
    def result_seconds(self) -> float:
        if self.wait_seconds is not None:
            return self.wait_seconds
        ttl = self.template.request_ttl or DEFAULT_REQUEST_TTL
        return float(ttl + (self.template.invocation_timeout or DEFAULT_INVOCATION_TIMEOUT))
