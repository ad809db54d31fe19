"""Batch transform.

- ``operations``: the operations on transform jobs, and CreateTransformJob's checks.
- ``transform_job``: runs a job in a background thread: starts containers, reads the inputs, sends requests, writes the
  outputs.
- ``transform_plan``: a job's parameters; splits an input into payloads, and joins the answers. Pure.
- ``data_processing``: filters records, and joins answers with their inputs (``DataProcessing``). Pure.

Read ``operations``, ``transform_job``.
"""
