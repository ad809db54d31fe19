"""The engine of a batch: read inputs, invoke their payloads, record results, write outputs.

``feed`` opens a model's inputs and cuts them into payloads, as far ahead as memory permits. They wait in the
``model_queue``; ``schedule`` chooses the next one; ``invocations`` sends it through the invoker. ``recorder``
writes results and failures into the journal, and the outputs once an input has ended. ``engine`` connects these parts;
``progress`` logs a line every few seconds.

After a failed invocation ``judgement`` decides what the failure means; ``attempts`` acts on it: a retry, a probe of a
model that still loads (given up after ``model_load_seconds``), a failed payload. ``conclusions`` decides when refusals
prove that a model, or the endpoint, serves none of the payloads.

A payload is *settled* when its result or failure is with the recorder; an input has ended when all its payloads are.

Pure: ``settings``, ``model_queue``, ``schedule``, ``judgement``; the rest runs on one event loop.
``settings`` bounds memory, :mod:`airflow_sm_plugin.batches.adaptive` the number of invocations in flight.

Read ``engine``, ``feed``, ``invocations``, ``attempts``, then ``schedule``.
"""
