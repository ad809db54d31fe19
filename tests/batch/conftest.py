"""What tests of batches share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.async_batches import growing_patience


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that is not there yet: a model that waits for it goes on when the test makes it, or at the test's end."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def _growing_patience() -> Iterator[None]:
    with growing_patience():
        yield
