"""InvokeEndpointAsync.

``requests`` accepts a request into the ``queue`` of its endpoint. The queue hands it to ``worker`` as soon as the
endpoint's instances have room, which reads the input, invokes the model, writes the output or the failure object, and
publishes to SNS. Requests that wait too long expire.

Read ``queue``, ``requests``, ``worker``.
"""
