"""Scaling without an operator: eventual consistency, many variants, endpoints that are gone, missing permissions."""

from __future__ import annotations

import functools
import http.client
import json
import logging
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.exceptions import AccessDenied, RequestRefused, Throttled
from airflow_sm_plugin.hooks.autoscaling import ScalableVariantHook
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.scaling import (
    BACKLOG_POLICY,
    WAKE_POLICY,
    ScaledVariant,
    Scaling,
    ScalingPlan,
    plan_scaling,
)
from tests.endpoint_trials import control
from tests.support import Account, Answer, answering, unique

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

DESCRIBE = "DescribeScalableTargets"
Served = tuple[int, dict[str, str], bytes]


def plan(endpoint: str, variant: str = "AllTraffic", *, min_capacity: int = 0) -> ScalingPlan:
    """A plan for an asynchronous endpoint, which only SageMaker would miss."""
    scaling = Scaling.read(min_capacity=min_capacity, max_capacity=2)
    variants = [{"VariantName": variant, "CurrentInstanceCount": 1}]
    described = {
        "EndpointStatus": "InService",
        "ProductionVariants": variants,
        "AsyncInferenceConfig": {"a": 1},
    }
    return plan_scaling(ScaledVariant(endpoint, variant), scaling, described)


def scaling() -> EndpointScaling:
    return EndpointScaling(AwsConnection(aws_conn_id=None))


@functools.cache
def clients() -> tuple[ApplicationAutoScalingClient, CloudWatchClient]:
    """Clients of the embedded service, which stays the same for all tests: to make them takes longest."""
    return boto3.client("application-autoscaling"), boto3.client("cloudwatch")


def left(endpoint: str) -> list[str]:
    """Describe an endpoint's scaling with separate clients."""
    autoscaling, cloudwatch = clients()
    targets = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    policies = autoscaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    prefix = f"endpoint/{endpoint}/"
    return [
        *(one["ResourceId"] for one in targets if one["ResourceId"].startswith(prefix)),
        *(one["PolicyName"] for one in policies if one["ResourceId"].startswith(prefix)),
        *(one["AlarmName"] for one in alarms if prefix in one["AlarmName"]),
    ]


def operation_of(headers: Any, path: str, body: bytes) -> str:  # noqa: ANN401 - the standard library's headers
    """Return a request's operation, in whichever protocol this botocore speaks."""
    if "X-Amz-Target" in headers:
        return str(headers["X-Amz-Target"]).rpartition(".")[2]
    if "/operation/" in path:
        return path.rpartition("/")[2]
    return urllib.parse.parse_qs(body.decode(errors="replace")).get("Action", [""])[0]


def denial(headers: Any, operation: str) -> Served:  # noqa: ANN401 - the standard library's headers
    """Return AWS's AccessDenied in the protocol of the request."""
    message = f"User: someone is not authorized to perform: {operation}"
    if "cbor" in str(headers.get("Content-Type")):
        fields = {"__type": "AccessDenied", "message": message}
        body = bytes([0xA0 + len(fields)])
        for text in [word for pair in fields.items() for word in pair]:
            body += bytes([0x78, len(text)]) + text.encode()  # a text of up to 255 characters
        return 403, {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}, body
    if "json" in str(headers.get("Content-Type")):
        return 403, {}, json.dumps({"__type": "AccessDeniedException", "message": message}).encode()
    xml = (
        f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
    return 403, {}, xml.encode()


@contextmanager
def denying(*operations: str, otherwise: str) -> Iterator[tuple[str, list[str]]]:
    """Serve a role that may not do these; the rest goes on to the service. Yield the address and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            operation = operation_of(self.headers, self.path, body)
            asked.append(operation)
            denied = operation in operations
            status, headers, content = denial(self.headers, operation) if denied else self._passed_on(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _passed_on(self, body: bytes) -> Served:
            with closing(
                http.client.HTTPConnection(otherwise.removeprefix("http://"), timeout=600)
            ) as service:
                service.request("POST", self.path, body, dict(self.headers))
                got = service.getresponse()
                kept = {n: v for n, v in got.getheaders() if n.lower() != "content-length"}
                return got.status, kept, got.read()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def scaled() -> Iterator[str]:
    """The name of an endpoint that scales to zero."""
    name, working = unique("scaled"), scaling()
    working.apply(plan(name))
    yield name
    working.remove(name)


def test_a_variant_registered_just_now_may_not_be_visible_yet(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(unique("fresh"))
    scaling().variants.register(planned.registration())
    unseen = Answer(400, "ObjectNotFoundException", "No scalable target registered for service namespace: x")
    with answering(unseen, otherwise=aws) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        arn = ScalableVariantHook(aws_conn_id=None).put_policy(planned.tracking_policy())
    assert arn.endswith(f"policyName/{BACKLOG_POLICY}")
    assert asked == ["AnyScaleFrontendService.PutScalingPolicy"] * 2


def test_another_refusal_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(Answer(400, "LimitExceededException", "too many policies")) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(
            RequestRefused, match=r"(?s)PutScalingPolicy airflow-sm-backlog of endpoint/e/.*too many"
        ):
            ScalableVariantHook(aws_conn_id=None).put_policy(plan("e").tracking_policy())
    assert len(asked) == 1


def test_what_is_missing_counts_as_removed() -> None:
    variants, variant = ScalableVariantHook(aws_conn_id=None), ScaledVariant(unique("none"), "AllTraffic")
    assert not variants.delete_policy(variant, BACKLOG_POLICY)
    assert not variants.deregister(variant)


def test_what_aws_calls_not_found_counts_as_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live service's own code; moto has another."""
    missing = Answer(
        400, "ObjectNotFoundException", "No scaling policy found for service namespace: sagemaker"
    )
    with answering(missing) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        variants = ScalableVariantHook(aws_conn_id=None)
        assert not variants.delete_policy(ScaledVariant("e", "v"), WAKE_POLICY)


def test_an_endpoint_that_is_gone_leaves_nothing_whatever_its_variants_were(scaled: str) -> None:
    """The variants are not known any more; a name with the same beginning is another endpoint's."""
    other, neighbour = unique("other"), f"{scaled}-b"
    scaling().apply(plan(scaled, "green", min_capacity=1))
    scaling().apply(plan(neighbour))
    removed = scaling().remove_scaling(scaled)
    assert left(scaled) == []
    assert sorted(line.split()[0] for line in removed) == ["alarm", *["policy"] * 3, "scalable", "scalable"]
    assert len(left(neighbour)) == 4
    scaling().remove(neighbour)
    assert scaling().remove_scaling(other) == []


def test_an_alarm_that_is_only_named_like_ours_stays(scaled: str) -> None:
    alarms, foreign = scaling().alarms, f"airflow-sm/endpoint/{scaled}/variant/AllTraffic/Latency"
    planned = plan(scaled).alarm("arn:aws:sns:us-east-1:123456789012:on-call")
    alarms.put(planned | {"AlarmName": foreign})
    removed = scaling().remove_scaling(scaled)
    assert f"alarm {ScaledVariant(scaled, 'AllTraffic').alarm_name}" in removed
    assert left(scaled) == [foreign]
    alarms.delete(foreign)


def test_only_the_variants_named_are_removed(scaled: str) -> None:
    scaling().apply(plan(scaled, "AllTraffic2"))
    assert scaling().remove(scaled, []) == []
    scaling().remove(scaled, ["AllTraffic2"])
    assert sorted(left(scaled)) == sorted(
        [
            f"endpoint/{scaled}/variant/AllTraffic",
            BACKLOG_POLICY,
            WAKE_POLICY,
            ScaledVariant(scaled, "AllTraffic").alarm_name,
        ]
    )


@pytest.mark.parametrize("stage", ["alarm", "policy", "all policies"])
def test_a_removal_that_was_killed_is_completed(scaled: str, stage: str) -> None:
    variant = ScaledVariant(scaled, "AllTraffic")
    killed = scaling()
    killed.alarms.delete(variant.alarm_name)
    for name in {"alarm": [], "policy": [WAKE_POLICY], "all policies": [BACKLOG_POLICY, WAKE_POLICY]}[stage]:
        killed.variants.delete_policy(variant, name)
    removed = scaling().remove_scaling(scaled)
    assert removed[-1] == f"scalable target {variant.resource_id}"
    assert left(scaled) == []


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_application_that_was_killed_is_completed(stage: int) -> None:
    planned = plan(unique("killed"))
    killed = scaling()
    killed.variants.register(planned.registration())
    if stage > 1:
        arn = killed.variants.put_policy(planned.wake_policy())
    if stage > 2:
        killed.alarms.put(planned.alarm(arn))
    applied = scaling().apply(planned)
    assert sorted(applied.policies) == [BACKLOG_POLICY, WAKE_POLICY]
    assert len(left(planned.variant.endpoint_name)) == 4
    scaling().remove(planned.variant.endpoint_name)


def test_a_role_that_may_not_describe_registered_nothing_and_gets_a_hint(
    aws: str, scaled: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with denying(DESCRIBE, otherwise=aws) as (url, asked), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        assert scaling().remove_scaling(scaled) == []
        with pytest.raises(AccessDenied, match="application-autoscaling:DescribeScalableTargets"):
            scaling().remove(scaled, ["AllTraffic"])
    assert asked == [DESCRIBE, DESCRIBE]
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"scaling of endpoint {scaled} was not checked: application-autoscaling:{DESCRIBE}" in said


@pytest.mark.parametrize(
    "operation", ["DescribeAlarms", "DeleteAlarms", "DescribeScalingPolicies", "DeleteScalingPolicy"]
)
def test_a_missing_permission_is_an_error_where_something_of_ours_is(
    aws: str, scaled: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """In every try: what tells that it is ours goes last."""
    with denying(operation, otherwise=aws) as (url, _asked), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        for _ in range(2):
            with pytest.raises(
                AccessDenied, match=rf"(?s):{operation} .*allow this action to the task's role"
            ):
                scaling().remove_scaling(scaled)


def test_a_missing_permission_is_an_error_where_one_of_several_variants_has_a_policy_of_ours(
    aws: str, scaled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling().variants.register(plan(scaled, "another").registration())
    with denying("DeleteScalingPolicy", otherwise=aws) as (url, _asked), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(AccessDenied, match="DeleteScalingPolicy"):
            scaling().remove_scaling(scaled)
    scaling().remove(scaled)


def test_a_missing_permission_is_no_error_where_nothing_is_registered(
    aws: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with denying("DescribeAlarms", otherwise=aws) as (url, _asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert scaling().remove_scaling(unique("plain")) == []
    assert ":DescribeAlarms " in caplog.text


@pytest.mark.parametrize("operation", ["DescribeAlarms", "DeregisterScalableTarget"])
def test_a_missing_permission_is_no_error_where_nothing_is_ours(
    aws: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    """Another task or person registered the variant."""
    name = unique("theirs")
    scaling().variants.register(plan(name).registration())
    with denying(operation, otherwise=aws) as (url, asked), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        assert scaling().remove_scaling(name) == []
    assert operation in asked
    assert f":{operation} " in caplog.text
    scaling().remove(name)


def test_an_endpoint_that_never_scaled_costs_two_calls(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with denying(otherwise=aws) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert scaling().remove_scaling(unique("plain")) == []
    assert asked == [DESCRIBE, "DescribeAlarms"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_concurrent_update_passes_on_every_write(
    account: Account, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Application Auto Scaling refuses a write while it is at work on the same target."""
    monkeypatch.setattr("random.random", lambda: 0.0)
    name, working = unique("busy"), scaling()
    situation = {"fault": "error", "situation": "another change of the scaling is under way", "times": times}
    rules = [
        {"operation": f"application-autoscaling:{verb}", **situation}
        for verb in ("Register*", "Put*", "Delete*", "Deregister*")
    ]
    control(account, "POST", "faults", rules)
    try:
        working.apply(plan(name))
        assert len(left(name)) == 4
        working.remove(name)
        assert left(name) == []
        assert [rule["struck"] for rule in control(account, "GET", "faults")["rules"]] == [times] * 4
    finally:
        control(account, "DELETE", "faults")


def test_a_concurrent_update_that_does_not_pass_ends_as_throttled(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    situation = {"fault": "error", "situation": "another change of the scaling is under way"}
    control(account, "POST", "faults", [{"operation": "application-autoscaling:Register*", **situation}])
    try:
        with pytest.raises(Throttled, match="ConcurrentUpdateException"):
            scaling().apply(plan(unique("busy")))
    finally:
        control(account, "DELETE", "faults")


def test_deleting_what_scales_without_the_permission_tells_which_and_what_else_helps(
    account: Account,
) -> None:
    situation = {"fault": "error", "situation": "a scaled variant may not be deregistered", "times": 1}
    control(account, "POST", "faults", [{"operation": "DeleteEndpoint", **situation}])
    hook = SageMakerControlPlaneHook(aws_conn_id=None)
    with pytest.raises(AccessDenied, match=r"(?s)DeregisterScalableTarget.*action='remove'"):
        hook.request_deletion("churn")
    control(account, "DELETE", "faults")
