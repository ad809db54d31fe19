"""SageMaker inference for Airflow.

This module imports nothing: Airflow loads it, through the provider entry point, while ``import airflow``
itself is still running, so an import of Airflow here would break that (Airflow 3.2 and later).
"""

__version__ = "0.1.0"
