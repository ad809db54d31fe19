"""The state of a multi-model batch in S3: a journal for each shard, the bytes of its results, and the outputs.

``folder`` names every object. A few times a second a shard writes one data object with the bytes of its results
(``data_object``), and one part of its journal (``records``). ``store`` reads and writes the log of parts, and makes one
process its only writer. ``journal`` sums up all parts: which inputs have ended or failed, and which gaps are left.

When all records of an input have a result, ``outputs`` writes the input's ``.out``, ``.errors.jsonl`` and
``.attributes.jsonl``: from memory, or assembled from ``byte_ranges`` of data objects. It writes through
``fenced_objects``, which never replace an object of a later owner of the shard. There are also the records of
multipart uploads, by which the next process gives up the uploads of a killed one.

Read ``records`` and ``journal`` first, then ``store``, ``outputs`` and ``fenced_objects``.
"""
