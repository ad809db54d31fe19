"""One asynchronous invocation over all tries of its task: what is known of it, and what a try does next.

SageMaker knows no idempotency token. So an intent is written before a request is sent, and what was accepted after it;
an intent without that is in doubt. Each is a small object of its own, written only if new, below a folder that names
the task instance and its arguments, never the try.

A *round* is one sending that may give a result. Its file name is its own, so that an earlier round's failure object is
not taken for a later round's. Sending the same round again overwrites the same output.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from airflow_sm_plugin.async_inference.outcome import Look
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


class OnUnknown(enum.StrEnum):
    """What to do about a request that may or may not have been accepted."""

    WAIT = "wait"
    RESEND = "resend"


def seconds_to_live(request_ttl: int | None, invocation_timeout: int | None) -> float:
    """Return RequestTTL + InvocationTimeout, SageMaker's defaults for None: the longest regular wait."""
    ttl = DEFAULT_REQUEST_TTL if request_ttl is None else request_ttl
    timeout = DEFAULT_INVOCATION_TIMEOUT if invocation_timeout is None else invocation_timeout
    return float(ttl + timeout)


@dataclass(frozen=True)
class Identity:
    """What names one request of one task instance, the same at every try.

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


def predicted(request: AsyncRequest, output_config: Mapping[str, Any] | None) -> AsyncInvocation | None:
    """Return where a named request's result will be, by the natural reading of SageMaker's documentation.

    ``<S3OutputPath>/<extension>/<filename>``, and the same below S3FailurePath: AWS shows no example, so a place that
    SageMaker returned is always better.

    :param output_config: ``AsyncInferenceConfig.OutputConfig`` of the endpoint; None where it is not known
    :return: None when there is no file name or no output path to tell it from
    """
    if request.filename is None or not output_config or not output_config.get("S3OutputPath"):
        return None
    extension = (request.s3_output_path_extension or "").strip("/")
    tail = f"{extension}/{request.filename}" if extension else request.filename
    failures = output_config.get("S3FailurePath")
    return AsyncInvocation(
        output_location=f"{str(output_config['S3OutputPath']).rstrip('/')}/{tail}",
        failure_location=f"{str(failures).rstrip('/')}/{tail}" if failures else None,
        inference_id=request.inference_id,
        input_location=request.input_location,
    )


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What a try was about to send.

    :param number: position among the task instance's intents for these arguments
    :param task_try: the try that wrote it
    :param at: epoch seconds
    :param seconds_to_live: RequestTTL + InvocationTimeout
    :param nonce: of its round's file name; None where that has none
    :param invocation: where the result will be, None where nobody can say
    """

    number: int
    round_number: int
    task_try: TaskTry
    at: float
    seconds_to_live: float
    input_etag: str | None
    invocation: AsyncInvocation | None
    nonce: str | None = None

    @property
    def name(self) -> str:
        """The name of its object below the state's folder."""
        return f"{self.number:05d}-intent.json"

    @property
    def accepted_name(self) -> str:
        """The name of the object that says what SageMaker answered."""
        return f"{self.number:05d}-accepted.json"

    @property
    def lost_name(self) -> str:
        """The name of the object that says that no result will come: the endpoint went, and its queue with it."""
        return f"{self.number:05d}-lost.json"

    def as_bytes(self) -> bytes:
        """Return it as JSON."""
        value = {
            "round": self.round_number,
            "try": self.task_try.as_list(),
            "at": self.at,
            "seconds_to_live": self.seconds_to_live,
            "input_etag": self.input_etag,
            "invocation": self.invocation and self.invocation.as_mapping(),
            "nonce": self.nonce,
        }
        return json.dumps(value).encode()

    @classmethod
    def from_bytes(cls, number: int, body: bytes) -> Intent:
        """Read what :meth:`as_bytes` wrote, also of an earlier version, which knew the try's number alone.

        :raises ValueError: something else
        """
        value = _mapping(body)
        found, written_by = value["invocation"], value["try"]
        return cls(
            number=number,
            round_number=int(value["round"]),
            task_try=TaskTry.from_list(
                written_by if isinstance(written_by, list) else [None, int(written_by)]
            ),
            at=float(value["at"]),
            seconds_to_live=float(value["seconds_to_live"]),
            input_etag=value["input_etag"],
            invocation=None if found is None else AsyncInvocation.from_mapping(found),
            nonce=value.get("nonce"),
        )


@dataclass(frozen=True)
class Known:
    """The latest round: its latest intent, and the invocation, accepted or (None: nobody can say where) expected.

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


@dataclass(frozen=True)
class InvocationState:
    """What the objects below the state's folder say."""

    intents: tuple[Intent, ...] = ()
    accepted: Mapping[int, AsyncInvocation] | None = None
    lost: frozenset[int] = frozenset()

    @classmethod
    def read(cls, objects: Mapping[str, bytes], *, folder: str) -> InvocationState:
        """Read the objects of a folder, by name; names that are not ours are left alone.

        :param folder: where they are, for the message
        :raises InvalidRequest: an object of our name holds something else
        """
        intents: list[Intent] = []
        accepted: dict[int, AsyncInvocation] = {}
        lost: set[int] = set()
        for name in sorted(objects):
            found = _OBJECT.fullmatch(name)
            if found is None:
                continue
            number = int(found[1])
            try:
                if found[2] == "intent":
                    intents.append(Intent.from_bytes(number, objects[name]))
                elif found[2] == "lost":
                    lost.add(number)
                else:
                    accepted[number] = AsyncInvocation.from_mapping(_mapping(objects[name]))
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidRequest(
                    f"{folder}{name} is no state of an invocation: somebody else wrote it, or it is damaged. Remove "
                    f"it, or give another state_prefix"
                ) from error
        return cls(tuple(intents), accepted, frozenset(lost))

    @property
    def next_number(self) -> int:
        """The number of the next intent."""
        return max((intent.number for intent in self.intents), default=-1) + 1

    @property
    def next_round(self) -> int:
        """The number of the first round that nobody has begun."""
        return max((intent.round_number for intent in self.intents), default=-1) + 1

    def latest(self, task_try: TaskTry) -> Known | None:
        """Return what is known of the latest round of this DAG run, None before the first.

        What a DAG run sent that was deleted and made again under its old id is none of this run's.

        :param task_try: the try that asks
        """
        writers = [intent.task_try for intent in self.intents]
        ours = [
            one for one, is_ours in zip(self.intents, task_try.of_this_run(writers), strict=True) if is_ours
        ]
        if not ours:
            return None
        latest = max(ours, key=lambda intent: (intent.round_number, intent.number))
        its_own = [intent for intent in ours if intent.round_number == latest.round_number]
        lost = any(intent.number in self.lost for intent in its_own)
        for intent in its_own:
            answer = (self.accepted or {}).get(intent.number)
            if answer is not None:
                return Known(latest, answer, accepted=True, lost=lost)
        expected = latest.invocation and replace(latest.invocation, submitted_at=latest.at)
        return Known(latest, expected, accepted=False, lost=lost)

    def check_not_fenced(self, task_try: TaskTry, look: Look | None = None, *, now: float = 0.0) -> None:
        """Stop a process that was left behind when its task instance was tried again.

        Where no start date tells a DAG run made anew from an orphan of the old one, a lower try number may be either.
        What finds the latest round over counts as made anew: an orphan then takes its result, or does what a cleared
        task would.

        :param look: at the latest round's objects; None for a process that is surely no DAG run made anew
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

    def _is_over(self, task_try: TaskTry, look: Look, now: float) -> bool:
        known = self.latest(task_try)
        if known is None:
            return False
        return look.output is Presence.PRESENT or _why_anew(known, look, now=now, input_etag=None) is not None


@dataclass(frozen=True)
class Send:
    """Send the request as this round, and say why."""

    round_number: int
    why: str


@dataclass(frozen=True)
class Attach:
    """Send nothing: the result is there or comes from this invocation."""

    invocation: AsyncInvocation
    why: str


def next_step(
    known: Known | None,
    look: Look,
    *,
    now: float,
    on_unknown: OnUnknown,
    input_etag: str | None,
    next_round: int = 0,
) -> Send | Attach:
    """Say what a try does: nothing is sent while an earlier sending may still give a result.

    :param look: at the known invocation's objects
    :param now: epoch seconds
    :param input_etag: of the input as it is now, None where it is not known
    :param next_round: number of a round that nobody has begun
    :raises InvalidRequest: it is in doubt, is to be waited for, and nobody can say where its output would be
    """
    if known is None:
        return Send(next_round, "nothing was sent before")
    why = _why_anew(known, look, now=now, input_etag=input_etag)
    if why:
        return Send(max(next_round, known.intent.round_number + 1), why)
    if known.invocation is not None and look.output is Presence.PRESENT:
        return Attach(known.invocation, "its output is there")
    if known.invocation is not None and known.accepted:
        return Attach(known.invocation, "an earlier try's request was accepted")
    doubt = "an earlier try's request may have been accepted"
    if on_unknown is OnUnknown.RESEND:
        return Send(known.intent.round_number, f"{doubt}, and on_unknown is 'resend'")
    if known.invocation is None:
        raise InvalidRequest(
            f"{doubt}, and nobody can say where its output would be: allow sagemaker:DescribeEndpoint to the task's "
            f"role from the first try on, or pass on_unknown='resend' to send it again, perhaps a second time"
        )
    return Attach(known.invocation, f"{doubt}, and on_unknown is 'wait'")


def _why_anew(known: Known, look: Look, *, now: float, input_etag: str | None) -> str | None:
    """Say why the latest round is over without a result for the input as it is; None when it is not."""
    if None not in (input_etag, known.intent.input_etag) and input_etag != known.intent.input_etag:
        return "the input has changed since it was sent"
    if look.output is Presence.PRESENT:
        return None
    if look.failure is Presence.PRESENT:
        return "an earlier try's inference failed"
    if known.lost:
        return "its endpoint was deleted while an earlier try waited for it, and its queue went with it"
    if now >= known.over_at and look == Look(Presence.ABSENT, Presence.ABSENT):
        return "an earlier try's inference is past its time to live without a result"
    return None


def _mapping(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {type(value).__name__}")
    return value


@dataclass(frozen=True, kw_only=True)
class SingleWait:
    """One invocation that is waited for.

    :param deadline: epoch seconds after which no result is expected any more
    :param state: ``s3://bucket/prefix/`` below which lies what was sent; None where nothing is remembered
    :param task_try: the try that waits
    """

    invocation: AsyncInvocation
    deadline: float
    state: str | None
    task_try: TaskTry

    def as_mapping(self) -> dict[str, Any]:
        """Return it with JSON values."""
        return {
            "invocation": self.invocation.as_mapping(),
            "deadline": self.deadline,
            "state": self.state,
            "try": self.task_try.as_list(),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> SingleWait:
        """Read what :meth:`as_mapping` wrote, also of an earlier version, which knew the try's number alone."""
        written_by = value.get("try", [None, value.get("try_number")])
        return cls(
            invocation=AsyncInvocation.from_mapping(value["invocation"]),
            deadline=float(value["deadline"]),
            state=value["state"],
            task_try=TaskTry.from_list(written_by),
        )
