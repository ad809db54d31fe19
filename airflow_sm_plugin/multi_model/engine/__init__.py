"""The engine of a batch: four stages that run side by side, each of which takes from the queue before it.

::

    reader ──── payload_queue ───▶ invocations ──── result_queue ───▶ recorder ─── complete ───▶ output_writing
      └──── failures without an invocation, input read ────▶ ┘ ◀──────────── input ended ─────────────┘

- ``reader`` opens models, reads their inputs and cuts them into payloads, as far ahead as memory permits.
- ``payload_queue`` holds them by model. ``schedule`` chooses the next one and how many models may be open, by
  ``model_queue`` (the order of the models) and ``warm_limit`` (how many the endpoint holds).
- ``invocations`` are as many workers as may be in flight: each takes a payload and invokes its model. After a failure
  ``judgement`` decides what it means and ``attempts`` acts on it: a retry or a probe of a model that still loads goes
  back into the payload's own queue, a failed payload on to the recorder. ``conclusions`` decides when refusals prove
  that a model, or the endpoint, serves none of the payloads.
- ``recorder`` writes results and failures into the journal, a few times a second. It passes an input on when all its
  records are *settled*: have a result, or have failed.
- ``output_writing`` writes the outputs of complete inputs. Its last word on each, that it has ended, goes into the
  journal.

``engine`` starts the stages. The end goes the way of the data: the reader closes its queue, the invocations the next
one, the recorder the last. An error ends all stages at once, but the recorder, which first writes down what came.

Both queues are bounded: the one of payloads by bytes, and by models; the one of results by bytes that are not in S3,
and by open inputs. ``work`` has what they hold, ``settings`` the bounds; :mod:`airflow_sm_plugin.batches.adaptive`
limits how many invocations are in flight.

Pure: ``settings``, ``model_queue``, ``schedule``, ``warm_limit``, ``judgement``; the rest runs on one event loop.

Read ``engine``, then the stages in order.
"""
