"""Least-privilege IAM policies: ``python -m airflow_sm_plugin.iam deploy invoke --endpoint 'churn*' …``.

- ``features``: the table: which actions each feature needs, on which resources, for which role.
- ``arguments``: the names that a user gave, checked, as the parts of ARNs; a placeholder for each that is missing.
- ``documents``: policy documents of the two, and their size.
- ``__main__``: the command line.

All but the command line is pure, and nothing imports Airflow or boto3. Tests run each operator under exactly these
policies against the embedded SageMaker, which enforces them.

Read ``features``.
"""
