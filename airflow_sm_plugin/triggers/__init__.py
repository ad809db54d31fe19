"""Triggers: the waits for SageMaker, in the triggerer or in the task itself.

``polling.py`` holds both bases. ``OneEventTrigger`` emits one event on every path, an error included, and serializes
itself; a blocking task runs the same wait in its own process with ``event_here()``. ``PollingTrigger`` adds one client,
a pause, and failed polls that are tolerated (``core/failed_polls.py``).

Their subclasses: ``autopilot.py`` (an AutoML job has ended), ``endpoint.py`` (an endpoint can be changed, or serves a
configuration; it cleans up when its task is killed) and ``async_inference.py`` (results are in S3).

A trigger does nothing that cannot be undone: its event reports the last poll, and the task judges. Class paths and
arguments are stored in Airflow's database while tasks are deferred: they are public.
"""
