"""Requests to SageMaker's runtime and their replies, as values; and the way there from an event loop.

- ``request``: one InvokeEndpoint with SageMaker's limits, and its reply.
- ``async_request``: one InvokeEndpointAsync, and the location of its result.
- ``failure``: a failed call, and whether another attempt is worth it; the meaning of a serving container's words.
- ``errors``: reads botocore's errors into ``failure``, and into the package's own exceptions.
- ``endpoint_invoker``: InvokeEndpoint from an event loop, by the fastest carrier that can do it: ``http_pool``, whose
  connections (``http_connection``) are made of an asyncio protocol and httptools' parser; else aiohttp or botocore.

Others who send them: ``hooks/runtime`` (blocking) and ``async_inference/invoker``. There a request is checked by
``checked()`` before it is sent, since botocore checks no limit. Pure: ``request``, ``async_request``, ``failure``.
"""
