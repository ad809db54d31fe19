"""Deploy, scale and delete endpoints: what one task does over all its tries, deferrals and kills.

Read in this order:

1. ``options`` (pure): a deployment's options, and the note that carries a task's memory over a deferral.
2. ``deployment``: ``Deployment.act`` takes one step (``next_step`` in ``resources.endpoint_status`` decides); the
   operator calls it until only a wait is left; ``put_back_scaling``, ``check`` and ``result`` end the deployment.
3. ``changes`` (pure): the variants that an update changes, and the updates that SageMaker refuses.
4. ``cleanup``: after a failure or a kill, ``DeploymentCleanup`` deletes what this task created, and no more.
   ``ownership`` (pure) decides by tags and description whether an endpoint is this task's to delete.
5. ``deletion``: configurations and models in use; removal of earlier ones; deletion of an endpoint with all of ours.
6. ``apply_scaling``: register a variant with its policies and alarm, or remove them.
7. ``idle_deletion``: endpoints that are no longer invoked are found and deleted; ``idleness`` (pure) decides.
8. ``deployment_scaling`` → ``noted_scaling`` → ``scaling_note`` (pure): scaling that forbids an update is written into
   the endpoint's tags, deregistered, and put back by whichever deployment comes next.
"""
