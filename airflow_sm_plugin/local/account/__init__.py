"""The one account that the service answers for.

- ``state``: the account's regions, each with its records by kind and name and its background threads.
- ``settings``: delays and sizes, which clients can change while the service runs.
- ``operations``: the registry of handlers, and the operations that moto answers; filters and pages of all lists.
- ``calls``: the call log.
- ``aws``: boto3 clients of the other services, which moto answers at the same address. ``s3_objects`` reads, writes
  and lists S3 objects with them; ``s3_checks`` refuses the S3 requests that moto would crash at.

Read ``state``, then ``operations``.
"""
