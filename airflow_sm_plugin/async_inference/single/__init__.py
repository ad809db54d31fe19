"""One asynchronous invocation, sent exactly once over all tries of its task.

``operators/invoke_async.py`` makes a ``Sending`` of its arguments, has it submitted, waits with the trigger of
``triggers/async_inference.py``, and reads the result. Read the files in this order:

* ``state`` (pure): the intent that is written before a request is sent, the answer after it, and ``next_step``, which
  decides between sending and attaching to what an earlier try sent.
* ``input``: the request with its limits, and its input object: polled for its ETag, or uploaded.
* ``store``: the state's objects in S3, each written only if it is new.
* ``run``: one try. It reads the state, decides, writes the intent, sends, and writes the answer, even when killed.
* ``result``: output and failure object once the wait is over, and the errors of what failed or is missing.

Without ``state_prefix`` nothing is stored: the file name, which is the same at every try, is all that a retry knows.
"""
