"""The report of a whole batch, for programs (``report.json``) and for people (``report.html``).

``merge`` reads the shards' reports from S3 and writes both files; everything else is pure. ``batch_report`` adds the
shards up, checks that the counts agree, and makes the JSON. The page is made from it: ``figures`` (headline and cards),
``view`` (tables), and ``charts`` over the ``time_axis``, as values that the template ``report.html.jinja`` lays out.
``tolerance`` decides whether the failures fail the task, and words the error.

Containers' texts may be in failure rows: both files stay in S3; only the summary goes to XCom.

Read ``merge``, ``batch_report``, then ``view``.
"""
