"""Plan a multi-model batch: its inputs, the target model of each input, and the shard that processes it.

``make`` returns the current plan if it still holds, or makes a plan. ``draft`` lists the inputs, has ``settings`` name
each input's target model and output, and keeps them in ``spool``, a database file of this process. Then ``draft``
leaves out the inputs that earlier plans have finished, checks for missing models, has ``packing`` assign the models to
shards, and writes the shards to S3. ``store`` writes and reads the log of plans, whose last entry names the current
plan; its ``PlanFence`` stops tasks that work on an older plan. ``plan`` has the stored values and their format number.

``estimate`` drafts the same plan for ``plan_only``, writes nothing, and counts or estimates its payloads.

Read ``make`` first, then ``draft`` and ``store``.
"""
