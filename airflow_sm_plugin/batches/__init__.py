"""What the asynchronous and the multi-model batches share: their inputs, and whose a batch is.

Inputs: ``inputs`` has one input, its limits, the manifest's lines and where inputs come from. ``listing`` yields them
from a prefix or, through ``manifest_reading`` and ``manifest_check``, from a manifest; it refuses what a batch wrote
about itself, which ``folder`` recognises by name. ``templates`` renders fields of their keys. ``input_chunks`` writes
the inputs to S3 in chunks and reads them again, so that every try works on the same ones. ``text_input`` says whether
an input's first bytes are what its content type promises.

Ownership: ``task_try`` orders the tries of a task, those of deleted DAG runs included. ``numbered_log`` keeps entries
of which each number has one writer. ``claim`` takes numbers of such a log: the process with the latest owns the batch.

Limits: ``adaptive`` bounds what is sent; ``parallel`` does many things at a time, but not all at once.

Read ``inputs``, ``listing``, ``task_try`` and ``claim`` first.
"""
