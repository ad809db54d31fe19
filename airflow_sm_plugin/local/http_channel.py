"""Waitress's connection handling, mended in one place."""

from __future__ import annotations

from waitress.channel import HTTPChannel


class Channel(HTTPChannel):  # type: ignore[misc] # waitress has no annotations
    """A connection on which ``Expect: 100-continue`` without a body is answered.

    Waitress (3.0) answers such a request with ``100 Continue`` and then waits for the body that does not come;
    boto3 sends every empty object that way.
    """

    def send_continue(self) -> None:
        """Invite the client to send its body, if it has one."""
        if self.request.body_rcv is None:
            self.request.expect_continue = False
            return
        super().send_continue()
