"""Updates that SageMaker would refuse are refused before the call; every legal description is read without an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import pytest

from airflow_sm_plugin.endpoints.changes import (
    changing_variants,
    check_change,
    is_about_scaling,
    scaled_error,
    variant_names,
)
from airflow_sm_plugin.exceptions import InvalidRequest, RequestRefused, SageMakerInferenceError
from airflow_sm_plugin.resources.endpoint_config import (
    EndpointConfigSpec,
    Variant,
    models_of,
    serverless_objection,
)
from airflow_sm_plugin.resources.endpoint_status import (
    configs_of,
    judge,
    locations_written_by,
    next_step,
    scaled_counts,
    uses_config,
)
from airflow_sm_plugin.resources.scaling import (
    ScaledVariant,
    Scaling,
    plan_scaling,
    unscalable_types,
)

INSTANCES = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
SERVERLESS = {
    "VariantName": "v",
    "ModelName": "m",
    "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
}
POOLS = {
    "VariantName": "v",
    "ModelName": "m",
    "InstancePools": [
        {"InstanceType": "ml.m5.large", "Priority": 1},
        {"InstanceType": "ml.c5.large", "Priority": 2},
    ],
}
COMPONENTS = {
    "VariantName": "v",
    "InstanceType": "ml.g5.xlarge",
    "ManagedInstanceScaling": {"Status": "ENABLED"},
}
BLUE_GREEN = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE"}}}
ROLLING = {"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1}}}

# Of their members the service model requires VariantName only.
STRANGE_ENDPOINTS: list[dict[str, Any]] = [
    {},
    {"ProductionVariants": None},
    {"ProductionVariants": []},
    {"ProductionVariants": [{"VariantName": "v"}]},
    {"ProductionVariants": [{"VariantName": "v", "CurrentWeight": 1.0}], "FailureReason": None},
    {"ProductionVariants": [{"VariantName": "v", "InstancePools": [{"InstanceType": "ml.m5.large"}]}]},
    {"ProductionVariants": [{"VariantName": "v", "ManagedInstanceScaling": {"MinInstanceCount": 0}}]},
    {"ProductionVariants": [{"VariantName": "v", "CurrentServerlessConfig": {"MemorySizeInMB": 1024}}]},
    {"ProductionVariants": [{"VariantName": "w", "CurrentInstanceCount": 0}], "AsyncInferenceConfig": {}},
    {"PendingDeploymentSummary": {}, "DataCaptureConfig": {}, "AsyncInferenceConfig": {"OutputConfig": None}},
]
STRANGE_CONFIGS: list[dict[str, Any] | None] = [
    None,
    {},
    {"ProductionVariants": []},
    *({"ProductionVariants": [variant]} for variant in (INSTANCES, SERVERLESS, POOLS, COMPONENTS)),
    {"ProductionVariants": [{"VariantName": "v"}]},
    {"ProductionVariants": [{"VariantName": "v", "InstancePools": [{}]}]},
    {"ProductionVariants": [{"VariantName": "w", "ModelName": None, "InstanceType": None}]},
]
Reader = Callable[[Mapping[str, Any], Mapping[str, Any] | None, EndpointConfigSpec], object]
READERS: dict[str, Reader] = {
    "judge": lambda endpoint, _, __: judge(endpoint, wanted_config="c"),
    "next_step": lambda endpoint, _, __: next_step(endpoint, wanted_config="c"),
    "configs_of": lambda endpoint, _, __: configs_of(endpoint),
    "uses_config": lambda endpoint, _, __: uses_config(endpoint, "c"),
    "locations_written_by": lambda endpoint, _, __: locations_written_by(endpoint),
    "variant_names": lambda endpoint, config, _: variant_names(endpoint, config),
    "changing_variants": lambda _, config, spec: changing_variants(config or {}, spec.variants),
    "check_change": lambda endpoint, config, spec: check_change(endpoint, config, spec, BLUE_GREEN),
    "models_of": lambda _, config, __: models_of(config),
    "unscalable_types": lambda _, config, __: [
        unscalable_types(variant) for variant in (config or {}).get("ProductionVariants", ())
    ],
    "scaled_counts": lambda endpoint, config, spec: scaled_counts(endpoint, config, spec.variants),
    "plan_scaling": lambda endpoint, config, _: plan_scaling(
        ScaledVariant("e", "v"),
        Scaling.read(min_capacity=1, max_capacity=2, target_invocations_per_instance=5),
        endpoint,
        config,
    ),
}


def spec_of(*variants: Mapping[str, Any], **more: Any) -> EndpointConfigSpec:  # noqa: ANN401 - of the class
    return EndpointConfigSpec(
        endpoint_name="e", variants=[Variant.from_mapping(variant) for variant in variants], **more
    ).checked()


def described(*variants: str) -> dict[str, Any]:
    summaries = [{"VariantName": name, "CurrentInstanceCount": 1} for name in variants]
    return {"EndpointStatus": "InService", "ProductionVariants": summaries}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("wanted", [INSTANCES, SERVERLESS, POOLS], ids=["instances", "serverless", "pools"])
def test_every_legal_description_is_read(reader: Reader, wanted: Mapping[str, Any]) -> None:
    spec = spec_of(wanted)
    for strange in STRANGE_ENDPOINTS:
        for config in STRANGE_CONFIGS:
            try:
                reader({"EndpointStatus": "InService", **strange}, config, spec)
            except SageMakerInferenceError as error:
                assert str(error)  # an answer in our words, never a KeyError  # noqa: PT017


@pytest.mark.parametrize(
    ("before", "after", "changing"),
    [
        ([INSTANCES], [INSTANCES], []),
        ([INSTANCES], [{**INSTANCES, "InitialInstanceCount": 3, "ModelName": "n"}], []),
        ([INSTANCES], [{**INSTANCES, "InstanceType": "ml.c5.large"}], ["v"]),
        ([INSTANCES], [{**INSTANCES, "VariantName": "w"}], ["v"]),
        ([INSTANCES, {**INSTANCES, "VariantName": "w"}], [INSTANCES], ["w"]),
        ([INSTANCES], [INSTANCES, {**INSTANCES, "VariantName": "w"}], []),
    ],
)
def test_a_variant_changes_when_its_instances_are_of_another_type_or_it_goes(
    before: list[dict[str, Any]], after: list[dict[str, Any]], changing: list[str]
) -> None:
    served, wanted = {"ProductionVariants": before}, spec_of(*after).variants
    assert changing_variants(served, wanted) == changing
    assert changing_variants(served, wanted, with_pools=True) == changing


@pytest.mark.parametrize(
    ("before", "after", "may_change"),
    [
        (INSTANCES, POOLS, True),
        (POOLS, INSTANCES, True),
        (POOLS, POOLS, False),
        (POOLS, {**POOLS, "InstancePools": POOLS["InstancePools"][::-1]}, False),
        (POOLS, {**POOLS, "InstancePools": POOLS["InstancePools"][:1]}, True),
        (POOLS, {**POOLS, "InstancePools": [{"InstanceType": "ml.m5.large", "Priority": 2}]}, True),
        ({**INSTANCES, **POOLS}, {**INSTANCES, **POOLS, "InstancePools": POOLS["InstancePools"][1:]}, True),
    ],
)
def test_whether_a_change_of_pools_is_one_of_the_instance_type_is_left_to_sagemaker(
    before: dict[str, Any], after: dict[str, Any], *, may_change: bool
) -> None:
    served, wanted = {"ProductionVariants": [before]}, spec_of(after).variants
    assert changing_variants(served, wanted) == []
    assert changing_variants(served, wanted, with_pools=True) == (["v"] if may_change else [])


SCALED = "a variant that changes is a scalable target"
UNDECIDED = (
    "the endpoint is in progress",
    "a first step of more than half",
    "an endpoint changes between instances and serverless",
)
"""Waited out before their meaning is decided; and texts that show it only with their placeholders filled in."""
OF_UPDATES = [
    row
    for row in json.loads(
        files("airflow_sm_plugin.local.faults").joinpath("recorded_answers.json").read_text()
    )
    if row["operation"] == "UpdateEndpoint"
]


@pytest.mark.parametrize("row", OF_UPDATES, ids=[row["situation"] for row in OF_UPDATES])
def test_no_refusal_of_an_update_for_something_else_is_taken_for_scaling(row: Mapping[str, Any]) -> None:
    meant = is_about_scaling(row["code"], row["body"]["message"])
    assert meant is {SCALED: True}.get(row["situation"], None if row["situation"] in UNDECIDED else False)


@pytest.mark.parametrize(
    ("code", "message", "meant"),
    [
        ("ValidationException", "Variant v is registered with Application Auto Scaling.", True),
        ("ValidationException", "Scalable target v has to be removed first", True),
        ("ValidationException", "v must be deregistered before its instance type is changed", True),
        ("ValidationException", "The instance type of v cannot be changed now", None),
        ("ValidationException", "The role arn:aws:iam::1:role/r may not be assumed", False),
        ("ValidationException", "CanarySize must be at most 50 percent of the capacity, not 60.", False),
        ("ValidationException", "DeploymentConfig is not supported here", False),
        ("ResourceLimitExceeded", "The account-level service limit is 0 Instances", False),
        ("SomethingElse", "The instance type of v cannot be changed now", False),
        ("", "", False),
    ],
)
def test_words_tell_whether_a_refusal_is_about_scaling(
    code: str, message: str, *, meant: bool | None
) -> None:
    assert is_about_scaling(code, message) is meant


def test_an_error_for_scaling_states_its_certainty_and_sagemakers_answer() -> None:
    refusal = RequestRefused("sagemaker:UpdateEndpoint e", reason="ValidationException: it scales")
    assert "probably variant v is registered" in str(scaled_error("e", ["v"], refusal, is_certain=False))
    certain = str(scaled_error("e", ["v"], refusal))
    assert "probably" not in certain
    assert "\nReason: ValidationException: it scales\nDo: give on_scaled='rescale'" in certain


@pytest.mark.parametrize(
    ("endpoint", "served", "wanted", "kinds"),
    [
        (described("v"), None, SERVERLESS, "is with instances, and an update cannot make it one serverless"),
        ({}, {"ProductionVariants": [SERVERLESS]}, INSTANCES, "is serverless, and .* one with instances"),
        (
            {"ProductionVariants": [{"VariantName": "v", "CurrentServerlessConfig": {"MaxConcurrency": 1}}]},
            None,
            INSTANCES,
            "is serverless",
        ),
    ],
)
def test_no_update_leads_from_instances_to_serverless_or_back(
    endpoint: dict[str, Any], served: dict[str, Any] | None, wanted: dict[str, Any], kinds: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"endpoint e {kinds}.*take another name"):
        check_change(endpoint, served, spec_of(wanted), None)


@pytest.mark.parametrize(
    ("before", "after", "config", "message"),
    [
        (["v"], ["w"], BLUE_GREEN, "endpoint e has v, the update w"),
        (["v"], ["v", "w"], BLUE_GREEN, "has v, the update v, w"),
        (["v", "w"], ["v", "w"], ROLLING, r"endpoint e is of 2 production variants \(v, w\)"),
    ],
)
def test_guardrails_that_do_not_fit_the_variants_are_refused(
    before: list[str], after: list[str], config: dict[str, Any], message: str
) -> None:
    spec = spec_of(*({**INSTANCES, "VariantName": name} for name in after))
    with pytest.raises(InvalidRequest, match=message):
        check_change(described(*before), None, spec, config)
    check_change(described(*before), None, spec, None)


def test_a_serverless_endpoint_is_not_rolled() -> None:
    with pytest.raises(InvalidRequest, match="endpoint e is serverless"):
        check_change({}, {"ProductionVariants": [SERVERLESS]}, spec_of(SERVERLESS), ROLLING)
    check_change({}, {"ProductionVariants": [SERVERLESS]}, spec_of(SERVERLESS), BLUE_GREEN)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"Containers": [{}, {}, {}]},
            "an inference pipeline of 3 containers, as every Autopilot model of mode HYPER",
        ),
        ({"PrimaryContainer": {"Mode": "MultiModel"}}, "Mode MultiModel"),
        ({"PrimaryContainer": {"ModelDataSource": {"S3DataSource": {}}}}, "give ModelDataUrl"),
        ({"PrimaryContainer": {}, "VpcConfig": {"Subnets": ["s"]}}, "VpcConfig"),
        ({"Containers": [{}], "EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
    ],
)
def test_models_that_a_serverless_endpoint_cannot_serve_are_refused(
    model: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"cannot serve model m: .*{message}.*Give instances"):
        spec_of(SERVERLESS).check_models({"m": model})
    spec_of(INSTANCES).check_models({"m": model})


@pytest.mark.parametrize(
    "model", [{}, {"PrimaryContainer": None}, {"Containers": []}, {"PrimaryContainer": {}}]
)
def test_other_models_may_be_serverless(model: dict[str, Any]) -> None:
    assert serverless_objection(model) is None


@pytest.mark.parametrize(
    ("more", "variants", "message"),
    [
        ({}, [SERVERLESS, {**SERVERLESS, "VariantName": "w"}], r"one production variant, not 2 \(v, w\)"),
        ({}, [SERVERLESS, {**INSTANCES, "VariantName": "w"}], "one production variant"),
        ({"data_capture": {"EnableCapture": True}}, [SERVERLESS], "captures no data"),
    ],
)
def test_configurations_that_serverless_excludes_are_refused(
    more: dict[str, Any], variants: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        spec_of(*variants, **more)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({**POOLS, "InstancePools": [{"InstanceType": "ml.m5.large", "Priority": 1}] * 6}, "list of 1 to 5"),
        ({**POOLS, "InstancePools": "ml.m5.large"}, "list of 1 to 5"),
        ({**POOLS, "InstancePools": [{"Priority": 1}]}, "needs an InstanceType"),
        ({**POOLS, "InstancePools": [{"InstanceType": "ml.m5.large"}]}, "a Priority from 1 to 5"),
        ({**SERVERLESS, "InstancePools": POOLS["InstancePools"]}, "and not both"),
        (
            {**INSTANCES, "ManagedInstanceScaling": {"Status": "ENABLED"}},
            "for endpoints of inference components only",
        ),
    ],
)
def test_instances_that_sagemaker_would_refuse_are_refused(variant: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Variant.from_mapping(variant).checked()


def test_pools_stand_for_an_instance_type_and_a_count() -> None:
    asked = Variant.from_mapping(POOLS).checked().parameters()
    assert asked == {**POOLS, "InitialVariantWeight": 1.0}


def test_models_of_pools_count_as_used() -> None:
    pools = [{"InstanceType": "ml.g5.xlarge", "ModelNameOverride": "gpu"}, {"InstanceType": "ml.m5.large"}]
    config = {"ProductionVariants": [{**POOLS, "InstancePools": pools}, COMPONENTS]}
    assert models_of(config) == ["m", "gpu"]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({**INSTANCES, "InstanceType": "ml.t2.medium"}, "runs on ml.t2.medium.*does not scale t2 instances"),
        ({**POOLS, "InstancePools": [{"InstanceType": "ml.t2.large"}]}, "ml.t2.large"),
        (COMPONENTS, "inference components: .*sagemaker:inference-component:DesiredCopyCount"),
    ],
)
def test_a_variant_that_does_not_scale_is_refused_before_the_call(
    variant: dict[str, Any], message: str
) -> None:
    scaling = Scaling.read(min_capacity=1, max_capacity=2, target_invocations_per_instance=5)
    with pytest.raises(InvalidRequest, match=message):
        plan_scaling(ScaledVariant("e", "v"), scaling, described("v"), {"ProductionVariants": [variant]})
