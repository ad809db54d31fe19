"""What a multi-model batch keeps in S3: a journal for each shard, the results' bytes, and the outputs made of them.

``folder`` names every object. About once a second a shard writes one object with the bytes of its results and one part
of its journal: ``records`` has the part and what is in it, ``store`` reads and writes the log of parts and makes one
process its only writer, and ``journal`` sums up all parts: what has ended, what has failed, which gaps are left.

When an input has ended, ``outputs`` writes its ``.out``, ``.errors.jsonl`` (rows of ``error_rows``) and
``.attributes.jsonl``: from memory, or put together from ``byte_ranges`` of data objects. It writes through
``fenced_objects``, which never replace what a later owner of the shard wrote; ``upload_records`` name the uploads that
a killed process left.

Read ``records`` and ``journal`` first, then ``store`` and ``fenced_objects``.
"""
