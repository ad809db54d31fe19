"""A real Airflow beside the embedded SageMaker, for the demo and the end-to-end tests.

- ``processes``: starts processes with a marker in their environment, and ends all processes with a marker.
- ``airflow_stack``: starts Airflow's four components with the settings of ``airflow_settings``.
- ``embedded_process``: starts the embedded SageMaker as a process.
- ``airflow_api``: a client of Airflow's REST API.
- ``demo_stack``: starts, repairs and stops both; ``start_view`` prints that, and the next steps.
- ``demo``: the command line; runs a DAG on both. ``demo_view`` prints the run and its results.

Read ``demo``, ``demo_stack``, ``airflow_stack``, ``processes``.
"""
