"""AWS from an event loop, and the base of the hooks that call boto3.

Read in this order:

- ``connection``: the four arguments of every operator, as one value.
- ``calls``: the seam. ``await calls.call("PutObject", Bucket=…)`` is one request, sent once, with the parameters,
  responses and errors of botocore. ``open_calls`` decides who carries it: aiohttp, or botocore's own client
  (``botocore_calls``).
- On the way of a request: ``addresses`` (where it goes) by ``access`` (how the installed botocore reaches a service),
  which learns that from a request that botocore builds and does not send (``unsent``); ``signer`` signs it and ``http``
  carries it. ``answers`` reads any response.
- ``errors`` converts botocore's errors into this package's; ``retry`` decides which requests of S3 are
  repeated, and for how long.
- ``hook`` is the base of the boto3 hooks in ``hooks/``; it renews expired credentials for both carriers.
- ``console``: where a task's links lead: AWS's console, or the pages of an embedded SageMaker.
- ``s3/``: objects, listings, streams and uploads over these calls.

Of SageMaker only InvokeEndpointAsync is known here: headers that an older botocore lacks, and the result's locations.
"""
