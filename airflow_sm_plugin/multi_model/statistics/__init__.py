"""Statistics of a batch, which add up over processes and shards in any order: whole numbers only.

The engine counts into ``counters`` (what each model did) and ``series`` (bins over time); both keep durations as the
histogram of ``latencies``. Each part of a shard's journal holds what was counted since the part before, so nothing a
killed process had written down is lost; their sum lies in the ``shard_report``. The batch's report adds up the shards'.

Read ``counters``, ``series``, then ``shard_report``.
"""
