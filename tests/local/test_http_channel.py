"""What the web server in front needs mending for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.local.conftest import Clients


@pytest.mark.timeout(20)
@pytest.mark.parametrize("body", [b"", b"x"])
def test_an_object_is_stored_whether_or_not_it_has_a_body(clients: Clients, body: bytes) -> None:
    for _ in range(2):  # the connection stays usable
        clients.s3.put_object(Bucket=clients.bucket, Key="marker", Body=body)

    assert clients.s3.get_object(Bucket=clients.bucket, Key="marker")["Body"].read() == body
