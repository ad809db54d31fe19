"""Parts that the asynchronous and the multi-model batches share: inputs, ownership and rate limits.

Inputs: ``inputs`` has an input, its limits, its source, and the lines of a manifest. ``listing`` yields the inputs of
a prefix or, through ``manifest_reading``, of a manifest; it refuses state and reports of batches, which ``folder``
recognizes by name. ``templates`` renders fields of their keys. ``input_chunks`` writes the inputs to S3 in chunks and
reads them again, so that every try works on the same inputs. ``text_input`` compares the first bytes of an input with
its content type.

Ownership: ``task_try`` orders the tries of a task, those of deleted DAG runs included. ``numbered_log`` keeps numbered
entries in S3, each with one writer. ``claim`` takes numbers of such a log: the highest number owns the batch.

Reports: ``report/`` has the parts of ``report.html`` and the groups of failures.

Limits: ``adaptive`` limits requests per second and requests in flight; ``parallel`` limits concurrent coroutines.

Read ``inputs``, ``listing``, ``task_try`` and ``claim`` first.
"""
