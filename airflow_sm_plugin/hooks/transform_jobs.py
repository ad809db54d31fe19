"""What became of a transform job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.aws.hook import AwsHook

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import DescribeTransformJobResponseTypeDef


class TransformJobsHook(AwsHook):
    """Look at transform jobs. Takes the arguments of the provider's ``AwsBaseHook``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "sagemaker"
        super().__init__(*args, **kwargs)

    def describe(self, job_name: str) -> DescribeTransformJobResponseTypeDef:
        """Describe a job.

        :raises RequestRefused: there is no such job
        :raises AccessDenied: without ``sagemaker:DescribeTransformJob``
        """
        with translated(f"sagemaker:DescribeTransformJob {job_name}"):
            client = cast("SageMakerClient", self.get_conn())
            return client.describe_transform_job(TransformJobName=job_name)
