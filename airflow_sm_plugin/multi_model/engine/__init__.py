"""The engine of a batch: read inputs, invoke their payloads, record results, write outputs.

An input's way: ``reader`` opens it and cuts it into payloads, as far ahead as its model's ``feed`` has room; they wait
in the ``model_queue``; ``schedule`` decides which goes next; ``invocations`` sends it through the ``invoker``;
``recorder`` writes results and failures into the journal, and outputs once an input has ended. ``engine`` joins them.

A failed invocation goes another way: ``judgement`` says what it means, ``attempts`` does what follows (a retry, a
probe of a cold model, a failed payload), ``conclusions`` decides when a model or the endpoint is given up.

Pure: ``settings``, ``model_queue``, ``schedule``, ``eviction_signs``, ``judgement``; the rest runs on one event loop.
Memory is bounded in ``settings``, the number in flight by :mod:`airflow_sm_plugin.batches.adaptive`.

Read ``engine``, ``feed``, ``invocations``, ``attempts``, then ``schedule``.
"""
