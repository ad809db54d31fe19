"""Find a framework's serving image with the SageMaker SDK, which cannot be installed beside Airflow 3.3, and use it.

The first task runs in a virtual environment of its own, made at run time: it needs a package index, and on Airflow 2.11
the package virtualenv, without which this file is not even read. Set ``venv_cache_path`` to make the environment once
for all runs. Set the parameters before a run: a model archive in S3, and a role of your account. The model gets the
limits that asynchronous inference needs.
"""

import datetime

from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task  # type: ignore[no-redef,attr-defined]


@task.virtualenv(requirements=["sagemaker>=2.250,<3"], system_site_packages=False, expect_airflow=False)
def find_image(framework: str, version: str, py_version: str, region: str, instance_type: str) -> str:
    """Return the URI of the framework's inference image; the instance type decides between CPU and GPU."""
    from sagemaker import image_uris  # type: ignore[import-not-found]  # it is in that environment only

    uri: str = image_uris.retrieve(
        framework=framework,
        region=region,
        version=version,
        py_version=py_version,
        instance_type=instance_type,
        image_scope="inference",
    )
    return uri


@dag(
    schedule=None,
    description="Find a framework image with the SageMaker SDK and create a model with it",
    tags=["sagemaker", "model"],
    doc_md=__doc__,
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    params={
        "framework": "pytorch",
        "version": "2.3.0",
        "py_version": "py311",
        "region": "us-east-1",
        "instance_type": "ml.m5.xlarge",
        "model_data_url": "s3://my-bucket/model.tar.gz",
        "execution_role": "SageMakerRole",
    },
)
def image_uri() -> None:
    """Find the image, then create the model."""
    image = find_image(
        framework="{{ params.framework }}",
        version="{{ params.version }}",
        py_version="{{ params.py_version }}",
        region="{{ params.region }}",
        instance_type="{{ params.instance_type }}",
    )
    SageMakerCreateModelOperator(
        task_id="create_model",
        image=image,  # type: ignore[arg-type]  # a TaskFlow result stands for its value
        model_data_url="{{ params.model_data_url }}",
        execution_role="{{ params.execution_role }}",
        region_name="{{ params.region }}",
        model_name_prefix="{{ params.framework }}",
        serving_preset="torchserve",
    )


image_uri()
