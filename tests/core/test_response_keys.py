"""Which response keys may be asked for, and how they pass through a pipeline. Shapes: real candidates' containers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.response_keys import INPUT, OUTPUT, SUPPORTED, select_response_keys
from airflow_sm_plugin.exceptions import InvalidRequest, ResponseKeysNotSupported

FEATURES: Mapping[str, object] = {
    "Image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-sklearn-automl:2.5-1-cpu-py3",
    "ModelDataUrl": "s3://bucket/job/data-processor-models/dpp0/output/model.tar.gz",
    "Environment": {
        "AUTOML_SPARSE_ENCODE_RECORDIO_PROTOBUF": "1",
        "AUTOML_TRANSFORM_MODE": "feature-transform",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-recordio-protobuf",
        "SAGEMAKER_PROGRAM": "sagemaker_serve",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    },
}
ALGORITHM: Mapping[str, object] = {
    "Image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1-cpu-py3",
    "ModelDataUrl": "s3://bucket/job/tuning/xgb0/output/model.tar.gz",
    "Environment": {
        "MAX_CONTENT_LENGTH": "20971520",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
        OUTPUT: "predicted_label",
        SUPPORTED: "predicted_label,probability,probabilities",
    },
}
LABELS: Mapping[str, object] = {
    "Image": FEATURES["Image"],
    "ModelDataUrl": FEATURES["ModelDataUrl"],
    "Environment": {
        "AUTOML_TRANSFORM_MODE": "inverse-label-transform",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
        "SAGEMAKER_PROGRAM": "sagemaker_serve",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        INPUT: "predicted_label",
        OUTPUT: "predicted_label",
        SUPPORTED: "predicted_label,probability,labels,probabilities",
    },
}
REGRESSION_ALGORITHM: Mapping[str, object] = {
    "Image": ALGORITHM["Image"],
    "ModelDataUrl": ALGORITHM["ModelDataUrl"],
    "Environment": {
        "MAX_CONTENT_LENGTH": "20971520",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
    },
}
ENSEMBLE: Mapping[str, object] = {
    "Image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/autogluon-inference:0.8-cpu-py3",
    "ModelDataUrl": "s3://bucket/job/sagemaker-automl-candidates/model/WeightedEnsemble/model.tar.gz",
    "Environment": {
        "MODEL_NAME": "WeightedEnsemble_L2_FULL",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "SAGEMAKER_PROGRAM": "tabular_serve.py",
        SUPPORTED: "predicted_label,probability,labels,probabilities",
        OUTPUT: "predicted_label",
    },
}
CLASSIFICATION = (FEATURES, ALGORITHM, LABELS)
REGRESSION = (FEATURES, REGRESSION_ALGORITHM)

KEYS = ("predicted_label", "probability", "probabilities", "labels")
key_lists = st.lists(st.sampled_from(KEYS), unique=True)
supported_texts = st.none() | st.lists(st.sampled_from(KEYS), unique=True).map(", ".join)


@st.composite
def pipelines(draw: st.DrawFn) -> list[dict[str, object]]:
    """One to four containers, each with or without keys of its own, as no real job need have made them."""
    containers: list[dict[str, object]] = []
    for number in range(draw(st.integers(min_value=1, max_value=4))):
        supported = draw(supported_texts)
        environment = draw(
            st.dictionaries(st.sampled_from(["A", INPUT, OUTPUT]), st.sampled_from(["1", "labels"]))
        )
        environment |= {} if supported is None else {SUPPORTED: supported}
        containers.append({"Image": f"image-{number}", "Environment": environment})
    return containers


def environment_of(container: Mapping[str, object]) -> dict[str, str]:
    environment = container.get("Environment")
    assert isinstance(environment, dict)
    return environment


def as_the_sdk_does(containers: Sequence[Mapping[str, object]], keys: Sequence[str]) -> list[object]:
    """Do what the facts tell of SDK 2.x, in its own order of steps: the independent second opinion."""
    done = copy.deepcopy(list(containers))
    handed_on = ""
    for container in done:
        environment = environment_of(container)
        if SUPPORTED not in environment:
            handed_on = ""
            continue
        can = [key.strip() for key in environment[SUPPORTED].split(",")]
        gives = ""
        for key in keys:
            if key in can:
                gives = f"{gives},{key}" if gives else key
        if handed_on:
            environment.update({INPUT: handed_on})
        if gives:
            environment.update({OUTPUT: gives})
        handed_on = gives
    return list(done)


def test_all_four_keys_are_wired_through_the_pipeline_in_the_order_asked_for() -> None:
    """The vector of the SDK: xgboost never knows ``labels``, so the last container adds them."""
    selected = select_response_keys(
        CLASSIFICATION, ["predicted_label", "labels", "probabilities", "probability"]
    )
    handed_on = "predicted_label,probabilities,probability"
    assert selected[0] == FEATURES
    assert environment_of(selected[1]) == {**environment_of(ALGORITHM), OUTPUT: handed_on}
    assert environment_of(selected[2]) == {
        **environment_of(LABELS),
        INPUT: handed_on,
        OUTPUT: "predicted_label,labels,probabilities,probability",
    }


def test_labels_alone_leave_what_is_handed_on_at_its_default() -> None:
    """The algorithm container cannot give labels: neither its output nor the next input is repaired."""
    selected = select_response_keys(CLASSIFICATION, ["labels"])
    assert selected[:2] == [FEATURES, ALGORITHM]
    assert environment_of(selected[2]) == {**environment_of(LABELS), OUTPUT: "labels"}


def test_a_single_container_only_gets_an_output() -> None:
    (selected,) = select_response_keys([ENSEMBLE], ["probability", "predicted_label"])
    assert environment_of(selected) == {**environment_of(ENSEMBLE), OUTPUT: "probability,predicted_label"}


@pytest.mark.parametrize("containers", [CLASSIFICATION, REGRESSION, [ENSEMBLE], []])
def test_without_keys_every_shape_comes_back_as_it_is(containers: Sequence[Mapping[str, object]]) -> None:
    assert select_response_keys(containers, []) == list(containers)


@pytest.mark.parametrize(
    "containers",
    [
        pytest.param(REGRESSION, id="regression-in-HPO-mode"),
        pytest.param([ALGORITHM, {"Image": "last"}], id="last-without-environment"),
        pytest.param([ALGORITHM, {"Image": "last", "Environment": None}], id="last-with-empty-environment"),
        pytest.param([ENSEMBLE, FEATURES], id="only-an-earlier-container-lists-keys"),
        pytest.param([], id="no-container"),
    ],
)
def test_a_last_container_that_lists_no_keys_cannot_select(
    containers: Sequence[Mapping[str, object]],
) -> None:
    with pytest.raises(ResponseKeysNotSupported, match="leave inference_response_keys empty") as refused:
        select_response_keys(containers, ["predicted_label"])
    assert SUPPORTED in str(refused.value)


@pytest.mark.parametrize("bad", ["Probability", "probability ", "score", ""])
def test_a_key_must_match_exactly_and_the_error_shows_bad_and_supported_ones(bad: str) -> None:
    with pytest.raises(ResponseKeysNotSupported) as refused:
        select_response_keys(CLASSIFICATION, ["predicted_label", bad])
    message = str(refused.value)
    assert repr(bad) in message
    assert "'predicted_label'" not in message, "a good key is not blamed"
    assert "predicted_label, probability, labels, probabilities" in message


def test_only_the_last_container_decides_what_may_be_asked_for() -> None:
    """An earlier container may know more: what the last one cannot answer is refused all the same."""
    with pytest.raises(ResponseKeysNotSupported, match="'labels'"):
        select_response_keys([LABELS, ALGORITHM], ["labels"])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ResponseKeysNotSupported, match="more than once"):
        select_response_keys([ENSEMBLE], ["labels", "labels"])


def test_one_text_instead_of_a_list_is_refused_as_such() -> None:
    """A text is a sequence of letters, and an error about letters is no help."""
    with pytest.raises(InvalidRequest, match="must be a list"):
        select_response_keys([ENSEMBLE], "labels")


def test_a_container_without_keys_breaks_the_chain() -> None:
    """Its predecessor's output is not named as its successor's input."""
    selected = select_response_keys([ALGORITHM, FEATURES, LABELS], ["probability"])
    assert environment_of(selected[0])[OUTPUT] == "probability"
    assert environment_of(selected[2])[INPUT] == environment_of(LABELS)[INPUT]


def test_spaces_around_supported_keys_do_not_count() -> None:
    spaced = {"Image": "i", "Environment": {SUPPORTED: " predicted_label , labels"}}
    (selected,) = select_response_keys([spaced], ["labels", "predicted_label"])
    assert environment_of(selected)[OUTPUT] == "labels,predicted_label"


@given(pipelines(), key_lists)
def test_any_pipeline_is_answered_as_the_sdk_answers_it_or_refused(
    containers: list[dict[str, object]], keys: list[str]
) -> None:
    before = copy.deepcopy(containers)
    last = environment_of(containers[-1]).get(SUPPORTED)
    possible = not keys or (last is not None and set(keys) <= set(last.split(", ")))
    if possible:
        expected = as_the_sdk_does(containers, keys) if keys else before
        assert select_response_keys(containers, keys) == expected
    else:
        with pytest.raises(ResponseKeysNotSupported):
            select_response_keys(containers, keys)
    assert containers == before, "the caller's candidate is never changed"


@given(pipelines(), key_lists)
def test_nothing_but_input_and_output_ever_changes(
    containers: list[dict[str, object]], keys: list[str]
) -> None:
    try:
        selected = select_response_keys(containers, keys)
    except ResponseKeysNotSupported:
        return
    for old, new in zip(containers, selected, strict=True):
        for name in {*environment_of(old), *environment_of(new)} - {INPUT, OUTPUT}:
            assert environment_of(old).get(name) == environment_of(new).get(name)
        assert {**old, "Environment": None} == {**new, "Environment": None}


@given(st.permutations(KEYS), st.integers(min_value=1, max_value=4))
def test_the_output_is_the_keys_in_the_order_asked_for(keys: list[str], count: int) -> None:
    asked = keys[:count]
    selected = select_response_keys(CLASSIFICATION, asked)
    assert environment_of(selected[-1])[OUTPUT] == ",".join(asked)
    known_before = [key for key in asked if key != "labels"]
    if known_before:
        assert (
            environment_of(selected[1])[OUTPUT]
            == environment_of(selected[2])[INPUT]
            == ",".join(known_before)
        )


def test_a_result_may_be_changed_without_changing_the_candidate() -> None:
    """The containers are copies down to their environments, also when no key was asked for."""
    candidate = copy.deepcopy(list(CLASSIFICATION))
    for selected in (select_response_keys(candidate, []), select_response_keys(candidate, ["labels"])):
        for container in selected:
            container["Environment"]["ADDED"] = "1"
    assert candidate == list(CLASSIFICATION)
