"""Shared fixtures of the tests of batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.async_inference.batch.async_batches import growing_patience


@pytest.fixture
def _growing_patience() -> Iterator[None]:
    with growing_patience():
        yield
