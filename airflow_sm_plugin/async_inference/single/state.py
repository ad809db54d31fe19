"""The state of one asynchronous invocation over all tries of its task, and the next step of a try.

SageMaker has no idempotency token. So a try writes an intent before it sends, and SageMaker's answer after it; a
request with an intent and no answer may have been accepted. Each is a small S3 object of its own, written only if it is
new. Their folder names the task instance and its arguments, never the try.

A *round* is one sending that can give a result. Its file name is its own, so that an earlier round's failure object is
not taken for a later round's. Sending the same round again overwrites the same output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

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
"""How long after RequestTTL + InvocationTimeout a result can still appear: clocks differ, writing takes time."""

_OBJECT = re.compile(r"(\d{5})-(intent|accepted|lost)\.json")
_TIMES_TO_LIVE = ("request_ttl", "invocation_timeout")


@dataclass(frozen=True)
class ResultPresence:
    """The presence of an invocation's possible objects. ``failure`` is ABSENT where no failure path is configured."""

    output: Presence
    failure: Presence


def seconds_to_live(request_ttl: int | None, invocation_timeout: int | None) -> float:
    """Add RequestTTL and InvocationTimeout, SageMaker's defaults for None: the longest regular wait."""
    ttl = DEFAULT_REQUEST_TTL if request_ttl is None else request_ttl
    return float(ttl + (DEFAULT_INVOCATION_TIMEOUT if invocation_timeout is None else invocation_timeout))


def state_folder(state_prefix: str, owner: str, arguments: str) -> str:
    """Name the folder of a request's state, with a ``/`` at the end: the same at every try of a task instance."""
    return f"{state_prefix.rstrip('/')}/{owner}/{arguments}/"


def round_filename(
    owner: str, arguments: str, round_number: int, *, input_etag: str | None, nonce: str | None = None
) -> str:
    """Name a round's output: 29 of the 32 characters of a ``Filename``. Changed input content changes the name.

    :param nonce: keeps the name apart from those used under a state that was removed, by a deleted DAG run, or by the
        same task in another Airflow
    """
    return f"{owner}-{digest([arguments, input_etag, round_number, nonce])}.out"


def arguments_digest(request: AsyncRequest) -> str:
    """Digest the values that determine the result; times to live do not."""
    values = vars(request) | {"body": request.body and sha256(request.body).hexdigest()}
    return digest([value for name, value in values.items() if name not in _TIMES_TO_LIVE])


def predicted(request: AsyncRequest, paths: tuple[str, str | None] | None) -> AsyncInvocation | None:
    """Predict the locations of a named request's result, as SageMaker's documentation reads most naturally.

    ``<S3OutputPath>/<extension>/<filename>``, and the same below S3FailurePath. AWS shows no example, so a location
    that SageMaker returned is always better. None without a file name or known output paths.
    """
    if request.filename is None or paths is None:
        return None
    name = f"{(request.s3_output_path_extension or '').strip('/')}/{request.filename}".lstrip("/")
    output, failure = (path and f"{path.rstrip('/')}/{name}" for path in paths)
    return AsyncInvocation(str(output), failure or None, request.inference_id, request.input_location)


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A request that a try was about to send.

    :param over_at: epoch seconds after which no result can come any more
    :param invocation: the expected locations of the result; None where they cannot be predicted
    :param format: of a folder's objects: a version that changes their meaning counts on, and reads no other number
    """

    number: int
    round_number: int
    task_try: TaskTry
    over_at: float
    input_etag: str | None
    invocation: AsyncInvocation | None
    nonce: str | None = None
    format: Literal[1] = 1

    def object_name(self, kind: Literal["intent", "accepted", "lost"]) -> str:
        """Name the object of the intent, of SageMaker's answer, or of the mark that its endpoint was deleted."""
        return f"{self.number:05d}-{kind}.json"


@dataclass(frozen=True)
class LatestRound:
    """The latest round: its latest intent, and its accepted or expected invocation (None: locations are unknown).

    It is lost if its endpoint was deleted during the wait.
    """

    intent: Intent
    invocation: AsyncInvocation | None
    accepted: bool
    lost: bool = False

    def why_over(self, presence: ResultPresence, *, now: float, input_etag: str | None) -> str | None:
        """Explain why the round ended without a result for the present input; None while it has not."""
        if None not in (input_etag, self.intent.input_etag) and input_etag != self.intent.input_etag:
            return "the input has changed since it was sent"
        if presence.output is Presence.PRESENT:
            return None
        if presence.failure is Presence.PRESENT:
            return "an earlier try's inference failed"
        if self.lost:
            return "its endpoint was deleted while an earlier try waited for it, and its queue went with it"
        if now >= self.intent.over_at and presence == ResultPresence(Presence.ABSENT, Presence.ABSENT):
            return "an earlier try's inference is past its time to live without a result"
        return None


@dataclass(frozen=True)
class InvocationState:
    """The objects below the state's folder; ``accepted`` and ``lost`` by the intent's number."""

    intents: tuple[Intent, ...] = ()
    accepted: Mapping[int, AsyncInvocation] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()

    @classmethod
    def read(cls, objects: Mapping[str, bytes], *, folder: str) -> InvocationState:
        """Read the objects of a folder, by name; objects with other names are ignored.

        :param folder: their location, for the message
        :raises InvalidRequest: an object's content is no such state
        """
        import msgspec  # not while DAG files are parsed

        types = {"intent": Intent, "accepted": AsyncInvocation, "lost": dict}
        values: dict[str, dict[int, Any]] = {kind: {} for kind in types}
        for name, match in ((name, _OBJECT.fullmatch(name)) for name in sorted(objects)):
            if match is None:
                continue
            try:
                values[match[2]][int(match[1])] = msgspec.json.decode(objects[name], type=types[match[2]])
            except (ValueError, msgspec.MsgspecError) as error:
                raise InvalidRequest(
                    f"{folder}{name} is no state of an invocation: another program or another version of this one "
                    f"wrote it, or it is damaged. Remove the folder and clear the task, which sends the request again, "
                    f"or give another state_prefix"
                ) from error
        return cls(tuple(values["intent"].values()), values["accepted"], frozenset(values["lost"]))

    @property
    def next_number(self) -> int:
        return max((intent.number for intent in self.intents), default=-1) + 1

    @property
    def next_round(self) -> int:
        return max((intent.round_number for intent in self.intents), default=-1) + 1

    def latest(self, task_try: TaskTry) -> LatestRound | None:
        """Find the latest round of the DAG run of *task_try*, a deleted one of the same id left out; None before it."""
        is_ours = task_try.of_this_run([intent.task_try for intent in self.intents])
        ours = [intent for intent, mine in zip(self.intents, is_ours, strict=True) if mine]
        if not ours:
            return None
        latest = max(ours, key=lambda intent: (intent.round_number, intent.number))
        numbers = [intent.number for intent in ours if intent.round_number == latest.round_number]
        lost = not self.lost.isdisjoint(numbers)
        if answers := [self.accepted[number] for number in numbers if number in self.accepted]:
            return LatestRound(latest, answers[0], accepted=True, lost=lost)
        return LatestRound(latest, latest.invocation, accepted=False, lost=lost)

    def check_not_fenced(
        self, task_try: TaskTry, presence: ResultPresence | None = None, *, now: float = 0.0
    ) -> None:
        """Stop a process that was left behind when its task instance was tried again.

        Without start dates a lower try number can be of a DAG run that was created again, or of an orphan of the
        deleted one. After the end of the latest round it counts as the former: an orphan then takes the result, or acts
        like a cleared task.

        :param presence: of the latest round's objects at *now*; None if the DAG run surely was not created again
        :raises FencedOff: a later try has written the latest intent
        """
        if not self.intents:
            return
        writer = max(self.intents, key=lambda intent: intent.number).task_try
        if task_try.origin_of(writer) is not Origin.LATER_TRY:
            return
        latest = self.latest(task_try)
        if task_try.run_started is None and presence and latest:
            has_output = presence.output is Presence.PRESENT
            if has_output or latest.why_over(presence, now=now, input_etag=None):
                return
        raise FencedOff(
            f"try {writer.number} of this task instance has taken over; this is what was left of try "
            f"{task_try.number}, and sends nothing"
        )


@dataclass(frozen=True)
class Send:
    """Send the request as this round. ``nonce`` is that of a round that is sent again."""

    round_number: int
    why: str
    nonce: str | None = None


@dataclass(frozen=True)
class Attach:
    """Send nothing: the result exists already or comes from this invocation."""

    invocation: AsyncInvocation
    why: str


def next_step(
    latest: LatestRound | None,
    presence: ResultPresence,
    *,
    now: float,
    resend: bool,
    input_etag: str | None,
    next_round: int = 0,
) -> Send | Attach:
    """Decide the next step of a try. Nothing is sent while an earlier sending can still give a result.

    :param presence: of the latest round's objects at *now*, in epoch seconds
    :param resend: send a request in doubt again, instead of waiting for it
    :param next_round: number of a round that has no intent
    :raises InvalidRequest: a request in doubt is to be waited for, and the location of its output is not known
    """
    if latest is None:
        return Send(next_round, "nothing was sent before")
    if why := latest.why_over(presence, now=now, input_etag=input_etag):
        return Send(max(next_round, latest.intent.round_number + 1), why)
    invocation = latest.invocation
    if invocation is not None and presence.output is Presence.PRESENT:
        return Attach(invocation, "its output is there")
    if invocation is not None and latest.accepted:
        return Attach(invocation, "an earlier try's request was accepted")
    doubt = "an earlier try's request may have been accepted"
    if resend:
        return Send(latest.intent.round_number, f"{doubt}, and on_unknown is 'resend'", latest.intent.nonce)
    if invocation is None:
        raise InvalidRequest(
            f"{doubt}, and it is not known where its output would be: allow sagemaker:DescribeEndpoint to the task's "
            f"role from the first try on, or pass on_unknown='resend' to send it again, perhaps a second time"
        )
    return Attach(invocation, f"{doubt}, and on_unknown is 'wait'")


@dataclass(frozen=True, kw_only=True)
class SingleWait:
    """A wait for one invocation until *deadline* (epoch seconds): the note of a deferral, with JSON values by msgspec.

    ``state`` is the folder of its state, if there is one.
    """

    invocation: AsyncInvocation
    deadline: float
    state: str | None
    task_try: TaskTry
