"""An asynchronous batch: send every input of a prefix or manifest, await the results and report, despite kills.

``operators/async_batch.py`` makes ``BatchSettings`` and calls ``AsyncBatch.advance()`` until the batch is finished; a
trigger waits between the calls. Read the files in this order:

* ``settings``, ``folder``: the arguments, and the locations of the state in S3.
* ``run``: the whole batch; each process takes one step of it: claim, plan, rounds, report.
* ``plan``: the inputs, fixed once, and the results that are reused from an earlier plan of the task instance.
* ``round_run``, ``round``: a round takes its ledger over, settles doubts, submits, polls, and writes its outcome.
* ``ledger`` (pure), ``ledger_store``: intended, accepted and refused requests, in parts that only the owner can append.
* ``submission``: sends the requests at an adaptive rate, and records them in the ledger.
* ``rows``, ``report``: a row for each input, and counts that add up.
* ``report_page`` (pure), ``page_writing``: ``report.html``, also of a batch that an error stopped.
"""
