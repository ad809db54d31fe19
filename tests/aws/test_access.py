"""The fast transport's addresses, credentials and certificates, taken from botocore; the calls that it leaves to it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import NoCredentialsError

from airflow_sm_plugin.aws.access import Address, FreshSigners, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.addresses import ServiceAddresses
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.signer import Keys
from airflow_sm_plugin.exceptions import InvalidRequest
from tests.stubs.recorder import Said, recording

pytestmark = pytest.mark.airflow


@pytest.fixture(autouse=True)
def _at_aws(monkeypatch: pytest.MonkeyPatch, aws: str) -> None:
    """ServiceAddresses are AWS's own here; nothing is sent."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")


def access(
    service: str = "s3",
    options: Mapping[str, Any] | None = None,
    *,
    verify: bool | str | None = None,
    max_connections: int | None = None,
) -> ServiceAccess:
    connection = AwsConnection(
        aws_conn_id=None, region_name="eu-west-1", botocore_config=options, verify=verify
    )
    hook = UnrepeatedHook(client_type=service, max_connections=max_connections, **connection.hook_arguments())
    return ServiceAccess(hook)


def address(options: Mapping[str, Any] | None, bucket: str) -> Address | None:
    async def learn() -> Address | None:
        reached = access(options=options)
        calls = BotocoreCalls(reached.client)
        try:
            return await ServiceAddresses(reached, calls).address(bucket)
        finally:
            calls.close()

    return asyncio.run(learn())


@pytest.mark.parametrize(
    ("options", "bucket", "url"),
    [
        (None, "bucket", "https://bucket.s3.eu-west-1.amazonaws.com"),
        (None, "with.dots", "https://s3.eu-west-1.amazonaws.com/with.dots"),
        ({"s3": {"addressing_style": "path"}}, "bucket", "https://s3.eu-west-1.amazonaws.com/bucket"),
        ({"use_dualstack_endpoint": True}, "bucket", "https://bucket.s3.dualstack.eu-west-1.amazonaws.com"),
        ({"use_fips_endpoint": True}, "bucket", "https://bucket.s3-fips.eu-west-1.amazonaws.com"),
        ({"s3": {"use_accelerate_endpoint": True}}, "bucket", "https://bucket.s3-accelerate.amazonaws.com"),
    ],
)
def test_a_buckets_address_is_the_one_that_botocore_finds(
    options: Mapping[str, Any] | None, bucket: str, url: str
) -> None:
    assert address(options, bucket) == Address(url, "eu-west-1", "s3")


@pytest.mark.parametrize(
    ("options", "bucket"),
    [
        ({"signature_version": "s3"}, "bucket"),
        ({"signature_version": UNSIGNED}, "bucket"),
        ({"client_cert": "/certificate"}, "bucket"),
        ({"proxies_config": {"proxy_ca_bundle": "/bundle"}}, "bucket"),
        ({"proxies": {"https": "https://proxy:1"}}, "bucket"),
    ],
)
def test_what_is_not_known_goes_through_botocore(options: Mapping[str, Any], bucket: str) -> None:
    assert address(options, bucket) is None


def test_an_option_of_a_botocore_to_come_goes_through_botocore() -> None:
    reached = access("sagemaker-runtime")
    request = reached.unsent("InvokeEndpointAsync", {"EndpointName": "e", "InputLocation": "s3://b/k"})
    assert reached.unmapped(request) is None
    reached.client.meta.config.quantum_safe = True  # type: ignore[attr-defined]  # that is the point
    assert reached.unmapped(request) == "botocore_config sets quantum_safe"


def test_a_header_that_a_handler_adds_goes_through_botocore() -> None:
    reached = access("sagemaker-runtime")

    def add(request: AWSPreparedRequest, **_: object) -> None:
        request.headers["X-Company-Trace"] = "secret"

    reached.client.meta.events.register("before-sign.sagemaker-runtime", add)
    request = reached.unsent("InvokeEndpointAsync", {"EndpointName": "e", "InputLocation": "s3://b/k"})
    assert reached.unmapped(request) == "something adds the headers x-company-trace"
    assert "secret" not in repr(request)


def test_a_request_that_is_only_built_is_not_sent_and_other_threads_calls_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with recording(lambda _: Said(200, b'{"QueueUrls": ["http://a-queue"]}')) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", recorder.url)
        reached: Any = access("sqs")
        meanwhile: list[object] = []

        def call(**_: object) -> None:
            """Make a real call at the moment when the unsent request comes to signing."""
            reached.client.meta.events.unregister("before-sign.sqs", call)
            thread = threading.Thread(target=lambda: meanwhile.append(reached.client.list_queues()))
            thread.start()
            thread.join()

        reached.client.meta.events.register("before-sign.sqs", call)
        assert reached.unsent("ListQueues", {}).url == f"{recorder.url}/"
        assert len(recorder.asked) == len(meanwhile) == 1
        assert reached.client.list_queues()["QueueUrls"] == ["http://a-queue"]


@pytest.mark.parametrize(
    ("proxy", "bare", "headers"),
    [
        ("http://proxy:3128", "http://proxy:3128", {}),
        ("proxy:3128", "http://proxy:3128", {}),
        (
            "http://me:se%40cret@proxy:3128",
            "http://proxy:3128",
            {"Proxy-Authorization": "Basic bWU6c2VAY3JldA=="},
        ),
    ],
)
def test_a_proxy_is_used_as_botocore_uses_it(proxy: str, bare: str, headers: Mapping[str, str]) -> None:
    reached = access("sqs", {"proxies": {"https": proxy, "http": "http://another"}})
    wire = reached.wire()
    assert (wire.proxy, dict(wire.proxy_headers)) == (bare, headers)
    assert reached.unmapped(reached.unsent("ListQueues", {})) is None


def test_the_environments_proxy_holds_unless_the_host_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    assert access("sqs").wire().proxy == "http://proxy:1"
    monkeypatch.setenv("NO_PROXY", ".amazonaws.com")
    assert access("sqs").wire().proxy is None


def test_time_outs_and_connections_are_those_of_the_configuration() -> None:
    usual = access("sqs").wire()
    assert (usual.connect_timeout, usual.read_timeout, usual.max_connections) == (60, 60, 10)
    options = {"connect_timeout": 1.5, "read_timeout": None, "max_pool_connections": 33}
    wire = access("sqs", options).wire()
    assert (wire.connect_timeout, wire.read_timeout, wire.max_connections) == (1.5, None, 33)
    assert access("sqs", options, max_connections=7).wire().max_connections == 7


def test_certificates_are_verified_as_the_connection_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def context(verify: bool | str | None = None) -> object:
        return access("sqs", verify=verify).wire().tls

    def is_strict(found: object) -> bool:
        return isinstance(found, ssl.SSLContext) and found.check_hostname and bool(found.get_ca_certs())

    assert is_strict(context())
    assert is_strict(context(verify=True))
    trusting = context(verify=False)
    assert isinstance(trusting, ssl.SSLContext)
    assert trusting.verify_mode is ssl.CERT_NONE
    missing = str(tmp_path / "own.pem")
    with pytest.raises(InvalidRequest, match=f"the CA bundle {missing} cannot be used"):
        context(verify=missing)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, missing)
        with pytest.raises(InvalidRequest, match=f"the CA bundle {missing} cannot be used"):
            context()
        monkeypatch.delenv(name)


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Https"])
def test_a_scheme_in_capitals_is_verified_as_well(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"{scheme}://127.0.0.1:1")
    found = access("sqs").wire().tls
    assert found is not None
    assert found.verify_mode is ssl.CERT_REQUIRED


def test_rotated_credentials_are_used_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    class Access:
        fetched = 0

        def keys(self, _: Address) -> Any:  # noqa: ANN401 - a stand-in
            self.fetched += 1
            return Keys(f"AKID{self.fetched}", "secret", None)

    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stand_in: Any = Access()
    there = Address("https://sqs.test", "eu-west-1", "sqs")

    async def use() -> list[bool]:
        signers = FreshSigners(stand_in, is_s3=False)
        first = await signers.for_address(there)
        now[0] += 29
        again = await signers.for_address(there)
        now[0] += 2
        later = await signers.for_address(there)
        return [first is again, again is later]

    assert asyncio.run(use()) == [True, False]
    assert stand_in.fetched == 2


def test_no_credentials_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(NoCredentialsError):
        access("sqs").unsent("ListQueues", {})


def test_the_hooks_client_repeats_nothing_whatever_is_configured() -> None:
    retries = access("sqs", {"retries": {"mode": "legacy", "max_attempts": 9}}).options["retries"]
    assert retries == {"mode": "standard", "total_max_attempts": 1}
    made: Callable[..., UnrepeatedHook] = UnrepeatedHook
    for asked, given in ((5, 35), (50, 50), (None, None)):
        connection = AwsConnection(aws_conn_id=None, botocore_config={"read_timeout": asked})
        hook = made(client_type="sqs", least_read_timeout=35, **connection.hook_arguments())
        assert ServiceAccess(hook).options["read_timeout"] == given
