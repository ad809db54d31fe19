"""Real-time endpoints.

``endpoint_configs`` and ``endpoint_operations`` have the operations, ``endpoint_descriptions`` the answer of
DescribeEndpoint. ``endpoints`` has what serves: variants and their instances. ``deployments`` brings them up and down
in the background, through the stages of ``guardrails``. ``runtime`` is InvokeEndpoint, ``data_capture`` writes its
requests and answers to S3.

Read ``endpoint_operations``, ``endpoints``, ``deployments``.
"""
