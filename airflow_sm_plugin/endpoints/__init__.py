"""Deploy, scale and delete endpoints: what one task does over all its tries, deferrals and kills.

Read in this order:

1. ``options`` (pure): the options of a deployment, and the note by which a deferred task remembers what it has done.
2. ``deployment``: ``Deployment.act`` takes steps (``next_step`` in ``resources.endpoint_status`` decides) until nothing
   is left but to wait; ``wait``, ``check`` and ``result`` end it.
3. ``changes`` (pure): which variants an update changes, and what SageMaker would refuse of it.
4. ``cleanup``: after a failure or a kill, delete what this task created (``CreatedByTask`` tells by tags), and no more.
5. ``deletion``: which configurations and models are in use, earlier ones removed, an endpoint deleted with all of ours.
6. ``apply_scaling``: register a variant with its policies and alarm, or remove them.
7. ``deployment_scaling`` → ``noted_scaling`` → ``scaling_note`` (pure): scaling that forbids an update is written into
   the endpoint's tags, taken down, and put back, by whichever deployment comes next.
"""
