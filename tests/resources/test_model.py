"""CreateModel: limits, the request, the derived name, and the comparison with a model that is there."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.exceptions import InvalidName, InvalidRequest
from airflow_sm_plugin.resources.model import (
    CONTENT_TAG,
    MAX_CONTAINERS,
    MAX_ENVIRONMENT_BYTES,
    MAX_ENVIRONMENT_ENTRIES,
    MAX_ENVIRONMENT_TEXT,
    ModelSpec,
)
from airflow_sm_plugin.resources.tags import MAX_TAGS

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
SECRET = "token-f3a9c1"

environments = st.dictionaries(
    st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(max_size=12), max_size=4
)
containers = st.fixed_dictionaries(
    {"Image": st.sampled_from(["image-a", "image-b"])},
    optional={
        "ModelDataUrl": st.sampled_from(["s3://b/a.tar.gz", "s3://b/b.tar.gz"]),
        "Environment": environments,
        "Mode": st.sampled_from(["SingleModel", "MultiModel"]),
    },
)
pipelines = st.lists(containers, min_size=1, max_size=3)


def spec(
    definitions: Sequence[Mapping[str, object]] = ({"Image": "image-a"},), *, name: str | None = None
) -> ModelSpec:
    return ModelSpec(containers=definitions, execution_role_arn=ROLE, name=name)


def with_environment(environment: Mapping[str, object]) -> ModelSpec:
    return spec([{"Image": "image-a", "Environment": environment}])


def described(request: Mapping[str, object]) -> dict[str, object]:
    """Build DescribeModel's answer for a model made by this request, with SageMaker's own additions."""
    answer: dict[str, Any] = copy.deepcopy(dict(request))
    for container in answer["Containers"] if "Containers" in answer else [answer["PrimaryContainer"]]:
        container.setdefault("Mode", "SingleModel")
        container.setdefault("Environment", {})
        if container["Mode"] == "MultiModel":
            container.setdefault("MultiModelConfig", {"ModelCacheSetting": "Enabled"})
        if "ModelDataUrl" in container:
            container["ModelDataSource"] = {"S3DataSource": {"S3Uri": container["ModelDataUrl"]}}
    answer.pop("Tags", None)
    return {"EnableNetworkIsolation": False, "ModelArn": "arn", "CreationTime": 0} | answer


@pytest.mark.parametrize("count", [1, MAX_CONTAINERS - 1, MAX_CONTAINERS])
def test_up_to_fifteen_containers_are_allowed(count: int) -> None:
    wanted = spec([{"Image": "image-a"}] * count)
    assert wanted.checked() is wanted


@pytest.mark.parametrize("count", [0, MAX_CONTAINERS + 1])
def test_no_container_and_a_sixteenth_are_refused(count: int) -> None:
    with pytest.raises(InvalidRequest, match=f"1 to 15 containers, not {count}"):
        spec([{"Image": "image-a"}] * count).checked()


@pytest.mark.parametrize("count", [MAX_ENVIRONMENT_ENTRIES - 1, MAX_ENVIRONMENT_ENTRIES])
def test_up_to_a_hundred_environment_entries_are_allowed(count: int) -> None:
    with_environment({f"K{n}": "v" for n in range(count)}).checked()


def test_one_environment_entry_too_many_is_refused_with_the_number_of_the_container() -> None:
    definitions: list[dict[str, object]] = [{"Image": "i"}]
    definitions += [{"Image": "i", "Environment": {f"K{n}": "v" for n in range(101)}}]
    with pytest.raises(InvalidRequest, match="container 2 has 101 environment entries, SageMaker takes 100"):
        spec(definitions).checked()


@pytest.mark.parametrize("length", [MAX_ENVIRONMENT_TEXT - 1, MAX_ENVIRONMENT_TEXT])
def test_keys_and_values_up_to_the_limit_are_allowed(length: int) -> None:
    with_environment({"K" * length: "v" * length}).checked()


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"K" * 1025: "v"}, id="key"),
        pytest.param({"KEY": SECRET * 100}, id="value"),
        pytest.param({"KEY": "ü" * 513}, id="value-of-more-bytes-than-characters"),
    ],
)
def test_a_longer_key_or_value_is_refused_without_its_value(environment: Mapping[str, object]) -> None:
    with pytest.raises(
        InvalidRequest, match=r"container 1: environment 'K.*longer than the 1024 bytes"
    ) as refused:
        with_environment(environment).checked()
    assert SECRET not in str(refused.value)
    assert len(str(refused.value)) < 250


def filled(size: int) -> dict[str, str]:
    """Return an environment of so many bytes, every entry within its own limit."""
    environment = {f"K{n:03}": "v" * 1020 for n in range(size // 1024)}
    rest = size % 1024
    return environment if not rest else environment | {"R": "v" * (rest - 1)}


@pytest.mark.parametrize("size", [MAX_ENVIRONMENT_BYTES - 1, MAX_ENVIRONMENT_BYTES])
def test_environments_of_32_kb_in_all_are_allowed(size: int) -> None:
    with_environment(filled(size)).checked()
    half = size // 2
    spec(
        [
            {"Image": "i", "Environment": filled(half)},
            {"Image": "i", "Environment": filled(size - half)},
        ]
    ).checked()


@pytest.mark.parametrize(
    "parts", [[MAX_ENVIRONMENT_BYTES + 1], [MAX_ENVIRONMENT_BYTES // 2, MAX_ENVIRONMENT_BYTES // 2 + 1]]
)
def test_32_kb_hold_for_all_containers_together(parts: list[int]) -> None:
    """API reference, ContainerDefinition: the maps of several containers are limited together."""
    definitions = [{"Image": "i", "Environment": filled(part)} for part in parts]
    with pytest.raises(InvalidRequest, match="have 32769 bytes, SageMaker takes 32768 together"):
        spec(definitions).checked()


@pytest.mark.parametrize(("value", "kind"), [(5, "int"), (True, "bool"), (None, "NoneType")])
def test_an_environment_value_that_is_no_text_is_refused_with_the_remedy(value: object, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"environment 'WORKERS' is {kind}, not text: put it in quotes"):
        with_environment({"WORKERS": value}).checked()


def test_an_environment_key_that_is_no_text_is_refused() -> None:
    """YAML makes a number of an unquoted one."""
    with pytest.raises(InvalidRequest, match="environment 5 is int, not text"):
        spec([{"Image": "i", "Environment": {5: "v"}}]).checked()


@pytest.mark.parametrize("image", ["", None])
def test_a_container_without_an_image_is_refused_by_its_number(image: str | None) -> None:
    with pytest.raises(InvalidRequest, match="container 2 has neither Image nor ModelPackageName"):
        spec([{"Image": "i"}, {"Image": image, "ModelDataUrl": "s3://b/k"}]).checked()


def test_a_model_package_stands_for_an_image() -> None:
    package = {"ModelPackageName": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/1"}
    assert spec([package]).checked().parameters()["PrimaryContainer"] == package


def test_an_empty_role_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="execution_role is empty"):
        ModelSpec(containers=[{"Image": "i"}], execution_role_arn="").checked()


def test_a_given_name_is_checked_and_kept() -> None:
    assert spec(name="churn").resolved_name() == "churn"
    with pytest.raises(InvalidName, match="model name"):
        spec(name="churn_v2").checked()


def test_one_container_is_primary_and_several_are_a_pipeline_in_order() -> None:
    one, two = {"Image": "image-a"}, {"Image": "image-b"}
    assert spec([one]).parameters()["PrimaryContainer"] == one
    assert "Containers" not in spec([one]).parameters()
    assert spec([two, one]).parameters()["Containers"] == [two, one]
    assert "PrimaryContainer" not in spec([two, one]).parameters()


def test_the_request_holds_the_arguments_and_nothing_empty() -> None:
    container: dict[str, object] = {
        "Image": "i",
        "ModelDataUrl": None,
        "Environment": {},
        "Mode": "SingleModel",
    }
    full = ModelSpec(
        containers=[container],
        execution_role_arn=ROLE,
        name="churn",
        vpc_config={"Subnets": ["s"], "SecurityGroupIds": ["g"]},
        enable_network_isolation=True,
        tags={"team": "risk"},
    )
    assert full.parameters() == {
        "ModelName": "churn",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"Image": "i", "Mode": "SingleModel"},
        "VpcConfig": {"Subnets": ["s"], "SecurityGroupIds": ["g"]},
        "EnableNetworkIsolation": True,
        "Tags": [{"Key": "team", "Value": "risk"}, {"Key": CONTENT_TAG, "Value": full.content_tag()}],
    }
    assert set(spec(name="churn").parameters()) == {
        "ModelName",
        "ExecutionRoleArn",
        "PrimaryContainer",
        "Tags",
    }


@given(pipelines)
def test_a_model_never_differs_from_its_own_description(definitions: list[dict[str, object]]) -> None:
    """SageMaker adds Mode, an empty environment and ModelDataSource: a retry finds its model all the same."""
    wanted = spec(definitions)
    before = copy.deepcopy(definitions)
    assert wanted.differences(described(wanted.parameters())) == []
    assert definitions == before, "the caller's containers are never changed"


@given(pipelines, pipelines)
def test_models_differ_exactly_when_their_derived_names_do(
    one: list[dict[str, object]], other: list[dict[str, object]]
) -> None:
    """Name and comparison use the same content, so a derived name never meets a conflict of its own."""
    differences = spec(other).differences(described(spec(one).parameters()))
    assert (differences == []) == (spec(one).resolved_name() == spec(other).resolved_name())


@given(environments, environments)
def test_differences_name_environment_keys_and_never_a_value(
    old: dict[str, str], new: dict[str, str]
) -> None:
    here = {key: f"{SECRET}-{value}" for key, value in new.items()}
    there = {key: f"{SECRET}-{value}" for key, value in old.items()}
    names = with_environment(here).differences(described(with_environment(there).parameters()))
    assert SECRET not in json.dumps(names)
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    assert names == ([f"container 1 Environment ({', '.join(changed)})"] if changed else [])


def test_every_other_field_that_differs_is_named() -> None:
    there = described(spec([{"Image": "image-a", "ModelDataUrl": "s3://b/a"}]).parameters())
    wanted = ModelSpec(
        containers=[{"Image": "image-b", "ModelDataUrl": "s3://b/b"}],
        execution_role_arn="arn:aws:iam::123456789012:role/other",
        vpc_config={"Subnets": ["s"]},
        enable_network_isolation=True,
    )
    assert wanted.differences(there) == [
        "ExecutionRoleArn",
        "VpcConfig",
        "EnableNetworkIsolation",
        "container 1 Image",
        "container 1 ModelDataUrl",
    ]


def test_another_number_of_containers_is_named_as_a_number() -> None:
    there = described(spec([{"Image": "image-a"}, {"Image": "image-b"}]).parameters())
    assert spec().differences(there) == ["number of containers (2 there, 1 wanted)"]


@given(pipelines)
def test_a_derived_name_is_valid_and_the_same_at_every_try(definitions: list[dict[str, object]]) -> None:
    name = spec(definitions).resolved_name()
    assert check_name(name, "model name") == spec(copy.deepcopy(definitions)).resolved_name()


def test_a_derived_name_changes_with_the_artefact_and_the_order_but_not_with_tags() -> None:
    pair = [{"Image": "image-a"}, {"Image": "image-b"}]
    plain = spec(pair).resolved_name()
    assert spec(pair[::-1]).resolved_name() != plain
    tagged = ModelSpec(containers=pair, execution_role_arn=ROLE, tags={"a": "b"})
    assert tagged.resolved_name() == plain
    names = {
        ModelSpec(containers=pair, execution_role_arn=ROLE, artefact_etags=etags).resolved_name()
        for etags in ((), ("e1", None), ("e2", None), (None, "e1"))
    }
    assert len(names) == 4


def test_the_repr_shows_no_environment() -> None:
    assert SECRET not in repr(with_environment({"TOKEN": SECRET}))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {f"t{n}": "v" for n in range(MAX_TAGS)},
            "the model has 50 tags, SageMaker takes 50, and one of them is ours",
        ),
        ({"cost-centre": 7}, "tag 'cost-centre' is int, not text: put it in quotes"),
        ({"k" * 129: "v"}, "has 129 characters, SageMaker takes up to 128"),
        ({"": "v"}, "a tag has an empty key"),
        ({"k": "v" * 257}, "the value of tag 'k' has 257 characters"),
        ({"AWS:k": "v"}, "tag 'AWS:k' begins with 'aws:', which AWS reserves"),
    ],
)
def test_tags_over_a_limit_are_refused(tags: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ModelSpec(containers=[{"Image": "i"}], execution_role_arn=ROLE, tags=tags).checked()
    assert message in str(refused.value)


class TestContentTag:
    """A given name shows no content: the tag does, where DescribeModel does not."""

    @staticmethod
    def model(*etags: str | None, **more: Any) -> ModelSpec:  # noqa: ANN401 - fields of the spec
        usual: dict[str, Any] = {
            "containers": [{"Image": "i", "ModelDataUrl": "s3://b/m.tar.gz"}] * 2,
            "execution_role_arn": ROLE,
            "name": "churn",
        }
        return ModelSpec(**usual | more, artefact_etags=etags)

    def test_it_fits_into_a_tag(self) -> None:
        many = self.model(*["e" * 40] * MAX_CONTAINERS, containers=[{"Image": "i"}] * MAX_CONTAINERS)
        assert len(many.content_tag()) == 207
        assert re.fullmatch(r"[\w.:/=+@-]*", many.content_tag())

    def test_the_same_artefacts_do_not_differ(self) -> None:
        one = self.model("e1", "e2")
        assert one.tag_differences({CONTENT_TAG: one.content_tag()}) == []

    def test_an_artefact_that_was_overwritten_is_named_by_its_container(self) -> None:
        then = {CONTENT_TAG: self.model("e1", "e2").content_tag()}
        assert self.model("e1", "e3").tag_differences(then) == ["container 2 artefact (its ETag)"]

    @pytest.mark.parametrize("etags", [(), (None, None), ("e1", None)])
    def test_an_artefact_that_was_not_read_then_or_now_shows_no_difference(
        self, etags: tuple[str | None, ...]
    ) -> None:
        read, partly = self.model("e1", "e2"), self.model(*etags)
        assert read.tag_differences({CONTENT_TAG: partly.content_tag()}) == []
        assert partly.tag_differences({CONTENT_TAG: read.content_tag()}) == []

    def test_a_model_that_others_made_shows_no_difference(self) -> None:
        assert self.model("e1", "e2").tag_differences({"team": "risk"}) == []

    def test_beside_a_model_package_the_tag_shows_all_settings(self) -> None:
        """DescribeModel's part of such a container is not documented."""
        package = {"ModelPackageName": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/1"}
        wanted = self.model(containers=[package])
        other = self.model(containers=[package | {"Environment": {"TOKEN": SECRET}}])
        there = described(wanted.parameters())
        container = there["PrimaryContainer"]
        assert isinstance(container, dict)
        container |= {"Image": "the-package's", "Environment": {"ITS": "own"}}
        assert wanted.differences(there) == []
        assert wanted.tag_differences({CONTENT_TAG: wanted.content_tag()}) == []
        names = wanted.tag_differences({CONTENT_TAG: other.content_tag()})
        assert names == ["the settings beside the model package"]
        assert other.differences(there) == ["container 1 Environment (TOKEN)"]

    def test_without_one_the_description_has_the_last_word(self) -> None:
        """So that a later release of this package, whose digests may differ, finds the models of this one."""
        one = self.model("e1", "e2")
        _, etags = one.content_tag().split("/", 1)
        assert one.tag_differences({CONTENT_TAG: f"anotherdigest/{etags}"}) == []


class TestMadeFor:
    """A new model for each task instance, also where one of the same content exists."""

    @staticmethod
    def named(made_for: str | None, *, name: str | None = None, image: str = "i") -> str:
        spec = ModelSpec(
            containers=[{"Image": image}], execution_role_arn=ROLE, stem="stem", name=name, made_for=made_for
        )
        return spec.checked().resolved_name()

    def test_its_name_differs_from_that_of_the_content_and_of_other_tasks(self) -> None:
        names = {self.named(who) for who in (None, "one", "other")} | {self.named("one", image="j")}
        assert len(names) == 4
        assert all(name.startswith("stem-") for name in names)

    def test_it_stays_the_same_over_tries(self) -> None:
        assert self.named("one") == self.named("one")

    def test_a_given_name_begins_it(self) -> None:
        name = self.named("one", name="churn")
        assert name.startswith("churn-")
        assert name != self.named("one")
        long = "m" * 63
        assert check_name(self.named("one", name=long), "model name") != long

    def test_only_a_name_that_is_used_as_it_is_says_nothing_of_the_content(self) -> None:
        containers = [{"Image": "i"}]
        kinds = [
            ModelSpec(containers=containers, execution_role_arn=ROLE, name=name, made_for=who).has_given_name
            for name, who in (("churn", None), ("churn", "one"), (None, None), (None, "one"))
        ]
        assert kinds == [True, False, False, False]
