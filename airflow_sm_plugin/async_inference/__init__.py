"""Endpoints that answer later: InvokeEndpointAsync, and the wait for results in S3.

A request goes out through :mod:`invoker` and returns the locations of its output and its failure object. :mod:`watch`
describes the results that a wait awaits: folders with up to a thousand named results, each with a deadline. :mod:`poll`
decides which listings or HEADs to send, and :mod:`watcher` sends them; the answers add to :mod:`watch_state`, which
counts outcomes and ends the wait. :mod:`queue` only makes a poll come sooner, when SageMaker notifies an SQS queue.

Read in this order: :mod:`watch` (the awaited results), :mod:`watch_state` (the known results), :mod:`poll` and
:mod:`watcher` (one poll), :mod:`queue`; :mod:`awaited` (the sensor's invocations) and :mod:`locations` (a batch's
names) as needed. The loops between polls are in ``triggers/async_inference.py`` and ``sensors/async_inference.py``.

Two rooms use this one and not each other: ``single/`` has one invocation accepted once over all tries of its
task, ``batch/`` a whole batch.
"""
