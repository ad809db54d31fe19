"""A batch's inputs are apart from all that the batch or its endpoint writes; its state is encrypted as requested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.batches.inputs import MANIFEST_FILE, InputSource
from airflow_sm_plugin.exceptions import InvalidRequest
from tests.async_inference.batch.async_batches import (
    OBEDIENT,
    advance_batch,
    faults,
    invocations_of,
    run_batch,
    settings_for,
    upload_inputs,
)
from tests.support import ECHO, Account, unique


@pytest.fixture
def endpoint(account: Account) -> Iterator[str]:
    name = account.deploy(ECHO, asynchronous=True)
    yield name
    assert invocations_of(account, name) == 0, "something was sent"


def top_of(account: Account, endpoint: str) -> str:
    """Return the prefix of the endpoint's outputs and failures."""
    described = account.sagemaker.describe_endpoint(EndpointName=endpoint)
    outputs = described["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"]
    return outputs.removeprefix(f"s3://{account.bucket}/").removesuffix("/outputs")


@pytest.mark.parametrize(
    "folder", ["", "/", "/outputs", "/outputs/", "/outputs/deeper/", "/failures/", "/out"]
)
def test_inputs_that_meet_what_the_endpoint_writes_are_refused(
    account: Account, endpoint: str, folder: str
) -> None:
    top = top_of(account, endpoint)
    upload_inputs(account, ["a"], f"{top}/outputs/deeper/")
    inputs = f"s3://{account.bucket}/{top}{folder}"
    with pytest.raises(InvalidRequest, match=rf"{inputs} and the endpoint's S3\w+Path s3://.* are not apart"):
        advance_batch(settings_for(account, endpoint, inputs))


@pytest.mark.parametrize("inside", [True, False])
def test_inputs_that_meet_the_ledger_are_refused_without_permission_to_describe_the_endpoint(
    account: Account, endpoint: str, inside: bool
) -> None:
    top = f"batches/{unique('top')}/"
    upload_inputs(account, ["a"], f"{top}in/")
    inputs, ledgers = f"s3://{account.bucket}/{top}", f"s3://{account.bucket}/{top}ledgers"
    if inside:
        inputs, ledgers = f"{inputs}in/", f"s3://{account.bucket}/{top}"
    forbidden = {
        "fault": "error",
        "operation": "DescribeEndpoint",
        "resource": endpoint,
        "code": "AccessDeniedException",
    }
    settings = settings_for(account, endpoint, inputs, ledger_prefix=ledgers)
    with faults(account, forbidden), pytest.raises(InvalidRequest, match=r"ledger_prefix .* not apart"):
        advance_batch(settings)


@pytest.mark.parametrize("folder", ["outputs", "failures", "ledgers"])
def test_each_input_of_a_manifest_is_apart(account: Account, endpoint: str, folder: str) -> None:
    good = upload_inputs(account, ["a"])
    top = top_of(account, endpoint)
    bad = account.upload("b", f"{top}/{folder}/x.csv")
    lines = [json.dumps({"source-ref": source}) for source in (f"{good}00000.txt", bad)]
    source = InputSource(location=account.upload("\n".join(lines)), inputs_type=MANIFEST_FILE)
    settings = settings_for(
        account, endpoint, "s3://x/y", ledger_prefix=f"s3://{account.bucket}/{top}/ledgers"
    )
    with pytest.raises(InvalidRequest, match=f"the input {bad} and .* are not apart"):
        advance_batch(replace(settings, source=source))


def test_neighbours_are_apart(account: Account) -> None:
    """``…/outputs-of-others/`` does not lie in ``…/outputs``."""
    name = account.deploy(ECHO, asynchronous=True)
    inputs = upload_inputs(account, ["a"], f"{top_of(account, name)}/outputs-of-others/")
    assert run_batch(settings_for(account, name, inputs)).report.counts.succeeded == 1


def test_a_role_without_permission_to_describe_the_endpoint_can_run_a_batch(account: Account) -> None:
    name = account.deploy(OBEDIENT, asynchronous=True)
    settings = settings_for(account, name, upload_inputs(account, ["a", "b"]), resend=True)
    forbidden = {
        "fault": "error",
        "operation": "DescribeEndpoint",
        "resource": name,
        "code": "AccessDeniedException",
    }
    lost = {"fault": "lost_answer", "operation": "InvokeEndpointAsync", "resource": name, "times": 1}
    with faults(account, forbidden, lost):
        assert run_batch(settings).report.counts.succeeded == 2


def test_all_of_a_batchs_state_is_encrypted_with_the_key_that_was_asked_for(account: Account) -> None:
    name = account.deploy(OBEDIENT, asynchronous=True)
    inputs = upload_inputs(account, ["a", "fail b"])
    ledgers = f"ledgers/{unique('kms')}"
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    settings = settings_for(
        account,
        name,
        inputs,
        ledger_prefix=f"s3://{account.bucket}/{ledgers}",
        options=ObjectOptions(kms_key_id=key, acl="bucket-owner-full-control"),
    )
    run_batch(settings)
    keys = [
        listed_object["Key"]
        for listed_object in account.s3.list_objects_v2(Bucket=account.bucket, Prefix=ledgers)["Contents"]
    ]
    assert len(keys) > 8
    for state_key in keys:
        head = account.s3.head_object(Bucket=account.bucket, Key=state_key)
        assert (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) == ("aws:kms", key), state_key
