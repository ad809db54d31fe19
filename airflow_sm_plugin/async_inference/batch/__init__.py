"""An asynchronous batch: every input of a prefix or manifest, sent, waited for and reported on, whatever is killed.

``operators/async_batch.py`` makes ``BatchSettings`` and calls ``AsyncBatch.advance()`` until it is finished; between
the calls it waits with a trigger. Read the files in this order:

* ``settings``, ``folder``: the arguments, and where the state lies in S3.
* ``run``: the whole batch, one step of it a process: claim, plan, rounds, report.
* ``plan``: the inputs, fixed once, and what an earlier plan of the task instance spares.
* ``round_run`` over ``round``: one round takes its ledger over, settles doubts, submits, polls, writes its outcome.
* ``ledger`` (pure) and ``ledger_store``: what was intended, accepted, refused; parts that only the owner can append.
* ``submission`` and ``record``: the requests, at a rate that adapts; the ledger's parts as they come.
* ``rows`` and ``report``: a row for each input, and counts that add up.
"""
