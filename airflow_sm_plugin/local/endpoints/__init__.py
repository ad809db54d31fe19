"""Real-time endpoints.

- ``endpoint_configs``: the operations on endpoint configurations.
- ``endpoint_operations``: the operations on endpoints; they check a request, change the record, and leave the rest to
  ``deployments``.
- ``endpoints``: a serving endpoint: its variants, and the instances of each.
- ``deployments``: creates, updates, scales and deletes endpoints in background threads, through the stages that
  ``guardrails`` computes from a DeploymentConfig.
- ``runtime``: InvokeEndpoint; ``data_capture`` writes its requests and answers to S3.

Read ``endpoint_operations``, ``endpoints``, ``deployments``. Asynchronous inference has a folder of its own.
"""
