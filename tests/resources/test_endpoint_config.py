"""CreateEndpointConfig: limits, the request, and the name that a retry finds again."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import (
    CREATED_IN_TAG,
    DEPLOYED_IN_TAG,
    DEPLOYED_TAG,
    OWNER_TAG,
    check_name,
)
from airflow_sm_plugin.exceptions import InvalidName, InvalidRequest, InvalidS3Uri
from airflow_sm_plugin.resources.endpoint_config import AsyncSection, EndpointConfigSpec, Variant

VARIANT = Variant(model_name="churn-1", instance_type="ml.m5.xlarge")
ASYNC = AsyncSection(output_path="s3://bucket/out")
PLAIN = EndpointConfigSpec(endpoint_name="churn", variants=[VARIANT])


def test_a_plain_request_names_model_instances_and_weight() -> None:
    assert PLAIN.checked().config_parameters() == {
        "EndpointConfigName": PLAIN.config_name,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "churn-1",
                "InstanceType": "ml.m5.xlarge",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": 1.0,
            }
        ],
        "Tags": [{"Key": "airflow-sm-plugin:endpoint", "Value": "churn"}],
    }


def test_a_full_asynchronous_section_is_spelled_as_sagemaker_spells_it() -> None:
    section = AsyncSection(
        output_path="s3://bucket/out",
        failure_path="s3://bucket/failed",
        success_topic="arn:aws:sns:eu-west-1:123456789012:done",
        error_topic="arn:aws:sns:eu-west-1:123456789012:bad",
        max_concurrent_invocations_per_instance=4,
        kms_key_id="key-1",
    )
    assert section.checked().parameters() == {
        "OutputConfig": {
            "S3OutputPath": "s3://bucket/out",
            "S3FailurePath": "s3://bucket/failed",
            "KmsKeyId": "key-1",
            "NotificationConfig": {
                "SuccessTopic": "arn:aws:sns:eu-west-1:123456789012:done",
                "ErrorTopic": "arn:aws:sns:eu-west-1:123456789012:bad",
            },
        },
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
    }


def test_an_asynchronous_section_of_a_path_alone_sends_nothing_else() -> None:
    assert ASYNC.parameters() == {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}


@pytest.mark.parametrize(
    "section",
    [dataclasses.replace(ASYNC, success_topic="arn"), dataclasses.replace(ASYNC, error_topic="arn")],
)
def test_one_topic_alone_is_enough(section: AsyncSection) -> None:
    notified = section.parameters()["OutputConfig"]["NotificationConfig"]
    assert list(notified.values()) == ["arn"]


@pytest.mark.parametrize("path", [None, ""])
def test_an_asynchronous_endpoint_without_an_output_path_is_refused_with_the_remedy(path: str | None) -> None:
    section = AsyncSection(output_path=path, success_topic="arn")
    with pytest.raises(InvalidRequest, match=r"needs async_output_path.*leave every async_"):
        EndpointConfigSpec(endpoint_name="churn", variants=[VARIANT], async_section=section).checked()


@pytest.mark.parametrize(
    ("section", "argument"),
    [
        (AsyncSection(output_path="bucket/out"), "async_output_path"),
        (AsyncSection(output_path="s3://b/out", failure_path="/failed"), "async_failure_path"),
        (AsyncSection(output_path="s3://b/out", failure_path=""), "async_failure_path"),
    ],
)
def test_a_path_outside_of_s3_is_refused_by_the_argument_name(section: AsyncSection, argument: str) -> None:
    with pytest.raises(InvalidS3Uri, match=f"{argument} must look like"):
        section.checked()


@pytest.mark.parametrize("concurrency", [None, 1, 2, 999, 1000])
def test_a_concurrency_of_1_to_1000_is_allowed(concurrency: int | None) -> None:
    section = dataclasses.replace(ASYNC, max_concurrent_invocations_per_instance=concurrency)
    assert section.checked() is section


@pytest.mark.parametrize("concurrency", [-1, 0, 1001])
def test_another_concurrency_is_refused(concurrency: int) -> None:
    section = dataclasses.replace(ASYNC, max_concurrent_invocations_per_instance=concurrency)
    with pytest.raises(InvalidRequest, match=f"is {concurrency}, SageMaker takes 1 to 1000"):
        section.checked()


@pytest.mark.parametrize("count", [1, 9, 10])
def test_one_to_ten_variants_are_allowed(count: int) -> None:
    variants = [dataclasses.replace(VARIANT, variant_name=f"v{number}") for number in range(count)]
    dataclasses.replace(PLAIN, variants=variants).checked()


def test_variants_that_share_a_name_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="share a name: AllTraffic, AllTraffic; give each its own"):
        dataclasses.replace(PLAIN, variants=[VARIANT, VARIANT]).checked()


def test_a_serverless_variant_is_no_asynchronous_one() -> None:
    serverless = Variant(model_name="churn-1", serverless={"MemorySizeInMB": 1024, "MaxConcurrency": 1})
    dataclasses.replace(PLAIN, variants=[serverless]).checked()
    with pytest.raises(InvalidRequest, match="serverless variant cannot serve an asynchronous endpoint"):
        dataclasses.replace(PLAIN, variants=[serverless], async_section=ASYNC).checked()


@pytest.mark.parametrize("count", [0, 11])
def test_another_number_of_variants_is_refused(count: int) -> None:
    with pytest.raises(InvalidRequest, match=f"1 to 10 production variants, not {count}"):
        dataclasses.replace(PLAIN, variants=[VARIANT] * count).checked()


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            dataclasses.replace(VARIANT, instance_type="m5.xlarge"),
            "instance_type must look like ml.m5.xlarge, not 'm5.xlarge'",
        ),
        (
            dataclasses.replace(VARIANT, initial_instance_count=0),
            "initial_instance_count must be 1 or more, not 0",
        ),
        (dataclasses.replace(VARIANT, model_name="churn_1"), "the model name 'churn_1'"),
        (dataclasses.replace(VARIANT, variant_name="-a"), "the variant name '-a'"),
    ],
)
def test_a_bad_variant_is_refused_with_the_value(variant: Variant, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        dataclasses.replace(PLAIN, variants=[VARIANT, variant]).checked()


def test_a_bad_endpoint_name_is_refused() -> None:
    with pytest.raises(InvalidName, match="the endpoint name"):
        dataclasses.replace(PLAIN, endpoint_name="churn endpoint").checked()


def test_the_configuration_is_named_after_all_that_it_serves_and_nothing_else() -> None:
    """Every change of content is a new configuration; a change of tags is none."""
    specs = [
        PLAIN,
        dataclasses.replace(PLAIN, endpoint_name="other"),
        dataclasses.replace(PLAIN, async_section=ASYNC),
        dataclasses.replace(PLAIN, async_section=dataclasses.replace(ASYNC, kms_key_id="k")),
        dataclasses.replace(PLAIN, variants=[VARIANT, dataclasses.replace(VARIANT, variant_name="b")]),
        *(
            dataclasses.replace(PLAIN, variants=[changed])
            for changed in (
                dataclasses.replace(VARIANT, model_name="churn-2"),
                dataclasses.replace(VARIANT, instance_type="ml.m5.large"),
                dataclasses.replace(VARIANT, initial_instance_count=2),
                dataclasses.replace(VARIANT, initial_variant_weight=0.5),
                dataclasses.replace(VARIANT, variant_name="b"),
            )
        ),
    ]
    assert len({spec.config_name for spec in specs}) == len(specs)
    assert dataclasses.replace(PLAIN, tags={"a": "b"}).config_name == PLAIN.config_name


def test_two_endpoints_with_long_names_never_share_a_configuration() -> None:
    """Deleting one of them would delete the other's as well."""
    pair = [dataclasses.replace(PLAIN, endpoint_name="e" * 61 + end) for end in ("-a", "-b")]
    assert pair[0].checked().config_name != pair[1].checked().config_name


@given(st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,31}", fullmatch=True), st.integers(min_value=1, max_value=9))
def test_the_configuration_name_is_valid_and_used_in_both_requests(name: str, instances: int) -> None:
    variant = dataclasses.replace(VARIANT, initial_instance_count=instances)
    wanted = EndpointConfigSpec(endpoint_name=name, variants=[variant], tags={"team": "risk"}).checked()
    assert check_name(wanted.config_name, "configuration name").startswith(name[:10])
    tags = [{"Key": "team", "Value": "risk"}]
    config_tags = [*tags, {"Key": "airflow-sm-plugin:endpoint", "Value": name}]
    assert wanted.config_parameters()["EndpointConfigName"] == wanted.config_name
    assert wanted.config_parameters()["Tags"] == config_tags
    assert wanted.endpoint_parameters() == {
        "EndpointName": name,
        "EndpointConfigName": wanted.config_name,
        "Tags": tags,
    }


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {f"t{n}": "v" for n in range(49)},
            "the endpoint has 49 tags, SageMaker takes 50, and 4 of them are ours",
        ),
        ({"k" * 129: "v"}, "has 129 characters"),
        ({"k": "v" * 257}, "has 257 characters"),
        ({"": "v"}, "has an empty key"),
        ({"aws:k": "v"}, "begins with 'aws:'"),
        ({"k": 7}, "is int, not text"),
    ],
)
def test_tags_over_a_limit_are_refused(tags: dict[str, str], message: str) -> None:
    spec = dataclasses.replace(PLAIN, tags={**tags, OWNER_TAG: "me"}, endpoint_tags={DEPLOYED_TAG: "me/1"})
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        spec.checked()


def test_as_many_tags_as_sagemaker_takes_are_sent() -> None:
    tags = {OWNER_TAG: "me", CREATED_IN_TAG: "a/b/c@", **{f"t{n}": "v" for n in range(46)}}
    spec = dataclasses.replace(PLAIN, tags=tags, endpoint_tags={DEPLOYED_TAG: "me/1"}).checked()
    assert len(spec.config_parameters()["Tags"]) == 49
    assert len({tag["Key"] for tag in spec.endpoint_parameters()["Tags"]} | {DEPLOYED_IN_TAG}) == 50


def test_a_model_created_again_under_its_name_makes_another_configuration() -> None:
    at = [dataclasses.replace(PLAIN, models_created_at={"churn-1": moment}) for moment in (1.5, 2.5)]
    assert len({spec.config_name for spec in (PLAIN, *at)}) == 3
    assert at[0].config_name == dataclasses.replace(at[0]).config_name
