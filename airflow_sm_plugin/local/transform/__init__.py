"""Batch transform.

``operations`` has the operations; ``transform_plan`` reads a job's plan, cuts its input into payloads and joins the
answers; ``data_processing`` filters and joins records; ``transform_job`` runs the job with all of these.
"""
