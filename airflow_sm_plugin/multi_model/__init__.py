"""Inference for many models behind one endpoint: inputs are planned in shards, invoked, recorded and reported on.

``plan`` lists inputs, gives each its target model and packs shards; ``shard`` does one of them, or goes on with it;
``report`` sums up what all shards did; ``run`` does the three in one task. Every step may be killed and done again.

The rooms are floors, each knows only those before it:

1. ``statistics``: counts, latencies and series, which add up over processes
2. ``state``: the folder in S3, the shard's journal, outputs that only the latest try may write
3. ``payloads``: cut inputs into payloads, put answers together
4. ``plan``: make a plan and keep it
5. ``engine``: invoke a shard's payloads
6. ``report``: the batch's report for programs and for people

Read ``run``, then ``shard``, then ``engine``.
"""
