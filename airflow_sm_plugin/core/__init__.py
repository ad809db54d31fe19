"""Decisions: no Airflow, no boto3, no input or output, no clock, no randomness, no logging."""
