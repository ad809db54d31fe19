"""A multi-model endpoint for benchmarks: latency, failures, models that load, are held and evicted, as one sets them.

Models that are asked for load side by side, each into a slot of its own. When no slot is free, the least recently
used model is evicted; while every slot is loading, further models queue. A call for a model that loads is held, as
SageMaker does (for up to a minute), and then refused with ModelNotReadyException; with ``hold_seconds`` 0 at once.

``endpoint.c`` behaves alike; ``test_endpoint.py`` holds both to it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.stubs.http_server import Answer, Reply, Request

_TARGET = b"x-amzn-sagemaker-target-model:"
_SERVED = (
    "x-amzn-RequestId: 4f7a2c1e-0f57-4d5b-9f0e-8a1f9b1c2d3e\r\nx-Amzn-Invoked-Production-Variant: all\r\n"
    "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/csv\r\n"
)
_FAILED = (
    "x-amzn-RequestId: 4f7a2c1e-0f57-4d5b-9f0e-8a1f9b1c2d3e\r\nx-amzn-ErrorType: {code}:\r\n"
    "Content-Type: application/json\r\n"
)


@dataclass
class EndpointSettings:
    """Settings of the stub of an endpoint.

    :param latency: seconds that a loaded model takes in the mean
    :param spread: by what share of it a call may take less or more, all alike
    :param s3_latency: seconds that each call of S3 takes
    :param answer_bytes: an answer is so much of each record's beginning
    :param throttled: share of calls that are answered with 429 ThrottlingException
    :param unavailable: share of calls that are answered with 503
    :param capacity: how many models have a slot; None has all of them loaded
    :param load_seconds: how long a model loads
    :param hold_seconds: how long a call for a model that loads is held
    """

    latency: float = 0.0
    spread: float = 0.0
    s3_latency: float = 0.0
    answer_bytes: int = 16
    throttled: float = 0.0
    unavailable: float = 0.0
    capacity: int | None = None
    load_seconds: float = 0.0
    hold_seconds: float = 60.0


class StubModels:
    """The endpoint's state."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0
        """That answered calls took: the clock of a busy machine adds to what was set."""
        self.begin(EndpointSettings())

    def begin(self, settings: EndpointSettings) -> None:
        """Behave so from now on; nothing is loaded."""
        self.settings = settings
        self._random = random.Random(7)  # noqa: S311 - the same failures in every run
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._loading: dict[str, list[Callable[[], None]]] = {}
        self._queue: deque[str] = deque()
        self._on_the_way = 0

    def invoke(self, request: Request, reply: Reply) -> None:
        """Answer an InvokeEndpoint."""
        settings = self.settings
        self.calls["invoke"] += 1
        if settings.throttled or settings.unavailable:
            drawn = self._random.random()
            if drawn < settings.throttled:
                self._refuse(reply, 429, "ThrottlingException", "Rate exceeded")
                return
            if drawn < settings.throttled + settings.unavailable:
                self._refuse(reply, 503, "ServiceUnavailable", "try again")
                return
        if settings.capacity is None:
            self._serve(request, reply)
            return
        model = request.header(_TARGET)
        if model in self._loaded:
            self._loaded.move_to_end(model)
            self._serve(request, reply)
            return
        self._wait(model, request, reply)

    def _serve(self, request: Request, reply: Reply) -> None:
        self._on_the_way += 1
        self.calls["most in flight"] = max(self.calls["most in flight"], self._on_the_way)
        settings = self.settings
        if settings.latency:
            factor = 1 + settings.spread * (2 * self._random.random() - 1) if settings.spread else 1
            self._loop.call_later(settings.latency * factor, self._answer, request, reply, self._loop.time())
        else:
            self._answer(request, reply, self._loop.time())

    def _answer(self, request: Request, reply: Reply, began: float) -> None:
        self._on_the_way -= 1
        size, body = self.settings.answer_bytes, request.body
        rows = [line[:size] for line in body.split(b"\n")] if b"\n" in body else [body[:size]]
        seconds = self._loop.time() - began
        if reply(Answer(200, b"\n".join(rows), _SERVED)):
            self.seconds += seconds
            self.calls["answered"] += 1

    def _refuse(self, reply: Reply, status: int, code: str, message: str) -> None:
        self.calls[code] += 1
        reply(Answer(status, json.dumps({"Message": message}).encode(), _FAILED.format(code=code)))

    # Models

    def _wait(self, model: str, request: Request, reply: Reply) -> None:
        waiting = self._loading.get(model)
        if waiting is None:
            waiting = self._loading[model] = []
            self._queue.append(model)
            self._load_next()
        if not self.settings.hold_seconds:
            self._not_ready(reply)
            return

        def give_up() -> None:
            waiting.remove(serve)
            self._not_ready(reply)

        timer = self._loop.call_later(self.settings.hold_seconds, give_up)

        def serve() -> None:
            timer.cancel()
            self._serve(request, reply)

        waiting.append(serve)

    def _not_ready(self, reply: Reply) -> None:
        self._refuse(reply, 429, "ModelNotReadyException", "The model is loading, retry your request")

    def _load_next(self) -> None:
        capacity = self.settings.capacity or 0
        while self._queue:
            under_way = len(self._loading) - len(self._queue)
            if under_way >= capacity:
                return
            if under_way + len(self._loaded) >= capacity:
                self._loaded.popitem(last=False)
                self.calls["evicted"] += 1
            model = self._queue.popleft()
            self.calls["loaded"] += 1
            self._loop.call_later(self.settings.load_seconds, self._now_loaded, model, self._loading)

    def _now_loaded(self, model: str, loading: dict[str, list[Callable[[], None]]]) -> None:
        if loading is not self._loading:
            return  # of the capacity before the change
        self._loaded[model] = None
        for serve in self._loading.pop(model):
            serve()
        self._load_next()
