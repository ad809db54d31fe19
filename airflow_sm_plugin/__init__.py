"""SageMaker inference for Airflow.

A DAG file imports from ``operators/``, ``sensors/`` and ``task_groups.py``; ``base.py`` is their common base. They wait
with ``triggers/``, and each calls one leg: ``endpoints/``, ``autopilot/``, ``async_inference/``, ``multi_model/``. Legs
use ``batches/``, ``hooks/`` (Airflow hooks on boto3), ``invoke/`` and ``resources/`` (requests, replies and resources
as values), ``aws/`` (transport) and ``core/`` (pure rules). ``exceptions.py`` has every error. ``local/`` is the
embedded SageMaker for tests and the demo. Imports go downwards only.

Beside them: ``callbacks`` (container logs of failed transform jobs), ``links`` (buttons of a task), ``plugin`` and
``provider_info`` (how Airflow finds these), ``page/`` (the page of endpoints in Airflow's web interface), ``iam/`` (the
command that prints IAM policies), ``lineage`` and ``metrics`` (data for Airflow's OpenLineage, assets and statistics),
``killable`` (a wait that ``on_kill`` ends), ``_compat`` (Airflow 2.11 and 3), ``_log`` and ``_safe_text`` (no secrets
or control characters in logs and messages).

This module imports nothing: Airflow loads it through the provider entry point while ``import airflow`` still runs, and
an import of Airflow here would fail (Airflow 3.2 and later).
"""

__version__ = "0.1.0"
