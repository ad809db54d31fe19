"""Statistics of a batch. They add up over processes and shards in any order, because all sums are whole numbers.

The engine counts into a ``Statistics`` of ``counters``: for each model the records, retries, errors and cold starts,
and in ``series`` bins over time. Both keep durations as the histogram of ``latencies``. With each
part of the shard's journal the engine writes the counts since the one before, so a killed process loses hardly any.
``progress`` logs a line every few seconds.

When a shard ends, the sum over its journal becomes part of the shard's report (``shard_report``). The report of the
batch then adds up the reports of all shards: ``ModelStatistics`` for each model, and ``BatchSeries`` over time.

Read ``counters``, ``latencies``, ``series``, then ``shard_report``.
"""
