"""Container definitions: from an image, a pipeline or a package; multi-model prefixes; arguments that do not fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri
from airflow_sm_plugin.resources.containers import ContainerRequest, artefact_of, model_prefix

SECRET = "token-f3a9c1"
OBJECT = {"ModelDataSource": {"S3DataSource": {"S3Uri": "s3://b/m.tar.gz", "S3DataType": "S3Object"}}}
PREFIX = {"ModelDataSource": {"S3DataSource": {"S3Uri": "s3://b/m", "S3DataType": "S3Prefix"}}}
PACKAGE = "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/3"


def definitions(**arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the request's own
    return ContainerRequest(**arguments).checked().definitions()


def test_an_image_is_one_container_with_nothing_empty() -> None:
    assert definitions(image="i", model_data_url="s3://b/m.tar.gz", environment={"A": "1"}) == [
        {"Image": "i", "ModelDataUrl": "s3://b/m.tar.gz", "Environment": {"A": "1"}}
    ]
    assert definitions(image="i", environment={}) == [{"Image": "i"}]


def test_a_pipeline_is_copied_in_its_order() -> None:
    given_ones = [{"Image": "a"}, {"Image": "b", "Mode": "MultiModel", "ModelDataUrl": "s3://b/many"}]
    before = copy.deepcopy(given_ones)
    made = definitions(containers=given_ones)
    assert made == [{"Image": "a"}, {"Image": "b", "Mode": "MultiModel", "ModelDataUrl": "s3://b/many/"}]
    assert given_ones == before, "the caller's containers are never changed"


def test_a_package_is_a_container_with_the_environment_that_is_set_beside_it() -> None:
    request = ContainerRequest(from_package=True, environment={"A": "1"}).checked()
    assert request.definitions(PACKAGE) == [{"ModelPackageName": PACKAGE, "Environment": {"A": "1"}}]


def test_a_multi_model_container_has_a_prefix_and_its_cache_setting() -> None:
    request = {"image": "i", "model_data_url": "s3://b/models", "mode": "MultiModel"}
    assert definitions(**request) == [{"Image": "i", "ModelDataUrl": "s3://b/models/", "Mode": "MultiModel"}]
    (made,) = definitions(**request, model_cache="Disabled")
    assert made["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}


@given(st.sampled_from(["", "models", "a/b"]), st.integers(min_value=0, max_value=3))
def test_a_prefix_ends_in_exactly_one_slash(key: str, slashes: int) -> None:
    expected = f"s3://bucket/{key}/" if key else "s3://bucket/"
    assert model_prefix(f"s3://bucket/{key}{'/' * slashes}") == expected
    assert model_prefix(model_prefix(expected)) == expected


@pytest.mark.parametrize("location", ["s3://b/models/one.tar.gz", "s3://b/one.tgz/"])
def test_one_archive_is_no_prefix(location: str) -> None:
    with pytest.raises(InvalidRequest, match=r"names one archive.*leave the file name out"):
        model_prefix(location)


def test_a_prefix_elsewhere_than_in_s3_is_refused() -> None:
    with pytest.raises(InvalidS3Uri, match="model_data_url must look like s3://"):
        model_prefix("/models")


def test_a_preset_gives_way_to_the_user_and_the_package() -> None:
    (made,) = definitions(image="i", serving_preset="mms", environment={"MMS_MAX_REQUEST_SIZE": "1"})
    assert made["Environment"] == {
        "MMS_MAX_REQUEST_SIZE": "1",
        "MMS_MAX_RESPONSE_SIZE": "1000000000",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
    }
    packaged = ContainerRequest(from_package=True, serving_preset="mms").checked()
    (made,) = packaged.definitions(PACKAGE, {"MMS_MAX_REQUEST_SIZE": "7", "MMS_MAX_RESPONSE_SIZE": "7"})
    assert made["Environment"] == {"MMS_DEFAULT_RESPONSE_TIMEOUT": "900"}


def test_a_preset_goes_into_the_only_definition() -> None:
    (made,) = definitions(containers=[{"Image": "i", "Environment": {"A": "1"}}], serving_preset="torchserve")
    assert made["Environment"]["A"] == "1"
    assert made["Environment"]["TS_DEFAULT_RESPONSE_TIMEOUT"] == "1000"


TWO: list[dict[str, object]] = [{"Image": "a"}, {"Image": "b"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either image"),
        ({"image": "i", "containers": TWO}, "give either image"),
        ({"image": "i", "from_package": True}, "give either image"),
        ({"containers": TWO, "environment": {"TOKEN": SECRET}}, "environment go with image"),
        ({"containers": TWO, "model_data_url": "s3://b/k"}, "model_data_url and environment go with image"),
        ({"from_package": True, "model_data_url": "s3://b/k"}, "a model package brings its own"),
        ({"from_package": True, "mode": "MultiModel"}, "a model package brings its own"),
        ({"containers": TWO, "mode": "MultiModel"}, "mode='MultiModel' goes with one container, not 2"),
        ({"containers": TWO, "serving_preset": "mms"}, "serving_preset goes with one container, not 2"),
        ({"image": "i", "mode": "multi"}, "mode must be one of SingleModel, MultiModel, not 'multi'"),
        ({"image": "i", "model_cache": "Enabled"}, "model_cache goes with mode='MultiModel'"),
        ({"image": "i", "mode": "MultiModel", "model_cache": "off"}, "model_cache must be one of Enabled,"),
        ({"image": "i", "serving_preset": "x"}, "serving_preset must be one of"),
        ({"image": "i", "mode": "MultiModel"}, "a multi-model container needs model_data_url"),
        (
            {"containers": [{"Image": "i", "Mode": "MultiModel", **PREFIX}]},
            "a multi-model container takes no ModelDataSource",
        ),
        (
            {"containers": [{"Image": "i", "ModelDataUrl": "s3://b/k/", **PREFIX}], "mode": "MultiModel"},
            "a multi-model container takes no ModelDataSource",
        ),
        (
            {"containers": [{"Image": "i", "Mode": "MultiModel", "ModelDataUrl": "s3://b/k"}] * 2},
            "2 containers are multi-model, SageMaker takes one in a model",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_without_secrets(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        definitions(**arguments)
    assert message in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("container", "artefact"),
    [
        ({"ModelDataUrl": "s3://b/m.tar.gz"}, "s3://b/m.tar.gz"),
        ({"ModelDataUrl": "s3://b/many/", "Mode": "MultiModel"}, None),
        ({"ModelDataUrl": "s3://b/prefix/"}, None),
        ({"ModelDataUrl": "s3://b"}, None),
        ({"ModelDataUrl": "https://b.s3.amazonaws.com/m.tar.gz"}, None),
        (OBJECT, "s3://b/m.tar.gz"),
        (PREFIX, None),
        ({"ModelPackageName": PACKAGE}, None),
        ({"Image": "i"}, None),
    ],
)
def test_the_artefact_is_the_one_object_that_is_loaded(
    container: dict[str, object], artefact: str | None
) -> None:
    assert artefact_of(container) == artefact


def test_the_repr_shows_no_environment() -> None:
    request = ContainerRequest(image="i", environment={"TOKEN": SECRET})
    assert SECRET not in repr(request)
    assert SECRET not in repr(ContainerRequest(containers=[{"Environment": {"TOKEN": SECRET}}]))
