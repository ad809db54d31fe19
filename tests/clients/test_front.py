"""The HTTP front as AWS's own clients see it: S3 unchanged, request ids, and errors in the service's form."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients.conftest import Workbench

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = [
    "plain.txt",
    "a%2Fb",
    "a/b",
    "a%20b",
    "a b",
    "a+b",
    "a?b=1",
    "a?b=2",
    "a&b=c",
    "a#b",
    "a%b",
    "100%25",
    "100%",
    "dt=2024-01-01 00%3A00/part",
    "a//b",
    "folder/",
    "kéy/日本語/😀",
    "semi;colon,comma@at:colon'quote(s)*!~$=[x]{y}|^`\"<>\\",
    "line\nbreak",
]
"""Keys that an address can hold only percent-encoded, and those that they are easily taken for."""


def _client(service: str, **options: Any) -> Any:  # noqa: ANN401 - the service is a variable
    return boto3.client(service, config=Config(retries={"total_max_attempts": 1}, **options))  # type: ignore[call-overload] # the service is a variable


def _virtual_host(url: str) -> S3Client:
    """Return a client that writes the bucket into the host name, which the service, as its proxy, need not resolve."""
    port = urlsplit(url).port
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=f"http://localhost:{port}",
        config=Config(
            s3={"addressing_style": "virtual"}, proxies={"http": url}, retries={"total_max_attempts": 1}
        ),
    )
    return client


@pytest.fixture(params=["path", "virtual"])
def s3(request: pytest.FixtureRequest, aws: str, workbench: Workbench) -> Iterator[S3Client]:
    """Both ways to say which bucket."""
    if request.param == "path":
        yield workbench.s3
        return
    client = _virtual_host(aws)
    yield client
    client.close()


def _control(url: str, method: str, route: str, value: object = None) -> Any:  # noqa: ANN401 - JSON
    body = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/_embedded/{route}", data=body, method=method)
    ) as answer:
        return json.load(answer)


def test_every_key_is_kept_as_it_is(workbench: Workbench, s3: S3Client) -> None:
    bucket = workbench.bucket
    for number, key in enumerate(KEYS):
        s3.put_object(Bucket=bucket, Key=f"in/{key}", Body=str(number).encode())
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="in/")["Contents"]]
    assert sorted(listed) == sorted(f"in/{key}" for key in KEYS)
    for number, key in enumerate(KEYS):
        content = str(number).encode()
        assert s3.head_object(Bucket=bucket, Key=f"in/{key}")["ContentLength"] == len(content)
        assert s3.get_object(Bucket=bucket, Key=f"in/{key}")["Body"].read() == content
        s3.copy_object(Bucket=bucket, Key=f"copied/{key}", CopySource={"Bucket": bucket, "Key": f"in/{key}"})
        assert s3.get_object(Bucket=bucket, Key=f"copied/{key}")["Body"].read() == content
    s3.delete_object(Bucket=bucket, Key="in/a/b")
    left = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="in/")["Contents"]}
    assert left == {f"in/{key}" for key in KEYS} - {"in/a/b"}


@pytest.mark.parametrize(
    "key",
    [
        *("/leading", "//two", "plain", "folder/", "a%2Fb?c", "_embedded/health", "moto-api/reset"),
        *("v20180820/accesspoint/a", "v20180820/"),
    ],
)
def test_a_key_may_begin_and_end_with_slashes(workbench: Workbench, s3: S3Client, key: str) -> None:
    s3.put_object(Bucket=workbench.bucket, Key=key, Body=b"x")
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=workbench.bucket)["Contents"]]
    assert key in listed
    assert s3.get_object(Bucket=workbench.bucket, Key=key)["Body"].read() == b"x"


@pytest.mark.parametrize("key", ["a%2Fb", "a?b", "100%25", "a b+c", "a//b"])
def test_multipart_uploads_and_presigned_addresses_keep_keys(
    workbench: Workbench, s3: S3Client, key: str, aws: str
) -> None:
    where: dict[str, Any] = {"Bucket": workbench.bucket, "Key": key}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    assert s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)["Key"] == key
    signed = urlsplit(s3.generate_presigned_url("get_object", Params=where))
    assert signed.netloc
    connection = http.client.HTTPConnection(urlsplit(aws).netloc, timeout=600)
    connection.request("GET", f"{signed.path}?{signed.query}", headers={"Host": signed.netloc})
    assert connection.getresponse().read() == b"part"
    connection.close()


@pytest.mark.parametrize("key", ["./a", "a/../b"])
def test_a_key_is_no_path_of_folders(workbench: Workbench, key: str) -> None:
    """In path style only: urllib3 resolves the dots in what it sends to a proxy."""
    workbench.s3.put_object(Bucket=workbench.bucket, Key=key, Body=b"x")
    assert key in [item["Key"] for item in workbench.s3.list_objects_v2(Bucket=workbench.bucket)["Contents"]]
    assert workbench.s3.get_object(Bucket=workbench.bucket, Key=key)["Body"].read() == b"x"


def test_metadata_come_back_under_the_names_they_were_given(workbench: Workbench, s3: S3Client) -> None:
    given = {"owner-name": "a", "under_score": "b", "x": "c", "under-score": "d"}
    s3.put_object(Bucket=workbench.bucket, Key="marked", Body=b"", Metadata=given)
    assert s3.head_object(Bucket=workbench.bucket, Key="marked")["Metadata"].keys() >= {"owner-name", "x"}
    alone = {"under_score": "b", "owner-name": "a"}
    s3.put_object(Bucket=workbench.bucket, Key="marked", Body=b"", Metadata=alone)
    assert s3.get_object(Bucket=workbench.bucket, Key="marked")["Metadata"] == alone


def test_paths_of_other_services_are_kept_as_they_are(aws: str) -> None:
    quicksight = _client("quicksight")
    arn = "arn:aws:quicksight:us-east-1:123456789012:dashboard/a%2Fb"
    quicksight.tag_resource(ResourceArn=arn, Tags=[{"Key": "k", "Value": "v"}])
    assert quicksight.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]


def _ids(service: str, call: Callable[[Any], Any]) -> str:
    try:
        response = call(_client(service))
    except ClientError as error:
        response = error.response
    return str(response["ResponseMetadata"]["RequestId"])


def test_every_answer_has_a_request_id_of_its_own(aws: str) -> None:
    calls: list[tuple[str, Callable[[Any], Any]]] = [
        ("sagemaker", lambda client: client.list_models()),
        ("sagemaker", lambda client: client.describe_model(ModelName="none")),
        ("sagemaker", lambda client: client.list_training_jobs()),
        ("sagemaker", lambda client: client.describe_inference_component(InferenceComponentName="none")),
        ("sagemaker-runtime", lambda client: client.invoke_endpoint(EndpointName="none", Body=b"1")),
        ("s3", lambda client: client.list_buckets()),
        ("s3", lambda client: client.get_object(Bucket="none", Key="none")),
        ("sqs", lambda client: client.list_queues()),
        ("logs", lambda client: client.list_anomalies()),
        ("sts", lambda client: client.get_caller_identity()),
    ]
    ids = [_ids(service, call) for service, call in calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    logged = _control(aws, "GET", "calls?service=*")["calls"]
    assert set(ids) <= {call["request_id"] for call in logged}


UNKNOWN: list[tuple[str, Callable[[Any], Any]]] = [
    ("logs", lambda client: client.list_anomalies()),
    ("cloudwatch", lambda client: client.describe_anomaly_detectors()),
    (
        "sns",
        lambda client: client.get_data_protection_policy(ResourceArn="arn:aws:sns:us-east-1:123456789012:t"),
    ),
    ("sqs", lambda client: client.list_message_move_tasks(SourceArn="arn:aws:sqs:us-east-1:123456789012:q")),
    ("ec2", lambda client: client.describe_fleet_history(FleetId="fleet-1", StartTime=0)),
    ("lambda", lambda client: client.list_code_signing_configs()),
    ("route53", lambda client: client.get_checker_ip_ranges()),
    ("iam", lambda client: client.get_service_last_accessed_details(JobId="1" * 36)),
    (
        "sagemaker-runtime",
        lambda client: client.invoke_endpoint_with_response_stream(EndpointName="none", Body=b"1"),
    ),
    (
        "sagemaker-featurestore-runtime",
        lambda client: client.get_record(FeatureGroupName="none", RecordIdentifierValueAsString="1"),
    ),
    (
        "sagemaker-a2i-runtime",
        lambda client: client.list_human_loops(
            FlowDefinitionArn="arn:aws:sagemaker:us-east-1:123456789012:flow-definition/f"
        ),
    ),
    ("sagemaker", lambda client: client.describe_inference_component(InferenceComponentName="none")),
    ("outposts", lambda client: client.list_outposts()),
    ("workmail", lambda client: client.list_organizations()),
]
"""A service of each protocol with an operation that nothing here knows, and services that nothing here knows."""


@pytest.mark.parametrize(("service", "call"), UNKNOWN)
def test_an_unknown_operation_is_refused_at_once_in_the_services_form(
    aws: str, service: str, call: Callable[[Any], Any]
) -> None:
    client = boto3.client(service)  # type: ignore[call-overload] # the service is a variable
    before = _control(aws, "GET", "calls?service=*")["sequence"]
    with pytest.raises(ClientError) as refused:
        call(client)
    response = refused.value.response
    assert response["Error"]["Code"] == "UnknownOperationException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)
    assert response["ResponseMetadata"]["RetryAttempts"] == 0
    logged = _control(aws, "GET", f"calls?service=*&since={before}")["calls"]
    (noted,) = [one for one in logged if one["request_id"] == response["ResponseMetadata"]["RequestId"]]
    assert noted["error"] == "UnknownOperationException"
    assert noted["effect"] is False


def test_an_operation_newer_than_the_service_is_refused_at_once(aws: str) -> None:
    for service in ("sagemaker", "logs", "cloudwatch", "sns"):
        client = _client(service)
        operations = client.meta.service_model._service_description["operations"]
        known = next(
            name
            for name, one in operations.items()
            if name.startswith(("Describe", "List")) and "input" in one
        )
        operations["CreateSomethingNew"] = {**operations[known], "name": "CreateSomethingNew"}
        operations["CreateSomethingNew"].pop("input")
        with pytest.raises(ClientError) as refused:
            client._make_api_call("CreateSomethingNew", {})
        assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
        assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda s3, bucket: s3.list_bucket_analytics_configurations(Bucket=bucket),
        lambda s3, bucket: s3.get_bucket_metrics_configuration(Bucket=bucket, Id="i"),
        lambda s3, bucket: s3.put_bucket_request_payment(
            Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"}
        ),
        lambda s3, bucket: s3.delete_bucket_inventory_configuration(Bucket=bucket, Id="i"),
        lambda s3, bucket: s3.get_object_torrent(Bucket=bucket, Key="model.tar.gz"),
    ],
)
def test_an_s3_operation_that_moto_takes_for_another_is_refused(
    workbench: Workbench, s3: S3Client, call: Callable[[S3Client, str], object]
) -> None:
    with pytest.raises(ClientError, match="UnknownOperationException"):
        call(s3, workbench.bucket)
    assert s3.head_object(Bucket=workbench.bucket, Key="model.tar.gz")


@pytest.mark.parametrize(
    ("service", "path", "headers", "body"),
    [
        ("sqs", "/", {"X-Amz-Target": "AmazonSQS.CreateQueue"}, b"[]"),
        ("sns", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Action=Publish"),
        (
            "ec2",
            "/",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Action=RunInstances&MinCount=x",
        ),
        ("lambda", "/2015-03-31/functions", {"Content-Type": "application/json"}, b"{"),
    ],
)
def test_what_moto_stumbles_over_is_an_internal_failure_with_a_reason(
    aws: str, service: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    scope = f"Credential=any/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    connection = http.client.HTTPConnection(urlsplit(aws).netloc, timeout=600)
    connection.request("POST", path, body, {**headers, "Authorization": f"AWS4-HMAC-SHA256 {scope}"})
    answer = connection.getresponse()
    code = answer.headers["x-amzn-ErrorType"]
    assert (answer.status, code) == (500, "InternalFailure")
    assert b"The embedded SageMaker failed at " in answer.read()
    logged = _control(aws, "GET", f"calls?service={service}")["calls"]
    assert [one["error"] for one in logged if one["request_id"] == answer.headers["x-amzn-RequestId"]] == [
        code
    ]
    connection.close()


def test_an_unsigned_call_of_sagemaker_is_refused(aws: str) -> None:
    from botocore import UNSIGNED

    calls: list[tuple[str, Callable[[Any], Any]]] = [
        ("sagemaker", lambda client: client.list_models()),
        ("sagemaker-runtime", lambda client: client.invoke_endpoint(EndpointName="e", Body=b"1")),
        ("sqs", lambda client: client.list_queues()),
    ]
    for service, call in calls:
        with pytest.raises(ClientError) as refused:
            call(_client(service, signature_version=UNSIGNED))
        assert refused.value.response["Error"]["Code"] == "MissingAuthenticationToken"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.fixture
def rules(aws: str, workbench: Workbench) -> Iterator[Callable[..., None]]:
    """Add rules for the bucket's objects, and forget them afterwards."""
    resource = f"{workbench.bucket}/*"

    def add(**rule: object) -> None:
        _control(aws, "POST", "faults", [{"resource": resource, **rule}])

    yield add
    _control(aws, "DELETE", f"faults?resource={resource}")


@pytest.mark.parametrize("key", ["plain.txt", "a/b", "folder/"])
def test_faults_strike_s3_calls_in_either_style(
    aws: str, workbench: Workbench, s3: S3Client, rules: Callable[..., None], key: str
) -> None:
    rules(operation="s3:PutObject", fault="error", status=403, code="AccessDenied", times=1)
    before = _control(aws, "GET", "calls?service=*")["sequence"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=workbench.bucket, Key=key, Body=b"x")
    s3.put_object(Bucket=workbench.bucket, Key=key, Body=b"x")
    logged = _control(aws, "GET", f"calls?service=s3&since={before}")["calls"]
    mine = [call for call in logged if (call["resource"] or "").startswith(workbench.bucket)]
    assert [(call["operation"], call["resource"], call["fault"]) for call in mine] == [
        ("PutObject", f"{workbench.bucket}/{key}", "error"),
        ("PutObject", f"{workbench.bucket}/{key}", None),
    ]
