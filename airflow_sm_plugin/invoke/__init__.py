"""Requests to SageMaker's runtime and what comes back, as values: both legs and the blocking hook use them.

- ``request``: one InvokeEndpoint with SageMaker's limits, and its reply.
- ``async_request``: one InvokeEndpointAsync, and where its result will be.
- ``failure``: a failed call, and whether another attempt is worth it; what the words of a serving container mean.
- ``errors``: reads botocore's errors into ``failure``, and into the package's own exceptions. It is the one shell here.

Who sends them: ``hooks/runtime`` (blocking), ``async_inference/invoker`` and ``multi_model/engine/invoker`` (from an
event loop). A request is checked by ``checked()`` before it is sent, since botocore checks no limit.
"""
