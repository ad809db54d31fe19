"""The texts of an asynchronous batch's page, finished or stopped by an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Any

from airflow_sm_plugin.async_inference.batch.ledger import Ledger
from airflow_sm_plugin.async_inference.batch.report import Status
from airflow_sm_plugin.async_inference.watch_state import WatchCounts
from airflow_sm_plugin.batches.report.elements import (
    MOST_SHOWN,
    Card,
    Headline,
    RunContext,
    bad,
    card,
    shown_groups,
)
from airflow_sm_plugin.batches.report.failures import FailureGroup
from airflow_sm_plugin.core.text import clock, count, duration, period, plural, share
from airflow_sm_plugin.exceptions import EndpointNotFound

_NOTHING = "-"


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """The numbers of one round.

    :param sent: requests that were accepted, or count as accepted
    :param waiting: of these, without a result
    :param unsent: inputs that were not sent
    :param sent_until: epoch seconds of the last acceptance
    :param ended_at: epoch seconds; None for a round that has not ended
    """

    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    refused: int = 0
    waiting: int = 0
    unsent: int = 0
    sent_until: float | None = None
    ended_at: float | None = None

    @classmethod
    def of(cls, ledger: Ledger, polled: WatchCounts | None) -> RoundFigures:
        """Count what a ledger has.

        :param polled: the results of the last poll, for a round that has not ended
        """
        outcome, sent = ledger.outcome, ledger.sent.bit_count()
        until = max(ledger.submitted.values(), default=None)
        refused = ledger.refused_numbers.bit_count()
        if outcome is not None:
            return cls(
                sent=sent,
                succeeded=outcome.succeeded.bit_count(),
                failed=outcome.failed.bit_count(),
                expired=outcome.expired.bit_count(),
                refused=refused,
                sent_until=until,
                ended_at=ledger.last_at,
            )
        results = polled or WatchCounts()
        return cls(
            sent=sent,
            succeeded=results.succeeded,
            failed=results.failed,
            expired=results.timed_out,
            refused=refused,
            waiting=max(0, sent - results.succeeded - results.failed - results.timed_out),
            unsent=(ledger.unsent | ledger.doubtful).bit_count(),
            sent_until=until,
        )

    @property
    def waited(self) -> float | None:
        """Seconds from the last acceptance to the end of the round."""
        if self.ended_at is None or self.sent_until is None:
            return None
        return max(0.0, self.ended_at - self.sent_until)

    def cells(self) -> list[tuple[str, str]]:
        """List the titles and texts of the round's row."""
        counts = (
            ("Sent", self.sent),
            ("Succeeded", self.succeeded),
            ("Failed", self.failed),
            ("Expired", self.expired),
            ("Refused", self.refused),
            ("Waited for", self.waiting),
            ("Not sent", self.unsent),
        )
        return [
            *((title, count(number)) for title, number in counts),
            ("Sent until", _NOTHING if self.sent_until is None else clock(self.sent_until)),
            ("Then waited", _NOTHING if self.waited is None else duration(self.waited)),
        ]


@dataclass(frozen=True)
class BatchFigures:
    """The whole batch as its page shows it.

    :param inputs: of the plan
    :param carried: of these, with an output under an earlier plan
    :param started_at: ISO 8601, as is ``finished_at``
    :param stopped: class and message of the error that stopped the batch; None for a finished one
    """

    endpoint_name: str
    folder: str
    _: KW_ONLY
    inputs: int
    carried: int
    started_at: str
    finished_at: str
    rounds: Sequence[RoundFigures] = ()
    failures: Sequence[FailureGroup] = ()
    stopped: tuple[str, str] | None = None

    @property
    def succeeded(self) -> int:
        return self.carried + sum(each.succeeded for each in self.rounds)

    @property
    def unsuccessful(self) -> int:
        return self.inputs - self.succeeded


def view_of(batch: BatchFigures, context: RunContext) -> dict[str, Any]:
    """Make the texts of the page, by their names in the template."""
    began, ended = (datetime.fromisoformat(iso) for iso in (batch.started_at, batch.finished_at))
    groups = sorted(batch.failures, key=lambda group: -group.count)
    return {
        "when": period(began.timestamp(), ended.timestamp()),
        "headline": _headline(batch, context),
        "cards": _cards(batch, max(0.0, (ended - began).total_seconds())),
        "groups": shown_groups((("", group) for group in groups[:MOST_SHOWN]), "input"),
        "more_groups": max(0, len(groups) - MOST_SHOWN),
        **_rounds(batch.rounds),
    }


def _rounds(rounds: Sequence[RoundFigures]) -> dict[str, Any]:
    """Make the table of rounds, without columns that are 0 in all of them."""
    rows = [dict(each.cells()) for each in rounds]
    titles = [title for title in (rows[0] if rows else ()) if any(row[title] != "0" for row in rows)]
    return {
        "round_titles": ["Round", *titles],
        "rounds": [
            [str(number), *(row[title] for title in titles)] for number, row in enumerate(rows, start=1)
        ],
    }


def _headline(batch: BatchFigures, context: RunContext) -> Headline:
    left = batch.unsuccessful
    if batch.stopped is not None:
        error, message = batch.stopped
        return Headline(
            "bad",
            f"Unfinished: {count(batch.succeeded)} of {plural(batch.inputs, 'input')} done, {count(left)} left",
            [f"{error}: {message}"],
            _advice(error, batch, context),
        )
    if left:
        text = f"{count(left)} of {plural(batch.inputs, 'input')} have no output"
        return Headline("bad", text, (), _advice("", batch, context))
    if not batch.rounds:
        return Headline("idle", f"Nothing to do: an earlier plan did all {plural(batch.inputs, 'input')}")
    every = "The only input has" if batch.inputs == 1 else f"All {count(batch.inputs)} inputs have"
    return Headline("good", f"{every} an output")


def _advice(error: str, batch: BatchFigures, context: RunContext) -> str:
    gone = error == EndpointNotFound.__name__
    first = f"Deploy endpoint {batch.endpoint_name} again" if gone else "Correct the cause"
    return f"{first}, then clear {context.clear}: outputs are kept, and only the other inputs are sent."


def _cards(batch: BatchFigures, seconds: float) -> list[Card]:
    rounds = batch.rounds
    kinds = {kind: sum(group.count for group in batch.failures if group.error == kind) for kind in Status}
    waited = [each.waited for each in rounds if each.waited is not None]
    cards = [
        card(
            "Inputs",
            count(batch.inputs),
            f"{count(batch.succeeded)} with an output ({share(batch.succeeded, batch.inputs)})",
            f"of these {count(batch.carried)} from an earlier plan" if batch.carried else "",
            *(bad(kinds[kind], kind.value) for kind in (Status.FAILED, Status.EXPIRED, Status.REFUSED)),
            bad(sum(each.waiting for each in rounds), "waited for"),
            bad(sum(each.unsent for each in rounds), "not sent"),
        ),
        card("Requests", count(sum(each.sent for each in rounds)), f"in {plural(len(rounds), 'round')}"),
        card("Duration", duration(seconds)),
    ]
    if waited:
        cards.append(
            card("Waited for results", duration(sum(waited)), "after the last request of each round")
        )
    return cards
