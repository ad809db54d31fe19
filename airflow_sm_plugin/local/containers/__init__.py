"""Containers: a process for each, which runs the code of ``local/serving``.

- ``containers``: a model's record as container specifications; the input and the reply of an invocation.
- ``model_data``: fetches model data and source code from S3; ``archives`` unpacks them within limits.
- ``container_process``: starts and stops a container's process.
- ``container_client``: speaks HTTP to the process; ``container_logs`` sends its output to CloudWatch Logs.
- ``pipelines``: an instance of an endpoint: its containers, called one after the other.
- ``model_host``: fetches, loads and evicts the models of a multi-model container; ``target_models`` is its table.

Read ``containers``, ``container_process``, ``pipelines``, then ``model_host``.
"""
