"""Sensors: ``async_inference.py`` waits for results of asynchronous invocations that other tasks sent.

It pokes, reschedules or defers; each way polls by the same rule (``async_inference/``), and deferred it uses
``triggers/async_inference.py``.
"""
