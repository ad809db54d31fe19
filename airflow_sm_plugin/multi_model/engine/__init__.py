"""The engine of a batch: four stages side by side; each takes from the queue before it and puts into the next.

::

    reader ─── payload_queue ──▶ invocations ─── result_queue ──▶ recorder ─── complete ──▶ output_writing
      └── failures that need no invocation, input read ────────────▶ ┘ ◀──────── input ended ────┘

- ``reader`` opens models, reads their inputs and cuts them into payloads.
- ``payload_queue`` holds them by model, within a budget of bytes. ``schedule`` chooses the next payload and how many
  models are open, by ``model_queue`` (their order) and ``warm_limit`` (how many the endpoint holds).
- ``invocations`` are as many workers as may be in flight; each takes a payload and invokes its model. A failed one goes
  back into its queue for a retry, or on as a failure: ``judgement`` says what the failure means, ``attempts`` acts on
  it, ``conclusions`` decides when failures prove that a model, or the endpoint, serves none of its payloads.
- ``recorder`` writes results and failures into the journal, about twice a second, and passes an input on when each of
  its records has a result or has failed.
- ``output_writing`` writes the outputs and reports that the input has ended, which goes into the journal, too.

``engine`` starts the stages. They end in this order: the reader closes the first queue, the invocations the second; the
recorder ends when all inputs have. An error, or a kill, ends all stages at once except the recorder, which first writes
down what has come; what is in flight is invoked again by a retry.

What holds a stage back lies in the queues: bytes of waiting payloads and the number of open models in the first; bytes
that are not in S3 and the number of open inputs in the second. ``work`` has the models, inputs and payloads that both
ends of a queue share, ``settings`` the bounds; :mod:`airflow_sm_plugin.batches.adaptive` limits the invocations.

Pure: ``settings``, ``model_queue``, ``schedule``, ``warm_limit``, ``judgement``; the rest runs on one event loop.

Read ``engine``, ``work``, ``reader``, ``payload_queue``, ``invocations``, ``attempts``, ``conclusions``,
``result_queue``, ``recorder``, ``output_writing``.
"""
