"""The embedded SageMaker: a real HTTP server to develop, demonstrate and test against.

Nothing in here imports Airflow, and nothing else in the package imports this: it may run from a virtual
environment of its own (extra ``local``).
"""
