"""Airflow hooks on boto3: every blocking call of AWS. Users call ``runtime`` from their own tasks.

- ``calls``: shared parts: a client, pages of listings, missing resources, repeats of transient refusals.
- ``sagemaker_calls`` → ``control_plane``: ``SageMakerControlPlaneHook`` has the endpoints; ``hook.configs``
  (``endpoint_configs``), ``hook.models`` (``models``), ``hook.model_packages`` and ``hook.automl`` make their calls
  through it. Every method can be repeated.
- ``endpoint_facts``: facts about the endpoint of a batch, off the event loop.
- ``runtime``: InvokeEndpoint and InvokeEndpointAsync, with its own retries.
- ``autoscaling``: Application Auto Scaling of variants, and CloudWatch's alarms that wake them.
- ``container_logs``: the last lines of containers in CloudWatch Logs, and the transform job that wrote them.
- ``embedded_pages``: whether the calls go to an embedded SageMaker, whose pages a task's links then open.
- ``result_store``: payloads, outputs and artefacts in S3.

``resources`` and ``invoke`` build requests and judge answers; ``aws.errors`` converts botocore's errors into
this package's.
"""
