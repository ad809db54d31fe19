"""The fault plan: which calls meet an error, a delay, or a connection that closes."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airflow_sm_plugin.local.call_names import CallName
from airflow_sm_plugin.local.fault_rules import BadRule, Rule, rule_from


@dataclass(frozen=True)
class Strike:
    """What the plan does to one call.

    :param delay: hold the call so many seconds before anything is done
    :param rule: the fault that ends it, None when it is only held
    """

    delay: float = 0.0
    rule: Rule | None = None
    latency: bool = False

    @property
    def fault(self) -> str | None:
        """The fault's name for the call log, None when no rule struck."""
        if self.rule is not None:
            return self.rule.fault
        return "latency" if self.latency else None


@dataclass
class _Counted:
    rule: Rule
    chance: random.Random
    matched: int = 0
    struck: int = 0


@dataclass
class FaultPlan:
    """Rules in order, with how often each struck. Thread-safe.

    A call passes the rules one after the other: every latency that strikes adds up, the first other fault that
    strikes decides, and the rules behind it do not see the call.
    """

    _rules: list[_Counted] = field(default_factory=list)
    _seed: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cleared: threading.Event = field(default_factory=threading.Event)

    def replace(self, rules: Iterable[object], *, seed: int | None = None) -> None:
        """Put new rules in the place of the old ones, all or none.

        :param rules: :class:`Rule` or the JSON object of one
        :param seed: makes probabilities repeatable: the same calls are struck each time

        Raises BadRule saying which rule is wrong.
        """
        read = _read(rules)
        with self._lock:
            self._release()
            self._seed = seed
            self._rules = []
            self._append(read)

    def add(self, rules: Iterable[object]) -> None:
        """Append rules; those that are there go on counting. Raises BadRule."""
        read = _read(rules)
        with self._lock:
            self._append(read)

    def clear(self) -> None:
        """Forget the rules, and let go at once of the calls they hold."""
        self.replace(())

    def strike(self, call: CallName) -> Strike:
        """Say what happens to a call, and count it."""
        delay, latency = 0.0, False
        with self._lock:
            for counted in self._rules:
                if not _strikes(counted, call):
                    continue
                rule = counted.rule
                if rule.fault != "latency":
                    held = 0.0 if rule.fault == "lost_answer" else rule.seconds
                    return Strike(delay + held, rule, latency)
                delay, latency = delay + rule.seconds, True
        return Strike(delay, None, latency)

    def hold(self, seconds: float) -> None:
        """Wait so long, or until the plan is replaced or cleared."""
        if seconds > 0:
            with self._lock:
                cleared = self._cleared
            cleared.wait(seconds)

    def as_json(self) -> dict[str, object]:
        """Return the seed and every rule with ``matched`` and ``struck``, how many calls it saw and hit."""
        with self._lock:
            return {
                "seed": self._seed,
                "rules": [
                    {**_given(one.rule), "matched": one.matched, "struck": one.struck} for one in self._rules
                ],
            }

    def _append(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            # Of its own, so that a rule strikes the same calls whatever other rules there are.
            number = len(self._rules)
            chance = random.Random(None if self._seed is None else f"{self._seed}/{number}")  # noqa: S311 - not a secret
            self._rules.append(_Counted(rule, chance))

    def _release(self) -> None:
        self._cleared.set()
        self._cleared = threading.Event()


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
    for number, rule in enumerate(rules, start=1):
        try:
            read.append(rule if isinstance(rule, Rule) else rule_from(rule))
        except BadRule as error:
            raise BadRule(f"rule {number}: {error}") from None
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
