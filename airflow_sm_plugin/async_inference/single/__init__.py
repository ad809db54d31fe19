"""One asynchronous invocation, accepted once over all tries of its task.

``operators/invoke_async.py`` makes a ``Sending`` of its arguments and submits it, waits with the trigger in
``triggers/async_inference.py``, and reads the result. Read the files in this order:

* ``state`` (pure): the intent that a try writes before it sends, SageMaker's answer, and ``next_step``, which decides
  between sending and waiting for what an earlier try sent.
* ``input``: the request with its limits, and its input object: checked with its ETag, or uploaded.
* ``run``: the state's objects in S3, and one try: it reads the state, decides, writes the intent, sends, and writes the
  answer, also when killed. A request that SageMaker throttles or answers with 5xx is sent up to five times.
* ``result``: output and failure object after the wait, and the errors of a failed or missing inference.

Without ``state_prefix`` no state is stored: a retry finds an earlier output only by its file name, which is the same
at every try.
"""
