"""The fault plan: which calls get an error, a delay, or a closed connection."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from airflow_sm_plugin.local.faults.fault_rules import BadRule, Rule, rule_from
from airflow_sm_plugin.local.protocol.call_names import CallName


@dataclass(frozen=True)
class Hold:
    """A call is held for so many seconds, or until its rule is removed from the plan."""

    seconds: float
    forgotten: threading.Event

    def wait(self) -> None:
        self.forgotten.wait(self.seconds)


@dataclass(frozen=True)
class Strike:
    """The effect of the plan on a call.

    :param before: hold the call before it is carried out
    :param after: holds the call of a ``lost_answer`` after it was carried out
    :param rule: the fault that ends the call; None for a call that is only held
    """

    before: tuple[Hold, ...] = ()
    after: Hold | None = None
    rule: Rule | None = None

    @property
    def fault(self) -> str | None:
        if self.rule is not None:
            return self.rule.fault
        return "latency" if self.before else None

    def hold_call(self) -> None:
        for hold in self.before:
            hold.wait()

    def hold_answer(self) -> None:
        if self.after is not None:
            self.after.wait()


@dataclass
class _Counted:
    rule: Rule
    chance: random.Random
    matched: int = 0
    struck: int = 0
    forgotten: threading.Event = field(default_factory=threading.Event)

    @property
    def hold(self) -> Hold:
        return Hold(self.rule.seconds, self.forgotten)


@dataclass
class FaultPlan:
    """Rules in order, with how often each struck. Thread-safe.

    A call passes the rules one after the other. All latencies that strike add up. The first other fault that strikes
    ends the pass; the rules behind it do not count the call.
    """

    _rules: list[_Counted] = field(default_factory=list)
    _seed: int | None = None
    _appended: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def replace(self, rules: Iterable[object], *, seed: int | None = None) -> None:
        """Replace all rules, or none when one is wrong.

        :param rules: :class:`Rule` or the JSON object of one
        :param seed: makes probabilities repeatable: the same calls are struck in each run

        Raises BadRule naming the wrong rule.
        """
        read = _read(rules)
        with self._lock:
            self._keep(lambda _: False)
            self._seed, self._appended = seed, 0
            self._append(read)

    def add(self, rules: Iterable[object]) -> None:
        read = _read(rules)
        with self._lock:
            self._append(read)

    def clear(self) -> None:
        """Remove the rules, and release the calls that they hold."""
        self.replace(())

    def forget(self, resource: str) -> None:
        """Remove the rules with exactly this ``resource``, and release the calls that they hold; other rules stay."""
        with self._lock:
            self._keep(lambda rule: rule.resource != resource)

    def strike(self, call: CallName) -> Strike:
        before: list[Hold] = []
        with self._lock:
            for counted in self._rules:
                if not _strikes(counted, call):
                    continue
                if counted.rule.fault == "lost_answer":
                    return Strike(tuple(before), after=counted.hold, rule=counted.rule)
                before.append(counted.hold)
                if counted.rule.fault != "latency":
                    return Strike(tuple(before), rule=counted.rule)
        return Strike(tuple(before))

    def as_json(self) -> dict[str, object]:
        with self._lock:
            return {
                "seed": self._seed,
                "rules": [
                    {**_given(counted.rule), "matched": counted.matched, "struck": counted.struck}
                    for counted in self._rules
                ],
            }

    def _append(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            # A generator per rule: a rule strikes the same calls whatever the other rules.
            position, self._appended = self._appended, self._appended + 1
            chance = random.Random(None if self._seed is None else f"{self._seed}/{position}")  # noqa: S311 - not a secret
            self._rules.append(_Counted(rule, chance))

    def _keep(self, kept: Callable[[Rule], bool]) -> None:
        for counted in self._rules:
            if not kept(counted.rule):
                counted.forgotten.set()
        self._rules = [counted for counted in self._rules if kept(counted.rule)]


def plan_from(value: object) -> tuple[list[object], int | None]:
    """Read a plan from JSON: a list of rules, or ``{"seed": 7, "rules": [...]}``. Raises BadRule."""
    if isinstance(value, list):
        return value, None
    if (
        not isinstance(value, Mapping)
        or set(value) - {"seed", "rules"}
        or not isinstance(value.get("rules"), list)
    ):
        raise BadRule('a fault plan is a list of rules, or {"seed": number, "rules": [...]}')
    seed = value.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise BadRule(f"seed must be a whole number, not {seed!r}")
    return list(value["rules"]), seed


def _read(rules: Iterable[object]) -> list[Rule]:
    read = []
    for position, rule in enumerate(rules, start=1):
        try:
            read.append(rule if isinstance(rule, Rule) else rule_from(rule))
        except BadRule as error:
            raise BadRule(f"rule {position}: {error}") from None
    return read


def _strikes(counted: _Counted, call: CallName) -> bool:
    rule = counted.rule
    if not rule.concerns(call):
        return False
    counted.matched += 1
    if counted.matched <= rule.after or counted.struck == rule.times:
        return False
    if counted.chance.random() >= rule.probability:
        return False
    counted.struck += 1
    return True


def _given(rule: Rule) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(rule).items() if value is not None}
