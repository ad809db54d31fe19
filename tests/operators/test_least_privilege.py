"""Each operator's tasks run under exactly the policy that ``python -m airflow_sm_plugin.iam`` prints.

The embedded service enforces it: whatever the policy does not permit is denied, and no permission that was needed is
missing. Nothing in a policy is superfluous: without any of its actions, one of these calls would be denied.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.aws.s3.upload import MultipartUpload
from airflow_sm_plugin.callbacks import TransformJobLogs
from airflow_sm_plugin.exceptions import EndpointFailed
from airflow_sm_plugin.iam.__main__ import main
from airflow_sm_plugin.iam.features import FEATURES
from airflow_sm_plugin.local.iam.policies import IdentityPolicy, Permission
from airflow_sm_plugin.local.protocol.access import OWN_ACCESS_KEY
from airflow_sm_plugin.operators import idle_endpoints
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator
from airflow_sm_plugin.operators.idle_endpoints import SageMakerDeleteIdleEndpointsOperator
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointOperator
from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from airflow_sm_plugin.page.collection import collect_region
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.async_inference.batch.async_batches import upload_inputs
from tests.endpoint_trials import control
from tests.multi_model.multi_models import MultiModel
from tests.operators.conftest import Jobs
from tests.scaled_endpoints import scale
from tests.stubs.notified_endpoint import NotifiedEndpoint
from tests.support import (
    BROKEN,
    ECHO,
    FAILING,
    IMAGE,
    POLL,
    REGION,
    ROLE,
    Account,
    TaskInstanceDouble,
    context_for,
    run_task,
    unique,
)
from tests.test_callbacks import Instance, transform

pytestmark = pytest.mark.airflow

LOCATION = ["--account", "123456789012", "--region", REGION]
NEXT_POLL = 3600.0
"""Only a notification ends a wait: the first poll comes too early, and the next one too late."""
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
COMMON: dict[str, Any] = {"aws_conn_id": None, "poll_interval": POLL, "deferrable": False}


@dataclass
class Privileges:
    """The policy of the tasks of a test."""

    account: Account
    access_key: str
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    document: dict[str, Any] = field(default_factory=dict)

    def only(self, *features: str, **names: str) -> None:
        """Restrict tasks to what the command prints for features."""
        given = [part for name, value in names.items() for part in (f"--{name.replace('_', '-')}", value)]
        self.capsys.readouterr()
        assert main([*features, *LOCATION, *(part for part in given if part), "--for", "task-role"]) == 0
        self.document = json.loads(self.capsys.readouterr().out)
        control(self.account, "PUT", f"policies/{self.access_key}", self.document)
        self.monkeypatch.setenv("AWS_ACCESS_KEY_ID", self.access_key)

    def needed(self) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = control(self.account, "GET", "policies")[self.access_key]["needed"]
        return rows

    def check(self, *beside: str) -> None:
        """Check that nothing was denied, and that everything permitted was needed.

        :param beside: features that other tests check; their actions can be left unneeded
        """
        needed = self.needed()
        assert [row for row in needed if not row["allowed"]] == []
        permissions = [Permission(row["action"], row["resource"], row["context"]) for row in needed]
        elsewhere = {action for name in beside for grant in FEATURES[name].task for action in grant.actions}
        assert {action for action, _ in superfluous(self.document, permissions)} - elsewhere == set()


def superfluous(document: Mapping[str, Any], needed: list[Permission]) -> list[tuple[str, str]]:
    """List the actions without which a policy permits the same calls."""
    found = []
    for index, statement in enumerate(document["Statement"]):
        for action in statement["Action"]:
            less = copy.deepcopy(dict(document))
            less["Statement"][index]["Action"] = [
                other for other in statement["Action"] if other != action
            ] or ["none:None"]
            policy = IdentityPolicy.read(less)
            if all(policy.allows(permission) for permission in needed):
                found.append((action, statement["Sid"]))
    return found


@pytest.fixture
def privileges(
    account: Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Privileges]:
    access_key = unique("limited")
    yield Privileges(account, access_key, capsys, monkeypatch)
    control(account, "DELETE", f"policies/{access_key}")


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **COMMON | arguments
    )


def create_model(**arguments: Any) -> SageMakerCreateModelOperator:  # noqa: ANN401 - as above
    return SageMakerCreateModelOperator(
        task_id="model", aws_conn_id=None, **{"execution_role": ROLE} | arguments
    )


@pytest.fixture
def role(account: Account) -> str:
    name = unique("role")
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    iam = session.client("iam", endpoint_url=account.url)
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    return name


@pytest.fixture
def encrypted(account: Account) -> Iterator[Account]:
    """The account while new objects of its bucket are encrypted with :data:`KEY`."""
    account.s3.put_bucket_encryption(
        Bucket=account.bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [
                {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
            ]
        },
    )
    yield account
    account.s3.delete_bucket_encryption(Bucket=account.bucket)


def test_model(account: Account, privileges: Privileges, role: str) -> None:
    name = unique("Model")
    artefact = account.upload_model()
    make = partial(create_model, image=IMAGE, model_data_url=artefact, model_name=name, execution_role=role)
    privileges.only("model", model=name, bucket=account.bucket, prefix="models/", role=role)
    assert run_task(partial(make, tags={"team": "a"}))["created"]
    assert not run_task(partial(make, tags={"team": "b"}))["created"]
    privileges.check()


def test_registry(account: Account, privileges: Privileges) -> None:
    group, empty, name = unique("group"), unique("group"), unique("model")
    for each in (group, empty):
        account.sagemaker.create_model_package_group(ModelPackageGroupName=each)
    container: Any = {"Image": IMAGE, "ModelDataUrl": account.upload_model()}
    account.sagemaker.create_model_package(
        ModelPackageGroupName=group,
        ModelApprovalStatus="Approved",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )
    privileges.only("model", "registry", model=name, role=ROLE, model_package_group="group-*")
    make = partial(create_model, model_name=name)
    arn = run_task(partial(make, model_package_group_name=group))["model_package_arn"]
    run_task(partial(make, model_package_arn=arn))
    with pytest.raises(AirflowFailException, match="ModelPackageNotFound"):
        run_task(partial(make, model_package_group_name=empty))
    privileges.check("model")


def test_autopilot(account: Account, privileges: Privileges, jobs: Jobs) -> None:
    job, name = jobs.ensembled_multiclass, unique("model")
    make = partial(
        SageMakerExportAutopilotModelOperator,
        task_id="export",
        auto_ml_job_name=job,
        execution_role=ROLE,
        model_name=name,
        **COMMON,
    )
    privileges.only("autopilot", auto_ml_job=job, model=name, role=ROLE, bucket="bucket-*")
    run_task(make)
    run_task(partial(make, tags={"team": "b"}))
    with pytest.raises(AirflowFailException, match="ResourceConflict"):
        run_task(partial(make, candidate_rank=2))
    privileges.check()


def test_deploy(account: Account, privileges: Privileges) -> None:
    name, broken = unique("Endpoint"), account.create_model(BROKEN)
    model = account.create_model(multi_model=True)
    privileges.only("deploy", endpoint=name, model="model-*")
    make = partial(deploy, name, model)
    for count in (1, 2, 3):
        run_task(partial(make, initial_instance_count=count, keep_configs=0, tags={"team": str(count)}))
    run_task(partial(make, instance_type="ml.c5.large", keep_configs=0))
    with pytest.raises(AirflowFailException, match="EndpointRolledBack"):
        run_task(partial(deploy, name, broken))
    account.sagemaker.delete_endpoint(EndpointName=name)
    account.wait_for_endpoint(name, "endpoint_deleted")
    with pytest.raises(EndpointFailed, match="ping health check"):
        run_task(partial(deploy, name, broken))
    assert account.status(name) is None
    privileges.check()


def test_delete(account: Account, privileges: Privileges) -> None:
    name, model = unique("endpoint"), account.create_model(multi_model=True)
    run_task(partial(deploy, name, model))
    privileges.only("delete", endpoint=name)
    run_task(
        partial(
            SageMakerDeleteEndpointOperator,
            task_id="delete",
            endpoint_name=name,
            aws_conn_id=None,
            poll_interval=POLL,
        )
    )
    assert (account.status(name), account.configs(name)) == (None, [])
    privileges.check()


def test_delete_models(account: Account, privileges: Privileges) -> None:
    name = unique("endpoint")
    account.deploy()  # another endpoint could use the model
    made = run_task(partial(create_model, image=IMAGE, model_data_url=account.upload_model()))
    model = made["model_name"]
    run_task(partial(deploy, name, model))
    privileges.only("delete", "delete-models", endpoint=name, model=model)
    run_task(
        partial(
            SageMakerDeleteEndpointOperator,
            task_id="delete",
            endpoint_name=name,
            delete_models=True,
            aws_conn_id=None,
            poll_interval=POLL,
        )
    )
    assert account.models(model) == []
    privileges.check()


def test_scaling(account: Account, privileges: Privileges) -> None:
    name = unique("endpoint")
    folder = f"s3://{account.bucket}/results"
    run_task(partial(deploy, name, account.create_model(), async_output_path=folder))
    make = partial(
        SageMakerScaleEndpointOperator, task_id="scale", endpoint_name=name, max_capacity=2, aws_conn_id=None
    )
    privileges.only("scaling", endpoint=name)
    run_task(partial(make, min_capacity=0))
    run_task(partial(make, min_capacity=1))
    run_task(partial(make, action="remove"))
    privileges.check()


def test_rescale(account: Account, privileges: Privileges) -> None:
    name, model = unique("endpoint"), account.create_model(multi_model=True)
    run_task(partial(deploy, name, model))
    scale(account, name)
    privileges.only("deploy", "scaling", "rescale", endpoint=name, model="model-*")
    result = run_task(partial(deploy, name, model, instance_type="ml.c5.large", on_scaled="rescale"))
    assert result["action"] == "updated"
    privileges.check("deploy", "scaling")


def test_delete_idle(account: Account, privileges: Privileges, monkeypatch: pytest.MonkeyPatch) -> None:
    name, model, dag_id = unique("endpoint"), account.create_model(multi_model=True), unique("dag")

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    monkeypatch.setattr(idle_endpoints, "count_dag_runs", lambda dag, **_: int(dag == dag_id))
    deploy(name, model).execute(context_for(TaskInstanceDouble(dag_id=dag_id)))
    privileges.only("delete-idle", endpoint=name)
    idle = partial(SageMakerDeleteIdleEndpointsOperator, task_id="idle", idle_hours=1e-6, aws_conn_id=None)
    run_task(partial(idle, poll_interval=POLL, dry_run=False))
    assert account.status(name) is None
    privileges.check()


def test_invoke(encrypted: Account, privileges: Privileges) -> None:
    name = encrypted.deploy(FAILING)
    good = encrypted.deploy(ECHO)
    invoke = partial(
        SageMakerInvokeEndpointOperator, task_id="invoke", content_type="text/csv", aws_conn_id=None
    )
    privileges.only("invoke", endpoint="endpoint-*", bucket=encrypted.bucket, kms_key=KEY)
    output = f"s3://{encrypted.bucket}/{unique('out')}"
    run_task(
        partial(invoke, endpoint_name=good, body_location=encrypted.upload("1,2"), output_location=output)
    )
    assert encrypted.read(output) == b"1,2"
    with pytest.raises(AirflowFailException, match="ModelError"):
        run_task(partial(invoke, endpoint_name=name, body="1"))
    privileges.check()


def test_async(
    encrypted: Account, privileges: Privileges, notified: NotifiedEndpoint, opening_gate: Path
) -> None:
    queue = notified.queue.rpartition("/")[2]
    privileges.only("async", endpoint=notified.name, bucket=encrypted.bucket, queue=queue, kms_key=KEY)
    invoke = partial(
        SageMakerInvokeEndpointAsyncOperator,
        task_id="invoke",
        endpoint_name=notified.name,
        content_type="text/plain",
        completion_queue=notified.queue,
        state_prefix=f"s3://{encrypted.bucket}/{unique('state')}",
        upload_prefix=f"s3://{encrypted.bucket}/{unique('uploads')}",
        wait_for_completion=True,
        max_wait_seconds=600,
        **COMMON | {"deferrable": True, "poll_interval": NEXT_POLL},
    )
    run_task(partial(invoke, body=f"gate {opening_gate}"))
    with pytest.raises(AirflowFailException, match="ordered to fail"):
        run_task(
            partial(invoke, body="fail this" + "x" * 200_000),
            context_for(TaskInstanceDouble(task_id="other")),
        )
    invocation = run_task(
        partial(invoke, body="b", wait_for_completion=False, completion_queue=None),
        context_for(TaskInstanceDouble(task_id="third")),
    )
    sensor = partial(
        SageMakerAsyncInferenceSensor,
        task_id="sensor",
        invocations=[invocation],
        aws_conn_id=None,
        poke_interval=POLL,
        deferrable=True,
    )
    run_task(sensor)
    privileges.check()


def test_batch(
    encrypted: Account, privileges: Privileges, notified: NotifiedEndpoint, opening_gate: Path
) -> None:
    inputs = upload_inputs(encrypted, ["a", f"gate {opening_gate}", "fail this"])
    queue = notified.queue.rpartition("/")[2]
    names = {"endpoint": notified.name, "endpoint_config": notified.name, "bucket": encrypted.bucket}
    privileges.only("batch", **names, queue=queue, kms_key=KEY)
    batch = partial(
        SageMakerAsyncBatchOperator,
        task_id="batch",
        endpoint_name=notified.name,
        inputs=inputs,
        ledger_prefix=f"s3://{encrypted.bucket}/{unique('ledgers')}",
        content_type="text/plain",
        completion_queue=notified.queue,
        attempts=1,
        max_wait_seconds=600,
        **COMMON | {"deferrable": True, "poll_interval": NEXT_POLL},
    )
    with pytest.raises(AirflowFailException, match="1 of 3"):
        run_task(batch)
    privileges.check()


def test_multi_model(account: Account, privileges: Privileges) -> None:
    endpoint = MultiModel.deployed(account, ["a"])
    endpoint.put("a", "1.csv", "1\n2\n")
    endpoint.put("a", "2.csv", "bad\n")
    privileges.only(
        "multi-model",
        endpoint=endpoint.name,
        endpoint_config=endpoint.name,
        model=endpoint.name,
        bucket=account.bucket,
        kms_key=KEY,
        acl="",
    )
    plan = partial(
        SageMakerPlanMultiModelBatchOperator,
        task_id="plan",
        endpoint_name=endpoint.name,
        inputs=f"{endpoint.root}/in/",
        outputs=f"{endpoint.root}/out/",
        target_model="{model}.tar.gz",
        aws_conn_id=None,
    )
    shards = run_task(plan)
    batch = partial(
        SageMakerMultiModelBatchOperator,
        task_id="batch",
        endpoint_name=endpoint.name,
        content_type="text/csv",
        output_kms_key_id=KEY,
        output_acl="bucket-owner-full-control",
        aws_conn_id=None,
    )
    with pytest.raises(AirflowFailException, match="1 of 3 records failed"):
        run_task(partial(batch, shard=shards[0]))
    asyncio.run(_aborted_upload(f"{endpoint.root}/out/large"))
    merge = partial(
        SageMakerMergeBatchReportOperator,
        task_id="merge",
        plan_location=shards[0]["plan_location"],
        aws_conn_id=None,
    )
    with pytest.raises(AirflowFailException, match="1 of 3 records failed"):
        run_task(merge)
    endpoint.put("a", "2.csv", "3\n")
    run_task(partial(batch, shard=run_task(plan)[0]))
    privileges.check()


async def _aborted_upload(location: str) -> None:
    """An output that is larger than one part, and that is given up, as at the end of a task that is killed."""
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions

    async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
        upload = await MultipartUpload.begin(s3, location, options=ObjectOptions(kms_key_id=KEY))
        await upload.abort()


def test_transform_logs(account: Account, privileges: Privileges) -> None:
    job = unique("job")
    account.upload("1,2\n", f"{job}/in/a.csv")
    context, operator = context_for(Instance()), transform(account, job, FAILING)
    context["task"] = operator
    with pytest.raises(Exception, match="AlgorithmError"):
        operator.execute(context)
    privileges.only("transform-logs", transform_job=job)
    TransformJobLogs()(context)
    privileges.check()


def test_page(account: Account, privileges: Privileges) -> None:
    name, model = unique("endpoint"), account.create_model(multi_model=True)
    run_task(partial(deploy, name, model))
    privileges.only("page")
    overview = collect_region("aws_default", REGION)
    assert overview.problems == []
    privileges.check()


NOT_EMULATED = {
    "cloudwatch:PutMetricData",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "logs:DescribeLogStreams",
}
"""What AWS documents of an execution role, and the embedded service does not do: it pulls no image."""


def test_execution_role(
    account: Account, notified: NotifiedEndpoint, opening_gate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded service's own calls are restricted to the execution role's policy."""
    capsys.readouterr()
    names = ["--endpoint", "*", "--bucket", account.bucket, "--topic", "topic-*", "--kms-key", KEY]
    features = ["model", "deploy", "async", "batch", "data-capture"]
    assert main([*features, *LOCATION, *names, "--for", "execution-role"]) == 0
    document = json.loads(capsys.readouterr().out)
    capture = {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{account.bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    invoke = partial(SageMakerInvokeEndpointAsyncOperator, task_id="i", endpoint_name=notified.name)
    control(account, "PUT", f"policies/{OWN_ACCESS_KEY}", document)
    try:
        multi_model = MultiModel.deployed(account, ["a"])
        account.runtime.invoke_endpoint(
            EndpointName=multi_model.name, TargetModel="a.tar.gz", Body=b"1", ContentType="text/csv"
        )
        name = unique("endpoint")
        run_task(partial(deploy, name, account.create_model(), data_capture_config=capture))
        run_task(
            partial(
                invoke,
                input_location=account.upload(f"gate {opening_gate}"),
                content_type="text/plain",
                completion_queue=notified.queue,
                wait_for_completion=True,
                max_wait_seconds=600,
                **COMMON | {"deferrable": True, "poll_interval": NEXT_POLL},
            )
        )
        needed = control(account, "GET", "policies")[OWN_ACCESS_KEY]["needed"]
    finally:
        control(account, "DELETE", f"policies/{OWN_ACCESS_KEY}")
    ours = [row for row in needed if row["action"].partition(":")[0] in ("s3", "logs", "sns")]
    assert [row for row in ours if not row["allowed"]] == []
    permissions = [Permission(row["action"], row["resource"], row["context"]) for row in ours]
    assert {action for action, _ in superfluous(document, permissions)} == NOT_EMULATED


def test_every_feature_has_a_test() -> None:
    tested = {name.removeprefix("test_").replace("_", "-") for name in globals()}
    of_task_roles = {name for name, feature in FEATURES.items() if feature.task}
    assert of_task_roles <= tested


def test_a_missing_action_fails_the_task_with_its_name_and_resource(
    account: Account, privileges: Privileges
) -> None:
    privileges.only("invoke", endpoint="another")
    invoke = partial(
        SageMakerInvokeEndpointOperator, task_id="invoke", endpoint_name="Mine", aws_conn_id=None
    )
    with pytest.raises(AirflowFailException) as denied:
        run_task(partial(invoke, body="1", content_type="text/csv"))
    for part in ("AccessDenied", "sagemaker:InvokeEndpoint", "123456789012:endpoint/mine"):
        assert part in str(denied.value)


def test_sagemaker_deletes_no_scaled_endpoint_without_the_permission_to_deregister_it(
    account: Account, privileges: Privileges
) -> None:
    name = unique("endpoint")
    run_task(partial(deploy, name, account.create_model(multi_model=True)))
    scale(account, name)
    privileges.only("delete", endpoint=name)
    session = boto3.Session(privileges.access_key, "test", region_name=REGION)
    client = session.client("sagemaker", endpoint_url=account.url)
    with pytest.raises(ClientError, match="application-autoscaling:DeregisterScalableTarget"):
        client.delete_endpoint(EndpointName=name)
    privileges.only("delete", "scaling", endpoint=name)
    client.delete_endpoint(EndpointName=name)
