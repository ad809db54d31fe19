"""Inference for many models behind one endpoint: inputs are planned in shards, invoked, recorded and reported on.

``plan`` lists the inputs, gives each its target model and packs shards; ``shard`` runs one of them, or resumes it;
``report`` merges the results of all shards; ``run`` does all three in one task. A process may end at any step: the next
one repeats the step.

The folders are layers; each imports only from those before it:

1. ``statistics``: counts, latencies and time series that add up over processes
2. ``state``: the folder in S3, the shard's journal, outputs that only the latest try can write
3. ``payloads``: cut inputs into payloads, and join answers into outputs
4. ``plan``: make a plan and store it
5. ``engine``: invoke a shard's payloads
6. ``report``: the batch's report for programs and for people

Read ``run``, then ``shard``, then ``engine``.
"""
