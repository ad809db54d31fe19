"""The faults of the mutation check fit the package as it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.faults import FAULTS, Fault

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    ast.parse(fault.planted((ROOT / fault.file).read_text()))


def test_there_are_thirty_two_over_all_legs_and_ten_in_kill_safe_code() -> None:
    assert len({fault.name for fault in FAULTS}) == 32
    assert {fault.leg for fault in FAULTS} == {1, 2, 3, 4}
    assert sum(fault.kill_safe for fault in FAULTS) >= 10
