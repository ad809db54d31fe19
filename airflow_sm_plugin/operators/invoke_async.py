"""Invoke SageMaker endpoints asynchronously."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.async_inference.single.state import SingleWait, seconds_to_live
from airflow_sm_plugin.async_inference.watch import group
from airflow_sm_plugin.async_inference.watch_state import CHECK_IN_SECONDS, ResultOutcome
from airflow_sm_plugin.base import SensitiveField, check_event, reveal, task_instance_owner, try_of
from airflow_sm_plugin.core.names import FRESH_LINES_SECONDS, SUBMISSION_SECONDS, digest
from airflow_sm_plugin.core.notifications import check_queue_url
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.core.template_values import boolean, choice, is_given, seconds, text, whole_number
from airflow_sm_plugin.exceptions import EndpointNotFound
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from airflow_sm_plugin.links import FailuresLink, ResultLink, persist_location
from airflow_sm_plugin.metrics import waited
from airflow_sm_plugin.operators.arguments import is_restart, object_options, whole_number_if_given
from airflow_sm_plugin.operators.invocation import InvocationOperator, encoded_body, inference_id_of

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.single.input import Sending
    from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger


class SageMakerInvokeEndpointAsyncOperator(InvocationOperator):
    """Send one asynchronous invocation and return the location of its result; wait for the result on request.

    The arguments are checked before the call, and so is the input object: SageMaker would accept an object that does
    not exist and fail the request later. Throttling, 5xx answers and failed connections are tried up to five times.

    **A retry.** SageMaker has no idempotency token. With ``state_prefix`` the operator records an intent before sending
    and the answer after it. A retry then returns the accepted request. It sends again only a failed request, one
    without a result after RequestTTL + InvocationTimeout, or an input whose content has changed. ``on_unknown`` decides
    about a request that a kill left uncertain. Without ``state_prefix`` a retry checks whether the output exists, whose
    name stays the same until the DAG run is cleared. Otherwise it sends again: the input can then run twice. A DAG run
    that was deleted and created again under its old id uses no request of the old run.

    Returns on XCom: ``{"output_location", "failure_location" or None, "inference_id", "input_location" or None,
    "submitted_at": epoch seconds, "endpoint_name"}``, and with ``wait_for_completion`` ``"output"``: text or None.
    Locations are opaque: do not derive other names from them. :class:`SageMakerAsyncInferenceSensor` awaits them.

    Further arguments: see :class:`~airflow_sm_plugin.operators.invocation.InvocationOperator` and its base.

    :param input_location: ``s3://bucket/key`` of the payload, up to 1 GB. SageMaker takes it in an HTTP header: up to
        1,024 characters of visible US-ASCII, no space at the end
    :param body: the payload itself, text or bytes, or a mapping or list, which is sent as JSON; up to 128,000 bytes
        without ``upload_prefix``; instead of ``input_location``; masked in Airflow's rendered fields
    :param custom_attributes: SNS notifications contain them too
    :param filename: name of the output object. It must differ by run, since an existing object of that name counts as
        the result. Default derived from the task instance and the request
    :param s3_output_path_extension: inserted between the endpoint's output path and the file name
    :param check_input: ask S3 whether the input object exists, and for its ETag; default True
    :param state_prefix: ``s3://bucket/prefix`` below which requests are recorded; the role needs s3:ListBucket,
        s3:GetObject, s3:PutObject and s3:DeleteObject there. Default None, which records nothing
    :param upload_prefix: ``s3://bucket/prefix`` to which a body is uploaded that is too large to be sent inline; the
        same characters as ``input_location``
    :param on_unknown: after an invocation that was perhaps accepted: ``"wait"`` (default) waits for its result,
        ``"resend"`` sends it again under the same name
    :param on_rerun: effect of clearing the task: ``"resume"`` (default) that of a retry, ``"restart"`` ignores the
        requests of earlier runs of the task
    :param wait_for_completion: wait for the output or the failure object; default False
    :param max_wait_seconds: a retry that finds the request sent counts from its submission, so that it can end at once:
        raise the limit, or clear the task later
    :raises InvalidRequest: an argument breaks a limit, or failure objects and outputs of the endpoint have the same
        location
    :raises AsyncInferenceFailed: SageMaker wrote a failure object; clearing the task sends the input again
    :raises InferenceError: AsyncInferenceTimedOut, FencedOff, InputNotFound, QueueNotFound
    :raises EndpointNotAsynchronous: the endpoint serves real-time requests only
    :raises AnswerLost: the request was perhaps accepted, and the location of its output is unknown
    """

    not_templated = ("deferrable",)
    none_fields = ("body", "custom_attributes")
    operator_extra_links = (*InvocationOperator.operator_extra_links, ResultLink(), FailuresLink())
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
        """Check, read the record of earlier tries, send; wait on request."""
        with self.reading_arguments():
            sending = self._sending(context)
            self._check_wait()
            console = self.keep_link(context)
            with self.explaining():
                invocation = self.run_until_killed(self._submit(sending))
            persist_location(context, console, ResultLink, invocation.output_location)
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
            return self._wait(context, wait)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Conclude from the trigger's event, or wait on."""
        with self.reading_arguments():
            import msgspec

            wait = msgspec.convert(event["note"], SingleWait)
            return self._conclude(context, wait, event) or self._wait(context, wait)

    def _request(self, context: Context) -> AsyncRequest:
        body = reveal(self.body)
        return AsyncRequest(
            endpoint_name=self.endpoint_name,
            body=None if body is None else encoded_body(body),
            custom_attributes=reveal(self.custom_attributes),
            inference_id=text(self.inference_id, "inference_id") or inference_id_of(context),
            request_ttl=whole_number_if_given(self.request_ttl, "request_ttl"),
            invocation_timeout=whole_number_if_given(self.invocation_timeout, "invocation_timeout"),
            **self.texts("input_location", "content_type", "accept", "filename", "s3_output_path_extension"),
        )

    def _sending(self, context: Context) -> Sending:
        """Check the arguments of sending.

        Airflow raises ``max_tries`` when a task is cleared, which identifies the first try after that.
        """
        from airflow_sm_plugin.async_inference.single.input import Sending

        owner, ti = task_instance_owner(context) or digest("outside of Airflow"), context.get("ti")
        task_try, retries = try_of(context), int(self.retries or 0)
        first_try = 1
        if is_restart(self.on_rerun):
            first_try = max(1, int(getattr(ti, "max_tries", retries)) - retries + 1)
        return Sending(
            request=self._request(context),
            owner=owner if first_try == 1 else digest([owner, first_try]),
            task_try=task_try,
            is_repeated=task_try.number > first_try,
            check_input=boolean(self.check_input, "check_input"),
            resend=choice(self.on_unknown, "on_unknown", ("wait", "resend")) == "resend",
            is_waited_for=boolean(self.wait_for_completion, "wait_for_completion"),
            **self.texts("state_prefix", "upload_prefix"),
        ).checked()

    def _check_wait(self) -> None:
        """Check the arguments of the wait before anything is sent or paid."""
        seconds(self.poll_interval, "poll_interval", positive=True)
        self._output_limit()
        if queue := text(self.completion_queue, "completion_queue"):
            check_queue_url(queue)
        whole_number(self.failure_text_limit, "failure_text_limit")
        whole_number(self.container_log_lines, "container_log_lines")
        self._wait_seconds()

    def _output_limit(self) -> int | None:
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
        options = object_options(self.output_kms_key_id, self.output_acl)
        async with S3Objects.open(self.aws, options=options) as s3, AsyncInvoker.open(self.aws) as invoker:
            endpoint = EndpointFacts(self.aws, self.endpoint_name)
            return await SingleInvocation(sending, s3=s3, invoker=invoker, endpoint=endpoint).submit()

    def _wait(self, context: Context, wait: SingleWait) -> dict[str, Any]:
        while True:
            event = self.wait_with(self._trigger(wait), deferrable=self.deferrable)
            if result := self._conclude(context, wait, event):
                return result

    def _trigger(self, wait: SingleWait) -> AsyncInferenceTrigger:
        import msgspec

        from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger

        watch, _ = group([wait.invocation], [wait.deadline])
        return AsyncInferenceTrigger(
            watch=watch.as_mapping(),
            completion_queue=text(self.completion_queue, "completion_queue"),
            deadline=min(wait.deadline, time.time() + CHECK_IN_SECONDS),
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

    def _conclude(
        self, context: Context, wait: SingleWait, event: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the task's result or raise its error; None when the wait has to go on."""
        from airflow_sm_plugin.async_inference.single.result import missing, result_of

        invocation = wait.invocation
        check_event(
            f"waiting for inference {invocation.inference_id} of endpoint {self.endpoint_name}", event
        )
        limit, text_limit = self._output_limit(), whole_number(self.failure_text_limit, "failure_text_limit")
        reading = result_of(self.aws, invocation, output_limit=limit, failure_text_limit=text_limit)
        result = self.run_until_killed(reading)
        if result.outcome is ResultOutcome.SUCCEEDED:
            self.log.info("the output is at %s", invocation.output_location)
            self.note_data(context, inputs=[invocation.input_location], outputs=[invocation.output_location])
            if invocation.submitted_at is not None:
                seconds_waited = time.time() - invocation.submitted_at
                waited(context, "async_inference", seconds_waited, endpoint_name=self.endpoint_name)
            return self._returned(invocation) | {"output": result.output_text(limit or 0)}
        if result.outcome is ResultOutcome.FAILED:
            if invocation.failure_location is not None:
                persist_location(context, self.console(), FailuresLink, invocation.failure_location)
            ids = [invocation.inference_id] if invocation.inference_id else []
            sent = invocation.submitted_at
            since = None if sent is None else sent - SUBMISSION_SECONDS
            self.show_container_logs(since=since, patience=FRESH_LINES_SECONDS, inference_ids=ids)
            raise result.failed(self.endpoint_name)
        is_known = result.presence.output is not Presence.UNKNOWN
        if is_known:
            self.run_until_killed(self._check_endpoint_is_there(wait))
        is_over = time.time() >= wait.deadline or event["why"] == "complete"
        if not is_over and (is_known or event["why"] == "deadline"):
            return None
        limit_seconds, lives = self._wait_seconds(), self._seconds_to_live()
        cause = str(event.get("cause", ""))
        error = missing(self.aws, result, self.endpoint_name, waited=limit_seconds, lives=lives, cause=cause)
        raise self.run_until_killed(error)

    def _returned(self, invocation: AsyncInvocation) -> dict[str, Any]:
        return invocation.as_mapping() | {"endpoint_name": self.endpoint_name}

    async def _check_endpoint_is_there(self, wait: SingleWait) -> None:
        from airflow_sm_plugin.async_inference.single.run import record_loss
        from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts

        if not await EndpointFacts(self.aws, self.endpoint_name).is_gone():
            return
        if wait.state is not None:
            options = object_options(self.output_kms_key_id, self.output_acl)
            await record_loss(self.aws, wait.state, wait.task_try, options=options)
        raise EndpointNotFound(
            f"endpoint {self.endpoint_name} was deleted while inference {wait.invocation.inference_id} was waited for: "
            f"its queue went with it, and no result will come",
            do="deploy it, then clear the task to send the input again",
        )
