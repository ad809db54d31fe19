"""After any order of sends, losses, kills and restarts, the ledger has the right state of each number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart, OddLocation
from airflow_sm_plugin.async_inference.locations import LocationPattern
from airflow_sm_plugin.core.number_sets import below, first_of, from_numbers, numbers_of

COUNT = 60
MASKS = st.sets(st.integers(0, 2_300)).map(from_numbers)
PATTERN = LocationPattern("s3://b/{extension}/{filename}", None)
TABLES = st.dictionaries(
    st.integers(0, 2_300), st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4
)
PARTS = st.builds(
    LedgerPart,
    token=st.text(max_size=8),
    written_at=st.floats(0, 2e9),
    claim=st.none() | st.integers(0, 99),
    may_send=MASKS,
    accepted=MASKS,
    submitted_at=st.none() | st.floats(0, 2e9),
    assumed=MASKS,
    withdrawn=MASKS,
    refused=TABLES,
    pattern=st.none() | st.just(PATTERN),
    odd=st.dictionaries(
        st.integers(0, COUNT - 1),
        st.builds(OddLocation, st.text(), st.none() | st.text(), st.none() | st.text()),
    ),
    unnamed=st.booleans(),
)


@given(PARTS)
def test_a_part_is_read_back_as_it_was_written(part: LedgerPart) -> None:
    assert LedgerPart.from_json(part.as_json()) == part


@given(st.lists(PARTS, max_size=4))
def test_each_number_is_in_exactly_one_state(parts: list[LedgerPart]) -> None:
    ledger = Ledger(2_301)
    for part in parts:
        ledger = ledger.after(part)
    states = (ledger.unsent, ledger.doubtful, ledger.settled)
    assert states[0] | states[1] | states[2] == below(2_301)
    assert sum(state.bit_count() for state in states) == 2_301
    assert ledger.parts == len(parts)


def test_empty_fields_are_not_written() -> None:
    assert LedgerPart(token="t", written_at=1.5).as_json() == b'{"token":"t","written_at":1.5}'


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"token":"t","written_at":1,"accepted":[[2,1]]}'])
def test_a_body_that_is_no_part_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, AttributeError)):
        LedgerPart.from_json(body)


def test_intended_but_unanswered_is_in_doubt_and_shown() -> None:
    ledger = Ledger(3_000).after(LedgerPart(token="a", written_at=1.0, claim=0, may_send=below(2_100)))
    ledger = ledger.after(
        LedgerPart(token="a", written_at=2.0, accepted=below(999), refused={999: ("RequestRefused", "no")})
    )
    assert list(numbers_of(ledger.doubtful)) == list(range(1_000, 2_100))
    assert list(numbers_of(ledger.unsent)) == list(range(2_100, 3_000))


def test_withdrawn_numbers_are_sent_again_without_a_doubt() -> None:
    ledger = Ledger(10).after(LedgerPart(token="a", written_at=1.0, may_send=below(10)))
    ledger = ledger.after(
        LedgerPart(token="a", written_at=2.0, accepted=below(4), withdrawn=below(10) & ~below(4))
    )
    assert not ledger.doubtful
    assert list(numbers_of(ledger.unsent)) == [4, 5, 6, 7, 8, 9]
    again = ledger.after(LedgerPart(token="b", written_at=3.0, may_send=below(6) & ~below(4)))
    assert list(numbers_of(again.doubtful)) == [4, 5]


def test_a_shards_time_is_that_of_its_latest_submission() -> None:
    ledger = Ledger(3_000).after(
        LedgerPart(token="a", written_at=10.0, accepted=below(1_001), submitted_at=9.0)
    )
    ledger = ledger.after(LedgerPart(token="a", written_at=20.0, accepted=1 << 1_500, submitted_at=19.0))
    ledger = ledger.after(LedgerPart(token="a", written_at=8.0, accepted=1 << 5, submitted_at=7.0))
    assert [ledger.submitted.get(shard) for shard in range(3)] == [9.0, 19.0, None]


def test_doubts_that_count_as_sent_are_waited_for_and_no_doubts_any_more() -> None:
    ledger = Ledger(4).after(LedgerPart(token="a", written_at=1.0, may_send=below(4)))
    ledger = ledger.after(
        LedgerPart(token="b", written_at=5.0, claim=1, assumed=ledger.doubtful, submitted_at=3.0)
    )
    assert ledger.sent == below(4)
    assert ledger.submitted.get(0) == 3.0


class Sending(RuleBasedStateMachine):
    """A process that obeys the rule, dies between any two steps, and its successors, who only read the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[LedgerPart] = []
        self.really_sent: dict[int, int] = {}
        self.in_memory: set[int] = set()
        self.lost: set[int] = set()
        self.begin()

    pending: Bundle[int] = Bundle("pending")

    @property
    def ledger(self) -> Ledger:
        ledger = Ledger(COUNT)
        for part in self.parts:
            ledger = ledger.after(LedgerPart.from_json(part.as_json()))
        return ledger

    def begin(self) -> None:
        """Claim, and assume that doubtful numbers were sent."""
        self.in_memory, self.lost = set(), set()
        doubts = self.ledger.doubtful
        self.parts.append(
            LedgerPart(token="t", written_at=float(len(self.parts)), claim=len(self.parts), assumed=doubts)
        )

    @rule(size=st.integers(1, 20))
    def intend(self, size: int) -> None:
        self.parts.append(LedgerPart(token="t", written_at=0.0, may_send=first_of(self.ledger.unsent, size)))

    @rule(target=pending, data=st.data())
    def send(self, data: st.DataObject) -> int:
        open_now = sorted(set(numbers_of(self.ledger.doubtful)) - self.in_memory - self.lost)
        if not open_now:
            return -1
        number = data.draw(st.sampled_from(open_now))
        self.really_sent[number] = self.really_sent.get(number, 0) + 1
        self.lost.add(number)
        return number

    @rule(number=consumes(pending))
    def answer(self, number: int) -> None:
        if number in self.lost:
            self.lost.discard(number)
            self.in_memory.add(number)

    @rule()
    def write_down(self) -> None:
        self.parts.append(
            LedgerPart(token="t", written_at=0.0, accepted=from_numbers(self.in_memory), submitted_at=0.0)
        )
        self.in_memory = set()

    @rule()
    def die_and_begin_again(self) -> None:
        self.begin()

    @invariant()
    def nothing_is_sent_twice_and_nothing_that_was_sent_is_forgotten(self) -> None:
        ledger = self.ledger
        assert all(times == 1 for times in self.really_sent.values())
        assert not from_numbers(self.really_sent) & ledger.unsent
        assert not ledger.accepted & ~from_numbers(self.really_sent)


TestSending = Sending.TestCase
