"""The report of a whole batch, for programs (``report.json``) and for people (``report.html``).

``merge`` reads the shards' reports from S3 and writes both files; the other modules are pure. ``shard_sum`` makes a
shard's report from its journal, also of a shard that was killed. ``batch_report`` adds up the shards' reports, checks
that the counts agree, and encodes the JSON. ``tolerance`` decides whether the failures fail the task, and words the
error.

The page is made from the batch's report: ``view`` makes the texts (headline, cards of figures, tables), and ``charts``
draws paths over the ``time_axis``. The template ``report.html.jinja`` extends the page of ``batches/report``.

Failure rows hold texts of containers, so both files stay in S3; only the summary goes to XCom.

Read ``merge``, ``batch_report``, ``view``, then ``charts``.
"""
