"""Waitress's connection handling, mended in one place."""

from __future__ import annotations

from waitress.channel import ClientDisconnected, HTTPChannel


class Dropped(ClientDisconnected):  # type: ignore[misc] # waitress has no annotations
    """Close this connection without an answer.

    Waitress takes it for the client's having gone, and does just that.
    """


class Channel(HTTPChannel):  # type: ignore[misc] # waitress has no annotations
    """A connection on which ``Expect: 100-continue`` without a body is answered.

    Waitress (3.0) answers such a request with ``100 Continue`` and then waits for the body that does not come;
    boto3 sends every empty object that way. The ``100 Continue`` itself must be sent: botocore up to 1.42 takes a
    final answer in its place for that of the connection's next request as well, and hangs.
    """

    def send_continue(self) -> None:
        """Invite the client to go on; a request without a body is complete all the same."""
        complete = self.request.body_rcv is None
        super().send_continue()
        self.request.completed = complete
