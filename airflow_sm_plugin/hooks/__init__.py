"""Airflow hooks on boto3: every blocking call of AWS. Users call ``runtime`` from their own tasks.

- ``calls``: what all share: a client, pages of listings, what is missing, refusals that pass by themselves.
- ``sagemaker_calls`` → ``control_plane``: ``SageMakerControlPlaneHook`` has the endpoints; ``hook.configs``
  (``endpoint_configs``), ``hook.models`` (``models``), ``hook.model_packages`` and ``hook.automl`` make their calls
  through it. Every method may be repeated.
- ``endpoint_facts``: what a batch asks about its endpoint, off the event loop.
- ``runtime``: InvokeEndpoint and InvokeEndpointAsync, with our own retries.
- ``autoscaling``: Application Auto Scaling of variants, and CloudWatch's alarms that wake them.
- ``container_logs``: the last lines of containers in CloudWatch Logs, and the transform job that wrote them.
- ``result_store``: payloads, outputs and artefacts in S3.

``resources`` and ``invoke`` build requests and judge answers; ``aws.errors`` turns botocore's errors into ours.
"""
