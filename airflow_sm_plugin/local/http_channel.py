"""Waitress's handling of connections and threads, mended in one place."""

from __future__ import annotations

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ThreadedTaskDispatcher


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


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc] # waitress has no annotations
    """Threads that are started when there is something for them to do.

    Calls wait here (for a model to be loaded, for a container to answer), and what they wait for may need threads as
    well: the server reads S3 through itself.

    :param most: how many threads there are at most
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def add_task(self, task: object) -> None:
        """Have a request answered, by a new thread if every other is busy."""
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()
            threads = len(self.threads)
            is_short = len(self.queue) > threads - self.active_count
            grows = is_short and threads < self._most and not self.stop_count
        if grows:
            self.set_thread_count(threads + 1)
