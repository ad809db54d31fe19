"""InvokeEndpointAsync.

- ``requests``: accepts a request into the queue of its endpoint, and creates the queues. Later it runs the request:
  reads the input, invokes the model, writes the output or the failure object, and publishes to SNS.
- ``queue``: starts each request in a thread as soon as the endpoint's instances have capacity, and expires requests
  that waited for longer than their TTL.

Read ``queue``, ``requests``.
"""
