"""One asynchronous invocation over all tries of its task: what is known of it, and what a try does next.

SageMaker knows no idempotency token. So an intent is written before a request is sent, and what was accepted after it;
an intent without that is in doubt. Each is a small object of its own, written only if new, below a folder that names
the task instance and its arguments, never the try.

A *round* is one sending that may give a result. Its file name is its own, so that an earlier round's failure object is
not taken for a later round's. Sending the same round again overwrites the same output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

from airflow_sm_plugin.async_inference.outcome import ResultPresence
from airflow_sm_plugin.batches.task_try import Origin, TaskTry
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import FencedOff, InvalidRequest
from airflow_sm_plugin.invoke.async_request import (
    DEFAULT_INVOCATION_TIMEOUT,
    DEFAULT_REQUEST_TTL,
    AsyncInvocation,
    AsyncRequest,
)

SLACK_SECONDS = 60.0
"""How long after RequestTTL + InvocationTimeout a result may still be on its way: clocks differ, writing takes time."""

_OBJECT = re.compile(r"(\d{5})-(intent|accepted|lost)\.json")


def seconds_to_live(request_ttl: int | None, invocation_timeout: int | None) -> float:
    """Return RequestTTL + InvocationTimeout, SageMaker's defaults for None: the longest regular wait."""
    ttl = DEFAULT_REQUEST_TTL if request_ttl is None else request_ttl
    timeout = DEFAULT_INVOCATION_TIMEOUT if invocation_timeout is None else invocation_timeout
    return float(ttl + timeout)


@dataclass(frozen=True)
class Identity:
    """The name of one request of one task instance, the same at every try.

    :param owner: names the task instance
    :param arguments: :func:`arguments_digest`
    """

    owner: str
    arguments: str

    def folder(self, state_prefix: str) -> str:
        """Return the folder of its state, with a ``/`` at the end."""
        return f"{state_prefix.rstrip('/')}/{self.owner}/{self.arguments}/"

    def filename(self, round_number: int, *, input_etag: str | None, nonce: str | None = None) -> str:
        """Return the ``Filename`` of a round: 29 of 32 characters. Another content of the input has another name.

        :param nonce: keeps what is sent apart from what was sent under a state that was removed, by a deleted DAG run,
            or by the same task in another Airflow
        """
        return f"{self.owner}-{digest([self.arguments, input_etag, round_number, nonce])}.out"


def arguments_digest(request: AsyncRequest) -> str:
    """Return a digest of what makes the result; times to live are left out, since they do not."""
    return digest(
        [
            request.endpoint_name,
            request.input_location,
            None if request.body is None else sha256(request.body).hexdigest(),
            request.content_type,
            request.accept,
            request.custom_attributes,
            request.inference_id,
            request.filename,
            request.s3_output_path_extension,
        ]
    )


def predicted(request: AsyncRequest, paths: tuple[str, str | None] | None) -> AsyncInvocation | None:
    """Return where a named request's result will be, by the natural reading of SageMaker's documentation.

    ``<S3OutputPath>/<extension>/<filename>``, and the same below S3FailurePath: AWS shows no example, so a place that
    SageMaker returned is always better.

    :param paths: the endpoint's S3OutputPath and S3FailurePath; None where they are not known
    :return: None when there is no file name or no output path to tell it from
    """
    if request.filename is None or paths is None:
        return None
    extension = (request.s3_output_path_extension or "").strip("/")
    tail = f"{extension}/{request.filename}" if extension else request.filename
    output_path, failure_path = paths
    return AsyncInvocation(
        output_location=f"{output_path.rstrip('/')}/{tail}",
        failure_location=f"{failure_path.rstrip('/')}/{tail}" if failure_path else None,
        inference_id=request.inference_id,
        input_location=request.input_location,
    )


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A request that a try was about to send.

    :param number: position among the task instance's intents for these arguments
    :param task_try: the try that wrote it
    :param at: epoch seconds
    :param seconds_to_live: RequestTTL + InvocationTimeout
    :param invocation: where the result will be, None where that cannot be told
    :param nonce: of its round's file name; None where that has none
    """

    number: int
    round_number: int
    task_try: TaskTry
    at: float
    seconds_to_live: float
    input_etag: str | None
    invocation: AsyncInvocation | None
    nonce: str | None = None

    def object_name(self, kind: Literal["intent", "accepted", "lost"]) -> str:
        """Return the name of one of its objects below the state's folder.

        :param kind: the intent itself, SageMaker's answer, or the mark that no result will come: the endpoint was
            deleted, and its queue with it
        """
        return f"{self.number:05d}-{kind}.json"


@dataclass(frozen=True)
class LatestRound:
    """The latest round: its latest intent, and the invocation, accepted or (None: its place is not known) expected.

    :param lost: its endpoint was found deleted while it was waited for
    """

    intent: Intent
    invocation: AsyncInvocation | None
    accepted: bool
    lost: bool = False

    @property
    def over_at(self) -> float:
        """Epoch seconds after which no result can come any more."""
        return self.intent.at + self.intent.seconds_to_live + SLACK_SECONDS

    def why_over(self, look: ResultPresence, *, now: float, input_etag: str | None) -> str | None:
        """Return why the round is over without a result for the input as it is; None when it is not."""
        if None not in (input_etag, self.intent.input_etag) and input_etag != self.intent.input_etag:
            return "the input has changed since it was sent"
        if look.output is Presence.PRESENT:
            return None
        if look.failure is Presence.PRESENT:
            return "an earlier try's inference failed"
        if self.lost:
            return "its endpoint was deleted while an earlier try waited for it, and its queue went with it"
        if now >= self.over_at and look == ResultPresence(Presence.ABSENT, Presence.ABSENT):
            return "an earlier try's inference is past its time to live without a result"
        return None


@dataclass(frozen=True)
class InvocationState:
    """The objects below the state's folder, read; ``accepted`` and ``lost`` by the intent's number."""

    intents: tuple[Intent, ...] = ()
    accepted: Mapping[int, AsyncInvocation] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()

    @classmethod
    def read(cls, objects: Mapping[str, bytes], *, folder: str) -> InvocationState:
        """Read the objects of a folder, by name; names that are not ours are left alone.

        :param folder: where they are, for the message
        :raises InvalidRequest: an object of our name holds something else
        """
        import msgspec  # not while DAG files are parsed

        intents: list[Intent] = []
        accepted: dict[int, AsyncInvocation] = {}
        lost: set[int] = set()
        for name in sorted(objects):
            match = _OBJECT.fullmatch(name)
            if match is None:
                continue
            number = int(match[1])
            try:
                if match[2] == "intent":
                    intents.append(msgspec.json.decode(objects[name], type=Intent))
                elif match[2] == "accepted":
                    accepted[number] = msgspec.json.decode(objects[name], type=AsyncInvocation)
                else:
                    lost.add(number)
            except (ValueError, msgspec.MsgspecError) as error:
                raise InvalidRequest(
                    f"{folder}{name} is no state of an invocation: another program or another version of this one "
                    f"wrote it, or it is damaged. Remove the folder and clear the task, which sends the request again, "
                    f"or give another state_prefix"
                ) from error
        return cls(tuple(intents), accepted, frozenset(lost))

    @property
    def next_number(self) -> int:
        return max((intent.number for intent in self.intents), default=-1) + 1

    @property
    def next_round(self) -> int:
        """The number of the first round that has no intent."""
        return max((intent.round_number for intent in self.intents), default=-1) + 1

    def latest(self, task_try: TaskTry) -> LatestRound | None:
        """Return the latest round of this DAG run, None before the first.

        Requests of a DAG run that was deleted and created again under its old id are none of this run's.

        :param task_try: the try that asks
        """
        is_ours = task_try.of_this_run([intent.task_try for intent in self.intents])
        ours = [intent for intent, mine in zip(self.intents, is_ours, strict=True) if mine]
        if not ours:
            return None
        latest = max(ours, key=lambda intent: (intent.round_number, intent.number))
        numbers = [intent.number for intent in ours if intent.round_number == latest.round_number]
        lost = not self.lost.isdisjoint(numbers)
        answers = [self.accepted[number] for number in numbers if number in self.accepted]
        if answers:
            return LatestRound(latest, answers[0], accepted=True, lost=lost)
        expected = latest.invocation and replace(latest.invocation, submitted_at=latest.at)
        return LatestRound(latest, expected, accepted=False, lost=lost)

    def check_not_fenced(
        self, task_try: TaskTry, look: ResultPresence | None = None, *, now: float = 0.0
    ) -> None:
        """Stop a process that was left behind when its task instance was tried again.

        Where no start date distinguishes a DAG run that was created again from an orphan of the deleted one, a lower
        try number may be either. A process that finds the latest round over counts as the former: an orphan then takes
        the result, or does what a cleared task would.

        :param look: at the latest round's objects; None for a process whose DAG run surely was not created again
        :param now: epoch seconds
        :raises FencedOff: a later try has written the latest intent
        """
        if not self.intents:
            return
        writer = max(self.intents, key=lambda intent: intent.number).task_try
        if task_try.origin_of(writer) is not Origin.LATER_TRY:
            return
        if task_try.run_started is None and look is not None and self._is_over(task_try, look, now):
            return
        raise FencedOff(
            f"try {writer.number} of this task instance has taken over; this is what was left of try "
            f"{task_try.number}, and sends nothing"
        )

    def _is_over(self, task_try: TaskTry, look: ResultPresence, now: float) -> bool:
        latest = self.latest(task_try)
        if latest is None:
            return False
        return look.output is Presence.PRESENT or latest.why_over(look, now=now, input_etag=None) is not None


@dataclass(frozen=True)
class Send:
    """Send the request as this round."""

    round_number: int
    why: str


@dataclass(frozen=True)
class Attach:
    """Send nothing: the result is there or comes from this invocation."""

    invocation: AsyncInvocation
    why: str


def next_step(
    latest: LatestRound | None,
    look: ResultPresence,
    *,
    now: float,
    resend: bool,
    input_etag: str | None,
    next_round: int = 0,
) -> Send | Attach:
    """Decide what a try does: nothing is sent while an earlier sending may still give a result.

    :param look: at the latest round's objects
    :param now: epoch seconds
    :param resend: send again what is in doubt, instead of waiting for it
    :param input_etag: of the input as it is now, None where it is not known
    :param next_round: number of a round that has no intent
    :raises InvalidRequest: it is in doubt, is to be waited for, and the place of its output is not known
    """
    if latest is None:
        return Send(next_round, "nothing was sent before")
    if why := latest.why_over(look, now=now, input_etag=input_etag):
        return Send(max(next_round, latest.intent.round_number + 1), why)
    invocation = latest.invocation
    if invocation is not None and look.output is Presence.PRESENT:
        return Attach(invocation, "its output is there")
    if invocation is not None and latest.accepted:
        return Attach(invocation, "an earlier try's request was accepted")
    doubt = "an earlier try's request may have been accepted"
    if resend:
        return Send(latest.intent.round_number, f"{doubt}, and on_unknown is 'resend'")
    if invocation is None:
        raise InvalidRequest(
            f"{doubt}, and it is not known where its output would be: allow sagemaker:DescribeEndpoint to the task's "
            f"role from the first try on, or pass on_unknown='resend' to send it again, perhaps a second time"
        )
    return Attach(invocation, f"{doubt}, and on_unknown is 'wait'")


@dataclass(frozen=True, kw_only=True)
class SingleWait:
    """One invocation that is waited for: the note of a deferral, with JSON values by msgspec.

    :param deadline: epoch seconds after which no result is expected any more
    :param state: ``s3://bucket/prefix/`` of its state; None where nothing is remembered
    :param task_try: the try that waits
    """

    invocation: AsyncInvocation
    deadline: float
    state: str | None
    task_try: TaskTry
