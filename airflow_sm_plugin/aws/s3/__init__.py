"""Objects in S3 over the calls of ``aws/calls``, from an event loop.

- ``objects``: ``S3Objects``, what the rest of the package uses: list, read, write, delete. Writes can be conditional:
  one of several writers wins.
- ``listing``: pages of ListObjectsV2, read many times faster than by botocore, and believed only when they can be true.
- ``stream``: an object of any size piece by piece, on over connections that break.
- ``upload``: an object in parts, which appears when it is complete.
- ``object_options``: encryption, ACL, metadata and conditions as parameters.

Reads and writes are repeated over an outage of a minute (``aws/retry``); listings and ``presence`` are not, since a
wait counts their failures itself.
"""
