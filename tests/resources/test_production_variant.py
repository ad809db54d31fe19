"""Production variants: on instances or serverless, read from SageMaker's spelling, checked before the call."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidName, InvalidRequest
from airflow_sm_plugin.resources.endpoint_config import Variant

INSTANCES = {"ModelName": "churn-1", "InstanceType": "ml.m5.xlarge"}
SERVERLESS = {"ModelName": "churn-1", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}


def read(value: dict[str, Any], **changes: Any) -> Variant:  # noqa: ANN401 - fields of any type
    return Variant.from_mapping(value | changes)


def test_a_variant_on_instances_gets_sagemakers_usual_name_count_and_weight() -> None:
    assert read(INSTANCES).checked().parameters() == {
        "VariantName": "AllTraffic",
        "ModelName": "churn-1",
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }


def test_a_serverless_variant_has_no_instances() -> None:
    assert read(SERVERLESS).checked().parameters() == {
        "VariantName": "AllTraffic",
        "ModelName": "churn-1",
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
        "InitialVariantWeight": 1.0,
    }


def test_fields_that_we_do_not_know_are_passed_on() -> None:
    routing = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    parameters = read(INSTANCES, RoutingConfig=routing, VolumeSizeInGB=30).checked().parameters()
    assert (parameters["RoutingConfig"], parameters["VolumeSizeInGB"]) == (routing, 30)


def test_numbers_that_templates_rendered_to_text_become_numbers() -> None:
    texts = {"MemorySizeInMB": "2048", "MaxConcurrency": "5", "ProvisionedConcurrency": "2"}
    variant = read(INSTANCES, InitialInstanceCount="2", InitialVariantWeight="0.5").checked()
    assert (variant.initial_instance_count, variant.initial_variant_weight) == (2, 0.5)
    assert read(SERVERLESS, ServerlessConfig=texts).checked().parameters()["ServerlessConfig"] == {
        "MemorySizeInMB": 2048,
        "MaxConcurrency": 5,
        "ProvisionedConcurrency": 2,
    }


def test_the_callers_mapping_is_not_changed() -> None:
    given_by_caller = {**SERVERLESS, "ServerlessConfig": {"MemorySizeInMB": "1024", "MaxConcurrency": "1"}}
    before = copy.deepcopy(given_by_caller)
    Variant.from_mapping(given_by_caller).checked().parameters()["ServerlessConfig"]["MaxConcurrency"] = 9
    assert given_by_caller == before


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"InstanceType": "ml.m5.xlarge"}, r"needs a ModelName; this one has only \['InstanceType'\]"),
        ({"ModelName": ""}, "needs a ModelName"),
        ({**INSTANCES, "InitialInstanceCount": "two"}, "InitialInstanceCount must be a whole number"),
        ({**INSTANCES, "InitialInstanceCount": 1.5}, "InitialInstanceCount must be a whole number, not 1.5"),
        ({**INSTANCES, "InitialInstanceCount": None}, "InitialInstanceCount must be a whole number"),
        ({**INSTANCES, "InitialVariantWeight": "much"}, "InitialVariantWeight must be a number, not 'much'"),
        ({**SERVERLESS, "ServerlessConfig": {"MemorySizeInMB": "2 GB"}}, "MemorySizeInMB must be a whole"),
        ({**INSTANCES, "InitialInstanceCount": 0}, "initial_instance_count must be 1 or more, not 0"),
        ({**INSTANCES, "InitialVariantWeight": -1}, "AllTraffic is -1.0; it must be 0 or more"),
        ({**INSTANCES, "InitialVariantWeight": "nan"}, "InitialVariantWeight must be a number, not 'nan'"),
        ({**INSTANCES, "InitialVariantWeight": "inf"}, "InitialVariantWeight must be a number, not 'inf'"),
        ({**INSTANCES, "InstanceType": "m5.xlarge"}, "must look like ml.m5.xlarge, not 'm5.xlarge'"),
        ({**INSTANCES, "InstanceType": ""}, "must look like ml.m5.xlarge, not ''"),
        ({"ModelName": "m"}, "either an instance type or a ServerlessConfig, and not both"),
        ({**SERVERLESS, "InstanceType": "ml.m5.xlarge"}, "either an instance type or a ServerlessConfig"),
        ({**SERVERLESS, "ServerlessConfig": {}}, "MemorySizeInMB of variant AllTraffic is None"),
    ],
)
def test_variants_that_sagemaker_would_refuse_are_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Variant.from_mapping(value).checked()


@pytest.mark.parametrize("field", ["VariantName", "ModelName"])
def test_names_are_checked(field: str) -> None:
    with pytest.raises(InvalidName, match="holds '_'"):
        read(INSTANCES, **{field: "a_b"}).checked()


@given(
    memory=st.integers(-1, 8000) | st.sampled_from(range(1024, 7169, 1024)), concurrency=st.integers(-1, 300)
)
def test_serverless_memory_goes_in_steps_of_a_gigabyte_up_to_six(memory: int, concurrency: int) -> None:
    variant = read(SERVERLESS, ServerlessConfig={"MemorySizeInMB": memory, "MaxConcurrency": concurrency})
    allowed = memory in (1024, 2048, 3072, 4096, 5120, 6144) and 1 <= concurrency <= 200
    if allowed:
        assert variant.checked() is variant
    else:
        with pytest.raises(InvalidRequest, match="SageMaker takes"):
            variant.checked()


@given(concurrency=st.integers(1, 200), provisioned=st.integers(-1, 202))
def test_no_more_concurrency_is_provisioned_than_is_permitted(concurrency: int, provisioned: int) -> None:
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": concurrency, "ProvisionedConcurrency": provisioned}
    variant = read(SERVERLESS, ServerlessConfig=config)
    if 1 <= provisioned <= concurrency:
        assert variant.checked() is variant
    else:
        with pytest.raises(
            InvalidRequest, match=f"is {provisioned}; SageMaker takes 1 to its MaxConcurrency, "
        ):
            variant.checked()
