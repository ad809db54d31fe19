"""Plan a multi-model batch: which inputs there are, whose model each is, and which shard does it.

``settings`` → ``make`` → ``draft`` → ``spool`` → ``store``. ``make`` finds a plan that still counts, or makes one:
``draft`` lists the inputs, ``naming`` gives each its target model and output name, and ``spool`` holds them in a file
of this process. ``draft`` then leaves out what earlier plans have finished, checks for missing models, and has
``packing`` spread the models over shards. ``store`` writes the shards and keeps the log of plans, whose last entry
counts; its ``PlanFence`` stops tasks that work on an older plan. ``plan`` has the stored values themselves, with their
format number.

``estimate`` drafts the same plan for ``plan_only``, writes nothing, and counts or estimates its payloads.

Read ``make`` first, then ``draft`` and ``store``.
"""
