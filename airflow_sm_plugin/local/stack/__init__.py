"""A real Airflow beside the embedded SageMaker, for the demo and the end-to-end tests.

``processes`` starts processes that can be found again and ends them all; with it ``airflow_stack`` starts Airflow as
``airflow_settings`` says, ``embedded_process`` the embedded SageMaker. ``airflow_api`` is a client of Airflow's REST
API. ``demo`` runs a DAG on both, and ``demo_view`` shows it.
"""
