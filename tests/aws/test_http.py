"""The session of S3 and of the control services sends each request once."""

from __future__ import annotations

import asyncio

import pytest
from botocore.exceptions import ConnectionClosedError

from airflow_sm_plugin.aws.access import Address, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.http import SignedHttp
from airflow_sm_plugin.aws.signer import UnsignedRequest
from tests.invoke.scripted_server import FINE, Peer, scripted

pytestmark = pytest.mark.airflow


def test_a_read_that_breaks_is_not_sent_again_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aiohttp would: a GET may be repeated. Who calls decides that here."""

    async def serve(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(FINE)
        await peer.reader.readuntil(b"\r\n\r\n")

    async def opened() -> int:
        async with scripted(serve) as server:
            access = await ServiceAccess.connect(
                UnrepeatedHook(aws_conn_id=None, client_type="sqs", max_connections=1)
            )
            access.unsent("ListQueues", {})
            address = Address(server.url, "us-east-1", "sqs")
            async with SignedHttp(access, access.wire()) as http:
                assert (await http.send(address, UnsignedRequest("GET", "/"))).body == b"ok"
                with pytest.raises(ConnectionClosedError):
                    await http.send(address, UnsignedRequest("GET", "/"))
            return server.connections

    assert asyncio.run(opened()) == 1
