"""Every call of this folder reaches the embedded SageMaker, unless a test says otherwise."""

from __future__ import annotations

import pytest

from tests.support import Account


@pytest.fixture(autouse=True)
def _in_the_account(account: Account) -> None:
    """Point every client at the embedded SageMaker."""
