"""Invoke SageMaker endpoints asynchronously."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.async_inference.single.state import SingleWait, seconds_to_live
from airflow_sm_plugin.async_inference.watch import group
from airflow_sm_plugin.async_inference.watch_state import ResultOutcome
from airflow_sm_plugin.base import (
    SensitiveField,
    broken_wait,
    reveal,
    task_instance_owner,
    try_of,
)
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.notifications import check_queue_url
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.core.template_values import boolean, choice, is_given, seconds, text, whole_number
from airflow_sm_plugin.exceptions import EndpointNotFound
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from airflow_sm_plugin.operators.invocation import (
    InvocationOperator,
    encoded_body,
    inference_id_of,
    whole_number_if_given,
)
from airflow_sm_plugin.operators.multi_model_arguments import object_options

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.single.input import Sending
    from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger

_CHECK_IN_SECONDS = 1_800.0
"""So often a long wait asks whether the endpoint is still there: no event tells that it was deleted, with its queue."""


class SageMakerInvokeEndpointAsyncOperator(InvocationOperator):
    """Send one asynchronous invocation and return where its result will be; wait for it, if asked to.

    Limits are checked before the call, and so is the input object: SageMaker would accept one that does not exist and
    fail it later. Throttling, 5xx answers and connections that cannot be made are repeated up to five times
    in all.

    **A retry.** SageMaker knows no idempotency token. With ``state_prefix`` an intent is written before sending and
    the answer after it; a retry then returns what was accepted, and sends again only what failed, what is past
    RequestTTL + InvocationTimeout without a result, or an input whose content has changed. What a kill left in doubt
    is treated as ``on_unknown`` says. Without ``state_prefix`` a retry looks for the output, which has the same name
    at every try until its DAG run is cleared, and otherwise sends again: the input may then be run twice. A DAG run
    that was deleted and made again under its old id takes nothing of what the old one sent.

    Returns on XCom: ``{"output_location", "failure_location" or None, "inference_id", "input_location" or None,
    "submitted_at": epoch seconds, "endpoint_name"}``, and with ``wait_for_completion`` ``"output"``: text or None.
    Locations are opaque: use them as they are. :class:`SageMakerAsyncInferenceSensor` awaits them.

    :param endpoint_name: (templated)
    :param input_location: ``s3://bucket/key`` of the payload, up to 1 GB. SageMaker takes it in an HTTP header: up to
        1,024 characters of visible US-ASCII, no space at the end (templated)
    :param body: the payload itself, text or bytes, or a mapping or list, which is sent as JSON; up to 128,000 bytes
        unless ``upload_prefix`` is given; instead of ``input_location``; masked in Airflow's rendered fields
        (templated)
    :param content_type: MIME type of the payload, e.g. ``text/csv`` (templated)
    :param accept: MIME type wanted for the output (templated)
    :param custom_attributes: up to 1024 visible US-ASCII characters, e.g. a trace id; handed to the model, and echoed
        in SNS notifications; masked in Airflow's rendered fields (templated)
    :param inference_id: up to 64 characters; default derived from DAG, run, task and map index (templated)
    :param request_ttl: seconds the request may wait in the queue, 60 to 21600; default SageMaker's, 6 hours (templated)
    :param invocation_timeout: seconds the model may take, 1 to 3600; default SageMaker's, 15 minutes (templated)
    :param filename: name of the output object; make it differ by run, since an object of that name is taken for the
        result. Default derived from the task instance and what is sent (templated)
    :param s3_output_path_extension: goes between the endpoint's output path and the file name (templated)
    :param check_input: ask S3 whether the input object exists, and for its ETag; default True (templated)
    :param state_prefix: ``s3://bucket/prefix`` to remember below what was sent; the role needs s3:ListBucket,
        s3:GetObject, s3:PutObject and s3:DeleteObject there. Default None, which remembers nothing (templated)
    :param upload_prefix: ``s3://bucket/prefix`` to upload a body to that is too large to go inline; of the same
        characters (templated)
    :param output_kms_key_id: KMS key (id, ARN or alias) for what is written below ``state_prefix`` and
        ``upload_prefix``; default as the bucket says. The output's is in the endpoint's configuration (templated)
    :param output_acl: canned ACL for the same, e.g. ``bucket-owner-full-control`` (templated)
    :param on_unknown: with an invocation that may or may not have been accepted: ``"wait"`` (default) expects its
        result where it must be, ``"resend"`` sends it again under the same name (templated)
    :param on_rerun: what clearing the task means: ``"resume"`` (default) treats it as a retry, ``"restart"`` forgets
        what earlier runs of it sent (templated)
    :param wait_for_completion: wait for the output or the failure object; default False (templated)
    :param deferrable: wait in the triggerer; default Airflow's ``[operators] default_deferrable``
    :param poll_interval: seconds between polls; default 30 (templated)
    :param max_wait_seconds: seconds after submission when no result is expected any more; default request_ttl +
        invocation_timeout, which is 22,500 unless they are given. Where it is less, a retry that finds the request
        sent ends at once, since it counts from then: raise it, or clear the task later (templated)
    :param completion_queue: URL of an SQS queue that gets the endpoint's notifications and has no other reader: it
        wakes the wait, S3 stays the truth (templated)
    :param return_output: put the output on XCom as text, where it is waited for; default False (templated)
    :param return_output_limit: bytes up to which it goes there; default 48,000 (templated)
    :param failure_text_limit: how many bytes of a failure object an error shows; default 1000, 0 shows none (templated)
    :param container_log_lines: the container's last log lines that a failure shows; default 20, 0 for none (templated)
    :raises InvalidRequest: an argument breaks a limit, or the endpoint's failure objects would lie where its outputs
        do; not retried
    :raises InputNotFound: the input object does not exist; not retried
    :raises EndpointNotFound: no such endpoint, or it was deleted meanwhile; not retried
    :raises EndpointNotAsynchronous: it serves real-time requests only; not retried
    :raises EndpointNotInService: it does not serve now; retried
    :raises AsyncInferenceFailed: a failure object was found; not retried, clearing the task sends the input again
    :raises AsyncInferenceTimedOut: neither object came in time; retried
    :raises FencedOff: a later try has taken over; not retried
    :raises TaskKilled: Airflow killed it; retried, where the task has retries left
    :raises QueueNotFound: the completion queue does not exist, which is asked before anything is sent; not retried
    :raises AnswerLost: it may have been accepted, and it is not known where its output would be; retried
    """

    not_templated = ("deferrable",)
    none_fields = ("body", "custom_attributes")
    body = SensitiveField()
    custom_attributes = SensitiveField()

    def __init__(
        self,
        *,
        endpoint_name: str,
        input_location: str | None = None,
        body: str | bytes | None = None,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
        request_ttl: int | str | None = None,
        invocation_timeout: int | str | None = None,
        filename: str | None = None,
        s3_output_path_extension: str | None = None,
        check_input: bool | str = True,
        state_prefix: str | None = None,
        upload_prefix: str | None = None,
        output_kms_key_id: str | None = None,
        output_acl: str | None = None,
        on_unknown: str = "wait",
        on_rerun: str = "resume",
        wait_for_completion: bool | str = False,
        deferrable: bool | None = None,
        poll_interval: float | str = 30,
        max_wait_seconds: float | str | None = None,
        completion_queue: str | None = None,
        return_output: bool | str = False,
        return_output_limit: int | str = 48_000,
        failure_text_limit: int | str = 1_000,
        container_log_lines: int | str = 20,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.input_location = input_location
        self.body = body
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id
        self.request_ttl = request_ttl
        self.invocation_timeout = invocation_timeout
        self.filename = filename
        self.s3_output_path_extension = s3_output_path_extension
        self.check_input = check_input
        self.state_prefix = state_prefix
        self.upload_prefix = upload_prefix
        self.output_kms_key_id = output_kms_key_id
        self.output_acl = output_acl
        self.on_unknown = on_unknown
        self.on_rerun = on_rerun
        self.wait_for_completion = wait_for_completion
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self.max_wait_seconds = max_wait_seconds
        self.completion_queue = completion_queue
        self.return_output = return_output
        self.return_output_limit = return_output_limit
        self.failure_text_limit = failure_text_limit
        self.container_log_lines = container_log_lines

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, find what earlier tries sent, send; wait if asked to."""
        with self.reading_arguments():
            sending = self._sending(context)
            self._check_wait()
            self.keep_link(context)
            with self.explaining(self.endpoint_name):
                invocation = self.run_until_killed(self._submit(sending))
            self.log.info(
                "endpoint %s: inference %s, output at %s",
                self.endpoint_name,
                invocation.inference_id,
                invocation.output_location,
            )
            if not sending.is_waited_for:
                return self._returned(invocation)
            wait = SingleWait(
                invocation=invocation,
                deadline=(invocation.submitted_at or time.time()) + self._wait_seconds(),
                state=sending.state_folder,
                task_try=sending.task_try,
            )
            return self._wait(wait)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Conclude from the trigger's event, or wait on."""
        with self.reading_arguments():
            import msgspec

            wait = msgspec.convert(event["note"], SingleWait)
            return self._conclude(wait, event) or self._wait(wait)

    def _request(self, context: Context) -> AsyncRequest:
        body = reveal(self.body)
        return AsyncRequest(
            endpoint_name=self.endpoint_name,
            input_location=text(self.input_location, "input_location"),
            body=None if body is None else encoded_body(body),
            content_type=text(self.content_type, "content_type"),
            accept=text(self.accept, "accept"),
            custom_attributes=reveal(self.custom_attributes),
            inference_id=text(self.inference_id, "inference_id") or inference_id_of(context),
            request_ttl=whole_number_if_given(self.request_ttl, "request_ttl"),
            invocation_timeout=whole_number_if_given(self.invocation_timeout, "invocation_timeout"),
            filename=text(self.filename, "filename"),
            s3_output_path_extension=text(self.s3_output_path_extension, "s3_output_path_extension"),
        )

    def _sending(self, context: Context) -> Sending:
        """Return what this try is to send, with every limit checked.

        Airflow raises ``max_tries`` when a task is cleared, so that it tells the first try since then.
        """
        from airflow_sm_plugin.async_inference.single.input import Sending

        choice(self.on_rerun, "on_rerun", ("resume", "restart"))
        owner, ti = task_instance_owner(context) or digest("outside of Airflow"), context.get("ti")
        task_try, retries = try_of(context), int(self.retries or 0)
        first_try = 1
        if self.on_rerun == "restart":
            first_try = max(1, int(getattr(ti, "max_tries", retries)) - retries + 1)
        return Sending(
            request=self._request(context),
            owner=owner if first_try == 1 else digest([owner, first_try]),
            task_try=task_try,
            is_repeated=task_try.number > first_try,
            check_input=boolean(self.check_input, "check_input"),
            state_prefix=text(self.state_prefix, "state_prefix"),
            upload_prefix=text(self.upload_prefix, "upload_prefix"),
            resend=choice(self.on_unknown, "on_unknown", ("wait", "resend")) == "resend",
            is_waited_for=boolean(self.wait_for_completion, "wait_for_completion"),
        ).checked()

    def _check_wait(self) -> None:
        """Refuse arguments of the wait that break a limit, before anything is sent or paid."""
        seconds(self.poll_interval, "poll_interval", positive=True)
        self._output_limit()
        if queue := text(self.completion_queue, "completion_queue"):
            check_queue_url(queue)
        whole_number(self.failure_text_limit, "failure_text_limit")
        whole_number(self.container_log_lines, "container_log_lines")
        self._wait_seconds()

    def _output_limit(self) -> int | None:
        """Return how many bytes of output may go on XCom; None for none at all."""
        limit = whole_number(self.return_output_limit, "return_output_limit", at_least=1)
        return limit if boolean(self.return_output, "return_output") else None

    async def _submit(self, sending: Sending) -> AsyncInvocation:
        from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
        from airflow_sm_plugin.async_inference.queue import check_queue
        from airflow_sm_plugin.async_inference.single.run import SingleInvocation
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts

        if sending.is_waited_for and (queue := text(self.completion_queue, "completion_queue")):
            await check_queue(self.aws, queue)
        async with (
            S3Objects.open(self.aws, options=object_options(self)) as s3,
            AsyncInvoker.open(self.aws) as invoker,
        ):
            endpoint = EndpointFacts(self.aws, self.endpoint_name)
            return await SingleInvocation(sending, s3=s3, invoker=invoker, endpoint=endpoint).submit()

    def _wait(self, wait: SingleWait) -> dict[str, Any]:
        while True:
            event = self.wait_with(self._trigger(wait), deferrable=self.deferrable)
            if result := self._conclude(wait, event):
                return result

    def _trigger(self, wait: SingleWait) -> AsyncInferenceTrigger:
        import msgspec

        from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger

        watch, _ = group([wait.invocation], [wait.deadline])
        return AsyncInferenceTrigger(
            watch=watch.as_mapping(),
            completion_queue=text(self.completion_queue, "completion_queue"),
            deadline=min(wait.deadline, time.time() + _CHECK_IN_SECONDS),
            poll_interval=seconds(self.poll_interval, "poll_interval", positive=True),
            note=msgspec.to_builtins(wait),
            aws=self.aws.as_mapping(),
        )

    def _wait_seconds(self) -> float:
        if is_given(self.max_wait_seconds):
            return seconds(self.max_wait_seconds, "max_wait_seconds", positive=True)
        return self._seconds_to_live()

    def _seconds_to_live(self) -> float:
        ttl = whole_number_if_given(self.request_ttl, "request_ttl")
        return seconds_to_live(ttl, whole_number_if_given(self.invocation_timeout, "invocation_timeout"))

    def _conclude(self, wait: SingleWait, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the task returns, raise why there is nothing; None when it is only time to wait on."""
        from airflow_sm_plugin.async_inference.single.result import missing, result_of

        invocation = wait.invocation
        if event["status"] == "error":
            doing = f"waiting for inference {invocation.inference_id} of endpoint {self.endpoint_name}"
            raise broken_wait(doing, event)
        limit, text_limit = self._output_limit(), whole_number(self.failure_text_limit, "failure_text_limit")
        reading = result_of(self.aws, invocation, output_limit=limit, failure_text_limit=text_limit)
        result = self.run_until_killed(reading)
        if result.outcome is ResultOutcome.SUCCEEDED:
            self.log.info("the output is at %s", invocation.output_location)
            return self._returned(invocation) | {"output": result.output_text(limit or 0)}
        if result.outcome is ResultOutcome.FAILED:
            self.show_container_logs(self.container_log_lines)
            raise result.failed(self.endpoint_name)
        is_known = result.presence.output is not Presence.UNKNOWN
        if is_known:
            self.run_until_killed(self._check_endpoint_is_there(wait))
        is_over = time.time() >= wait.deadline or event["why"] == "complete"
        if not is_over and (is_known or event["why"] == "deadline"):
            return None
        waited, lives = self._wait_seconds(), self._seconds_to_live()
        raise self.run_until_killed(missing(self.aws, result, self.endpoint_name, waited=waited, lives=lives))

    def _returned(self, invocation: AsyncInvocation) -> dict[str, Any]:
        return invocation.as_mapping() | {"endpoint_name": self.endpoint_name}

    async def _check_endpoint_is_there(self, wait: SingleWait) -> None:
        from airflow_sm_plugin.async_inference.single.run import record_loss
        from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts

        if not await EndpointFacts(self.aws, self.endpoint_name).is_gone():
            return
        if wait.state is not None:
            await record_loss(self.aws, wait.state, wait.task_try, options=object_options(self))
        raise EndpointNotFound(
            f"endpoint {self.endpoint_name} was deleted while inference {wait.invocation.inference_id} was waited for: "
            f"its queue went with it, and no result will come. Deploy it, then clear the task to send the input again"
        )
