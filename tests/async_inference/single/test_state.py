"""One invocation over all tries: for whatever a kill leaves behind, nothing accepted is sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.single.state import (
    Attach,
    Intent,
    InvocationState,
    LatestRound,
    ResultPresence,
    Send,
    arguments_digest,
    next_step,
    predicted,
    round_filename,
    seconds_to_live,
    state_folder,
)
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import FencedOff, InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

NOTHING = ResultPresence(Presence.ABSENT, Presence.ABSENT)
OUTPUT = ResultPresence(Presence.PRESENT, Presence.ABSENT)
FAILURE = ResultPresence(Presence.ABSENT, Presence.PRESENT)
REQUEST = AsyncRequest(
    endpoint_name="e",
    input_location="s3://in/k",
    custom_attributes="secret",
    inference_id="i",
    filename="f.out",
)
EXPECTED = AsyncInvocation("s3://out/f.out", "s3://fail/f.out", "i", "s3://in/k")
ANSWERED = replace(EXPECTED, output_location="s3://elsewhere/f.out", submitted_at=101.0)
FOLDER = "s3://state/"
FIRST = TaskTry()


def intent(number: int = 0, **changes: Any) -> Intent:  # noqa: ANN401 - the fields' own
    defaults: dict[str, Any] = {
        "round_number": 0,
        "task_try": TaskTry(),
        "over_at": 1_160.0,
        "input_etag": "a",
        "invocation": EXPECTED,
    }
    return Intent(number=number, **defaults | changes)


def state(*intents: Intent, accepted: dict[int, AsyncInvocation] | None = None) -> InvocationState:
    """Return the state as it is read back from its objects."""
    objects = {each.object_name("intent"): msgspec.json.encode(each) for each in intents}
    for number, answer in (accepted or {}).items():
        objects[intent(number).object_name("accepted")] = msgspec.json.encode(answer)
    return InvocationState.read(objects, folder=FOLDER)


def step(
    latest: LatestRound | None,
    presence: ResultPresence = NOTHING,
    *,
    now: float = 200,
    resend: bool = False,
    etag: str | None = "a",
) -> Send | Attach:
    return next_step(latest, presence, now=now, resend=resend, input_etag=etag)


class TestWhatIsKnown:
    def test_nothing_before_the_first_intent(self) -> None:
        assert state().latest(FIRST) is None
        assert state().next_number == 0

    def test_an_intent_without_an_answer_is_in_doubt_and_was_sent_when_it_was_written(self) -> None:
        latest = state(intent()).latest(FIRST)
        assert latest == LatestRound(intent(), EXPECTED, accepted=False)

    def test_the_answer_shows_the_true_location(self) -> None:
        latest = state(intent(), accepted={0: ANSWERED}).latest(FIRST)
        assert latest == LatestRound(intent(), ANSWERED, accepted=True)

    def test_an_answer_to_an_earlier_intent_of_the_same_round_counts(self) -> None:
        """A process left behind recorded its answer after its successor had sent the same round again."""
        latest = state(intent(0), intent(1, task_try=TaskTry(None, 2)), accepted={0: ANSWERED}).latest(FIRST)
        assert latest is not None
        assert latest.accepted
        assert latest.invocation == ANSWERED

    def test_an_answer_to_an_earlier_round_does_not(self) -> None:
        latest = state(intent(0), intent(1, round_number=1), accepted={0: ANSWERED}).latest(FIRST)
        assert latest is not None
        assert not latest.accepted

    def test_numbers_go_on_behind_a_gap(self) -> None:
        """A refused request leaves no intent."""
        assert state(intent(1)).next_number == 2

    def test_other_objects_are_left_alone(self) -> None:
        assert (
            InvocationState.read({"readme.txt": b"", "sub/00000-intent.json": b""}, folder=FOLDER).latest(
                FIRST
            )
            is None
        )

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"round": "x"}'])
    @pytest.mark.parametrize("name", ["00000-intent.json", "00000-accepted.json"])
    def test_a_damaged_object_is_named(self, name: str, body: bytes) -> None:
        with pytest.raises(InvalidRequest, match=f"{FOLDER}{name} is no state of an invocation"):
            InvocationState.read({name: body}, folder=FOLDER)

    def test_an_intent_of_another_format_is_refused(self) -> None:
        later = msgspec.to_builtins(intent()) | {"format": 2}
        with pytest.raises(InvalidRequest, match="another version of this one wrote it"):
            InvocationState.read({"00000-intent.json": msgspec.json.encode(later)}, folder=FOLDER)


class TestLost:
    """The endpoint was deleted while the invocation waited in its queue."""

    @staticmethod
    def latest(*, lost: int, intents: tuple[Intent, ...] = (intent(0),)) -> LatestRound:
        objects = {each.object_name("intent"): msgspec.json.encode(each) for each in intents}
        objects[intent(lost).object_name("lost")] = b"{}"
        objects[intent(0).object_name("accepted")] = msgspec.json.encode(ANSWERED)
        stored = InvocationState.read(objects, folder=FOLDER).latest(FIRST)
        assert stored is not None
        return stored

    @pytest.mark.parametrize("resend", [True, False])
    @pytest.mark.parametrize("accepted", [True, False])
    def test_it_is_sent_again_before_its_time_is_over(self, accepted: bool, resend: bool) -> None:
        latest = replace(self.latest(lost=0), accepted=accepted)
        sent = step(latest, now=101, resend=resend)
        assert isinstance(sent, Send)
        assert (sent.round_number, "its endpoint was deleted" in sent.why) == (1, True)

    def test_an_output_is_taken_all_the_same(self) -> None:
        assert step(self.latest(lost=0), OUTPUT) == Attach(ANSWERED, "its output is there")

    def test_it_says_nothing_of_a_later_round(self) -> None:
        assert not self.latest(lost=0, intents=(intent(0), intent(1, round_number=1))).lost

    def test_it_holds_for_every_sending_of_its_round(self) -> None:
        assert self.latest(lost=1, intents=(intent(0), intent(1))).lost
        assert self.latest(lost=0, intents=(intent(0), intent(1))).lost


class TestFence:
    def test_a_process_whose_successor_has_written_stops(self) -> None:
        with pytest.raises(
            FencedOff, match="try 3 of this task instance has taken over; this is what was left of try 2"
        ):
            state(intent(task_try=TaskTry(None, 3))).check_not_fenced(TaskTry(None, 2))

    @pytest.mark.parametrize("tries", [[], [1], [1, 2]])
    def test_the_last_try_goes_on(self, tries: list[int]) -> None:
        state(
            *(intent(number, task_try=TaskTry(None, try_number)) for number, try_number in enumerate(tries))
        ).check_not_fenced(TaskTry(None, 2))

    @pytest.mark.parametrize(
        ("presence", "now", "is_over"),
        [
            (OUTPUT, 200, True),
            (FAILURE, 200, True),
            (NOTHING, 200, False),
            (NOTHING, 9_999, True),
            (ResultPresence(Presence.UNKNOWN, Presence.ABSENT), 9_999, False),
        ],
    )
    @pytest.mark.parametrize("started", [None, 100.0])
    def test_without_a_start_date_what_is_over_may_be_a_deleted_runs(
        self, presence: ResultPresence, now: float, is_over: bool, started: float | None
    ) -> None:
        stored = state(intent(task_try=TaskTry(started, 3)), accepted={0: ANSWERED})
        mine = TaskTry(started, 1)
        if is_over and started is None:
            stored.check_not_fenced(mine, presence, now=now)
            return
        with pytest.raises(FencedOff):
            stored.check_not_fenced(mine, presence, now=now)

    def test_the_latest_intent_alone_decides(self) -> None:
        created_again = intent(1, round_number=1, task_try=TaskTry(None, 1))
        state(intent(task_try=TaskTry(None, 3)), created_again).check_not_fenced(TaskTry(None, 2))


class TestADagRunMadeAgainUnderItsOldId:
    OLD = (TaskTry(100.0, 1), TaskTry(100.0, 2))

    def old(self) -> InvocationState:
        first, second = (
            intent(number, round_number=number, task_try=task_try) for number, task_try in enumerate(self.OLD)
        )
        return state(first, second, accepted={1: ANSWERED})

    @pytest.mark.parametrize("mine", [TaskTry(200.0, 1), TaskTry(200.0, 2)])
    def test_takes_nothing_of_the_deleted_one_and_is_not_fenced_off(self, mine: TaskTry) -> None:
        stored = self.old()
        stored.check_not_fenced(mine)
        latest = stored.latest(mine)
        assert latest is None
        sent = next_step(latest, OUTPUT, now=1, resend=False, input_etag="a", next_round=stored.next_round)
        assert sent == Send(2, "nothing was sent before")

    def test_a_later_try_takes_what_its_own_run_sent(self) -> None:
        mine = intent(2, round_number=2, task_try=TaskTry(200.0, 1))
        latest = state(*self.old().intents, mine).latest(TaskTry(200.0, 3))
        assert latest is not None
        assert latest.intent == mine

    def test_fences_off_what_is_left_of_the_deleted_one(self) -> None:
        stored = state(*self.old().intents, intent(2, round_number=2, task_try=TaskTry(200.0, 1)))
        with pytest.raises(FencedOff, match="what was left of try 5"):
            stored.check_not_fenced(TaskTry(100.0, 5))

    def test_a_cleared_run_is_no_other_run(self) -> None:
        latest = self.old().latest(TaskTry(200.0, 3))
        assert latest is not None
        assert latest.invocation == ANSWERED


def test_an_intent_of_another_version_is_refused_with_the_remedy() -> None:
    other = msgspec.to_builtins(intent())
    other["try"] = other.pop("task_try")
    with pytest.raises(InvalidRequest, match=r"another version .* Remove the folder and clear the task"):
        InvocationState.read({intent().object_name("intent"): msgspec.json.encode(other)}, folder=FOLDER)


class TestNextStep:
    def test_the_first_try_sends(self) -> None:
        assert step(None) == Send(0, "nothing was sent before")

    @pytest.mark.parametrize("accepted", [True, False])
    def test_an_output_is_taken_in_every_state(self, accepted: bool) -> None:
        assert step(LatestRound(intent(), EXPECTED, accepted), OUTPUT, resend=True, now=9e9) == Attach(
            EXPECTED, "its output is there"
        )

    def test_an_output_beats_a_failure_object(self) -> None:
        both = ResultPresence(Presence.PRESENT, Presence.PRESENT)
        assert isinstance(step(LatestRound(intent(), EXPECTED, accepted=True), both), Attach)

    @pytest.mark.parametrize("accepted", [True, False])
    def test_a_failed_inference_is_sent_again_under_another_name(self, accepted: bool) -> None:
        step_ = step(LatestRound(intent(round_number=2), EXPECTED, accepted), FAILURE)
        assert step_ == Send(3, "an earlier try's inference failed")

    @pytest.mark.parametrize("accepted", [True, False])
    @pytest.mark.parametrize("resend", [False, True])
    def test_one_past_its_time_to_live_is_sent_again_and_not_before(
        self, accepted: bool, resend: bool
    ) -> None:
        latest = LatestRound(intent(), EXPECTED, accepted)
        over = intent().over_at
        assert step(latest, now=over, resend=resend) == Send(
            1, "an earlier try's inference is past its time to live without a result"
        )
        before = step(latest, now=over - 1, resend=resend)
        assert before != step(latest, now=over, resend=resend)

    @pytest.mark.parametrize("unseen", [Presence.FORBIDDEN, Presence.UNKNOWN])
    def test_what_cannot_be_seen_is_not_taken_for_expired(self, unseen: Presence) -> None:
        latest = LatestRound(intent(), EXPECTED, accepted=True)
        assert isinstance(step(latest, ResultPresence(unseen, Presence.ABSENT), now=9e9), Attach)
        assert isinstance(step(latest, ResultPresence(Presence.ABSENT, unseen), now=9e9), Attach)

    def test_what_was_accepted_is_never_in_doubt(self) -> None:
        latest = LatestRound(intent(), EXPECTED, accepted=True)
        assert step(latest, resend=True) == Attach(EXPECTED, "an earlier try's request was accepted")

    def test_a_doubt_is_waited_for_or_sent_again_under_the_same_name(self) -> None:
        latest = LatestRound(intent(round_number=1), EXPECTED, accepted=False)
        assert isinstance(step(latest), Attach)
        resent = step(latest, resend=True)
        assert isinstance(resent, Send)
        assert resent.round_number == 1

    def test_a_doubt_that_has_no_location_names_the_remedy(self) -> None:
        latest = LatestRound(intent(invocation=None), None, accepted=False)
        with pytest.raises(
            InvalidRequest, match=r"allow sagemaker:DescribeEndpoint .* or pass on_unknown='resend'"
        ):
            step(latest)
        assert isinstance(step(latest, resend=True), Send)

    def test_a_changed_input_is_not_taken_for_done(self) -> None:
        latest = LatestRound(intent(), EXPECTED, accepted=True)
        assert step(latest, OUTPUT, etag="b") == Send(1, "the input has changed since it was sent")

    def test_an_input_that_cannot_be_seen_is_not_taken_for_changed(self) -> None:
        assert isinstance(step(LatestRound(intent(), EXPECTED, accepted=True), OUTPUT, etag=None), Attach)
        assert isinstance(step(LatestRound(intent(input_etag=None), EXPECTED, accepted=True), OUTPUT), Attach)


PRESENCES = st.builds(ResultPresence, st.sampled_from(Presence), st.sampled_from(Presence))


@given(presence=PRESENCES, resend=st.booleans(), now=st.floats(0, 1e10), number=st.integers(0, 5))
def test_accepted_is_sent_again_only_when_it_failed_or_can_give_nothing_any_more(
    presence: ResultPresence, resend: bool, now: float, number: int
) -> None:
    latest = LatestRound(intent(round_number=number), EXPECTED, accepted=True)
    taken = next_step(latest, presence, now=now, resend=resend, input_etag="a")
    if isinstance(taken, Send):
        assert taken.round_number == number + 1
        assert presence.output is not Presence.PRESENT
        assert presence.failure is Presence.PRESENT or (presence == NOTHING and now >= latest.intent.over_at)


@given(tries=st.lists(st.sampled_from(["killed before", "killed after", "answered", "refused"]), max_size=6))
def test_however_tries_end_one_that_is_waited_for_is_accepted_at_most_once(tries: list[str]) -> None:
    """Killed between intent and answer, before or after SageMaker accepted it; ``on_unknown`` is ``wait``."""
    objects: dict[str, bytes] = {}
    accepted = 0
    for number, fate in enumerate(tries, start=1):
        stored = InvocationState.read(objects, folder=FOLDER)
        stored.check_not_fenced(TaskTry(None, number))
        taken = step(stored.latest(FIRST))
        if isinstance(taken, Attach):
            assert "killed before" in tries[: number - 1] or accepted == 1
            continue
        mine = intent(stored.next_number, task_try=TaskTry(None, number))
        assert mine.object_name("intent") not in objects
        objects[mine.object_name("intent")] = msgspec.json.encode(mine)
        accepted += fate in ("killed after", "answered")
        if fate == "answered":
            objects[mine.object_name("accepted")] = msgspec.json.encode(ANSWERED)
        if fate == "refused":
            del objects[mine.object_name("intent")]
    assert accepted <= 1


class TestNames:
    OWNER, ARGUMENTS = "aaaaaaaaaaaa", "bbbbbbbbbbbb"

    @given(number=st.integers(0, 10**6), etag=st.none() | st.text(max_size=40))
    def test_a_derived_file_name_keeps_sagemakers_limits(self, number: int, etag: str | None) -> None:
        name = round_filename(self.OWNER, self.ARGUMENTS, number, input_etag=etag)
        assert replace(REQUEST, filename=name).checked().filename == name

    def test_it_differs_by_round_input_arguments_and_owner(self) -> None:
        names = {
            round_filename(self.OWNER, self.ARGUMENTS, 0, input_etag=None),
            round_filename(self.OWNER, self.ARGUMENTS, 1, input_etag=None),
            round_filename(self.OWNER, self.ARGUMENTS, 0, input_etag="b"),
            round_filename(self.OWNER, "c", 0, input_etag=None),
            round_filename("c", self.ARGUMENTS, 0, input_etag=None),
        }
        assert len(names) == 5

    @pytest.mark.parametrize("prefix", ["s3://b/p/", "s3://b/p"])
    def test_the_folder_takes_a_prefix_with_and_without_a_slash(self, prefix: str) -> None:
        folder = state_folder(prefix, self.OWNER, self.ARGUMENTS)
        assert folder == "s3://b/p/aaaaaaaaaaaa/bbbbbbbbbbbb/"

    @pytest.mark.parametrize(
        "change",
        [
            {"endpoint_name": "f"},
            {"input_location": None, "body": b"x"},
            {"content_type": "text/csv"},
            {"accept": "text/csv"},
            {"custom_attributes": "other"},
            {"inference_id": "j"},
            {"filename": None},
            {"s3_output_path_extension": "x"},
        ],
    )
    def test_arguments_that_make_another_result_make_another_digest(self, change: dict[str, Any]) -> None:
        assert arguments_digest(replace(REQUEST, **change)) != arguments_digest(REQUEST)

    def test_times_to_live_do_not(self) -> None:
        assert arguments_digest(replace(REQUEST, request_ttl=60, invocation_timeout=1)) == arguments_digest(
            REQUEST
        )

    def test_the_longest_regular_wait(self) -> None:
        assert seconds_to_live(None, None) == 22_500
        assert seconds_to_live(60, 1) == 61


class TestPrediction:
    PATHS = ("s3://out/path/", "s3://fail")

    def test_it_is_the_natural_reading(self) -> None:
        prediction = predicted(replace(REQUEST, s3_output_path_extension="day/1"), self.PATHS)
        assert prediction == AsyncInvocation(
            "s3://out/path/day/1/f.out", "s3://fail/day/1/f.out", "i", "s3://in/k"
        )

    def test_without_extension_and_failure_path(self) -> None:
        prediction = predicted(REQUEST, ("s3://out", None))
        assert prediction == AsyncInvocation("s3://out/f.out", None, "i", "s3://in/k")

    def test_without_a_name_or_paths_there_is_no_prediction(self) -> None:
        assert predicted(replace(REQUEST, filename=None), self.PATHS) is None
        assert predicted(REQUEST, None) is None


def test_an_intent_holds_no_secret() -> None:
    assert b"secret" not in msgspec.json.encode(intent(invocation=predicted(REQUEST, TestPrediction.PATHS)))
