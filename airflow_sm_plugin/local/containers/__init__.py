"""Running models in processes that stand for containers.

``containers`` reads a model's record into specifications. ``model_data`` fetches archives and ``archives`` unpacks
them within bounds; ``container_process`` starts the process, ``container_client`` speaks HTTP to it, and
``container_logs`` carries its output to CloudWatch Logs. A ``pipelines.Pipeline`` is an instance: its containers run
one after the other. Multi-model containers have a ``model_host`` that loads and evicts models (``target_models``).

Read ``containers``, ``container_process``, ``pipelines``, then ``model_host``.
"""
