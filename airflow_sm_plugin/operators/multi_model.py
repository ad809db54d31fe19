"""Batches through multi-model endpoints: plan, invoke, report."""

from __future__ import annotations

from airflow_sm_plugin.operators.multi_model_batch import SageMakerMultiModelBatchOperator
from airflow_sm_plugin.operators.multi_model_merge import SageMakerMergeBatchReportOperator
from airflow_sm_plugin.operators.multi_model_plan import SageMakerPlanMultiModelBatchOperator

__all__ = [
    "SageMakerMergeBatchReportOperator",
    "SageMakerMultiModelBatchOperator",
    "SageMakerPlanMultiModelBatchOperator",
]
