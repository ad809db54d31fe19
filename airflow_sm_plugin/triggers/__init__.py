"""Triggers: the waits for SageMaker, in the triggerer or in the task itself.

``polling.py`` holds both bases. ``OneEventTrigger`` emits one event on every path, an error included, and serializes
itself; ``event_here()`` runs the same wait in the task's own process, which is how blocking tasks wait.
``PollingTrigger`` adds one client, a pause, and failed polls that are tolerated (``core/failed_polls.py``).

On them: ``autopilot.py`` (an AutoML job has ended), ``endpoint.py`` (an endpoint can be changed, or serves a
configuration; it cleans up when its task is killed) and ``async_inference.py`` (results are in S3).

A trigger decides nothing that cannot be undone: its event says what it saw last, and the task judges. Class paths and
arguments are stored in Airflow's database while tasks are deferred: they are public.
"""
