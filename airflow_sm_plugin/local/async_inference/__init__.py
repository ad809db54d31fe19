"""InvokeEndpointAsync.

- ``requests``: accepts a request into the queue of its endpoint; creates and closes the queues.
- ``queue``: starts each request in a thread as soon as the endpoint's instances have capacity, and expires requests
  that waited for longer than their TTL.
- ``worker``: runs a request: reads the input, invokes the model, writes the output or the failure object, and
  publishes to SNS.

Read ``queue``, ``requests``, ``worker``.
"""
