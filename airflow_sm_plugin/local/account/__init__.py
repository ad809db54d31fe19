"""The one account that the service answers for.

``state`` has its regions: records by kind and name, background threads, the settings of ``settings``. ``operations``
registers the handlers, and says which operations moto answers; ``listing`` filters and pages their lists. ``calls`` is
the call log. ``aws`` has clients of the services around, which moto answers behind the same address: ``s3_objects``
reads and writes S3 with them. ``s3_checks`` refuses requests of S3 that moto would crash at.

Read ``state``, then ``operations``.
"""
