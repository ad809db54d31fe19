"""Requests to SageMaker's runtime and their replies, as values, for the event loops and the blocking hook.

- ``request``: one InvokeEndpoint with SageMaker's limits, and its reply.
- ``async_request``: one InvokeEndpointAsync, and the location of its result.
- ``failure``: a failed call, and whether another attempt is worth it; the meaning of a serving container's words.
- ``errors``: reads botocore's errors into ``failure``, and into the package's own exceptions. It is the one shell here.

Who sends them: ``hooks/runtime`` (blocking), ``async_inference/invoker`` and ``endpoint_invoker`` (from an
event loop). A request is checked by ``checked()`` before it is sent, since botocore checks no limit.
"""
