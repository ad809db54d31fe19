"""SageMaker inference for Airflow.

``operators/``, ``sensors/`` and ``task_groups.py`` are what a DAG file imports; ``base.py`` is what they share. They
wait by ``triggers/`` and work through one leg each: ``endpoints/``, ``autopilot/``, ``async_inference/``,
``multi_model/``. Legs stand on ``batches/``, ``hooks/`` (Airflow hooks on boto3), ``invoke/`` and ``resources/``
(requests, replies and resources as values), ``aws/`` (transport) and ``core/`` (pure rules). ``exceptions.py`` has
every error. ``local/`` is the embedded SageMaker for tests and the demo. Imports lead downwards only.

This module imports nothing: Airflow loads it, through the provider entry point, while ``import airflow``
itself is still running, so an import of Airflow here would break that (Airflow 3.2 and later).
"""

__version__ = "0.1.0"
