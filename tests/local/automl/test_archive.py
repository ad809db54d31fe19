"""The containers' inference code: what each transform mode and each choice of response keys makes of its input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from airflow_sm_plugin.local.automl.archive import algorithm, ensemble, features
from airflow_sm_plugin.local.automl.archive.recordio import decode, encode
from airflow_sm_plugin.local.automl.archive.responses import RejectedRequest
from airflow_sm_plugin.local.automl.archive.tabular import Processor, apply, fit, layout_of, parse, transform

ROWS = [["1", "red"], ["2", "blue"], ["", "red"], ["4", ""], ["5", "red"], ["6", "blue"]] * 4
CLASSES = [0, 1, 0, 1, 0, 1] * 4
ALL_KEYS = "predicted_label,probability,probabilities,labels"

Environment = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Return a function that sets a container's environment."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def _processor(labels: list[str] | None = None) -> Processor:
    layout = layout_of(["size", "colour"], ROWS, frozenset())
    return fit(layout, *parse(layout, ROWS), scaled=False, labels=labels)


def _algorithm(values: list[int], classes: int) -> algorithm.Algorithm:
    processor = _processor()
    matrix = apply(processor, *parse(processor["layout"], ROWS))
    estimator = LogisticRegression() if classes else LinearRegression()
    return {"estimator": estimator.fit(matrix, values), "classes": classes}


def _answer(
    container: object, model: object, body: bytes, content_type: str = "text/csv", accept: str | None = None
) -> bytes:
    """Run one container as its server does."""
    data = container.input_fn(body, content_type)  # type: ignore[attr-defined] # a module of handlers
    answered: tuple[bytes, str] = container.output_fn(container.predict_fn(data, model), accept)  # type: ignore[attr-defined] # as above
    return answered[0]


def test_features_become_recordio_with_missing_values_filled(environment: Environment) -> None:
    environment(
        AUTOML_TRANSFORM_MODE="feature-transform",
        SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="application/x-recordio-protobuf",
        AUTOML_SPARSE_ENCODE_RECORDIO_PROTOBUF="1",
    )
    body = _answer(features, _processor(), b"3,red\n,green\n7,\n")
    assert decode(body).tolist() == transform(_processor(), [["3", "red"], ["", "green"], ["7", ""]]).tolist()
    assert not np.isnan(decode(body)).any()


def test_features_come_as_csv_when_asked(environment: Environment) -> None:
    environment(AUTOML_TRANSFORM_MODE="feature-transform")
    assert _answer(features, _processor(), b"3,red\n", accept="text/csv") == b"3.0,0.0,0.0,1.0\n"


@pytest.mark.parametrize(("accept", "status"), [("application/json", 406), ("image/png", 406)])
def test_features_have_no_other_form(environment: Environment, accept: str, status: int) -> None:
    environment(AUTOML_TRANSFORM_MODE="feature-transform")
    with pytest.raises(RejectedRequest) as refused:
        _answer(features, _processor(), b"3,red\n", accept=accept)
    assert refused.value.status_code == status


def test_a_row_of_the_wrong_length_is_a_bad_request(environment: Environment) -> None:
    environment(AUTOML_TRANSFORM_MODE="feature-transform")
    with pytest.raises(RejectedRequest, match="Row 2 has 3 columns; the model was trained on 2") as refused:
        _answer(features, _processor(), b"3,red\n3,red,1\n")
    assert refused.value.status_code == 400


@pytest.mark.parametrize("container", [features, algorithm, ensemble])
def test_other_content_types_are_415(container: object) -> None:
    with pytest.raises(RejectedRequest) as refused:
        container.input_fn(b"{}", "application/json")  # type: ignore[attr-defined] # a module of handlers
    assert refused.value.status_code == 415


def test_the_algorithm_reads_what_the_features_write(environment: Environment) -> None:
    environment(SAGEMAKER_INFERENCE_OUTPUT=" Predicted_Label , probability,probabilities")
    model = _algorithm(CLASSES, 2)
    matrix = transform(_processor(), ROWS[:2])
    by_csv = "\n".join(",".join(map(str, row)) for row in matrix.tolist()).encode()
    body = _answer(algorithm, model, encode(matrix, sparse=True), "application/x-recordio-protobuf")
    assert body == _answer(algorithm, model, by_csv)
    label, probability, probabilities = body.decode().splitlines()[1].split(",", 2)
    assert label in {"0", "1"}
    assert json.loads(json.loads(probabilities))[1] == float(probability)


def test_probability_is_that_of_the_true_class_of_two_and_of_the_label_of_three(
    environment: Environment,
) -> None:
    environment(SAGEMAKER_INFERENCE_OUTPUT="predicted_label,probability,probabilities")
    matrix = transform(_processor(), ROWS)
    of_two = algorithm.predict_fn(matrix, _algorithm(CLASSES, 2))
    of_three = algorithm.predict_fn(matrix, _algorithm([0, 1, 2] * 8, 3))
    assert {row[0] for row in of_two} == {0, 1}
    assert all(row[1] == row[2][1] for row in of_two)  # type: ignore[index] # a list
    assert all(row[1] == max(row[2]) for row in of_three)  # type: ignore[call-overload] # a list


def test_without_keys_the_algorithm_answers_its_bare_prediction_in_csv_only() -> None:
    matrix = transform(_processor(), ROWS[:1])
    regression = _algorithm(list(range(24)), 0)
    (value,) = algorithm.predict_fn(matrix, regression)[0]
    assert value == regression["estimator"].predict(matrix)[0]
    probability = algorithm.predict_fn(matrix, _algorithm(CLASSES, 2))
    assert isinstance(probability[0][0], float)
    with pytest.raises(RejectedRequest) as refused:
        algorithm.output_fn(probability, "application/json")
    assert refused.value.status_code == 406


def test_the_algorithm_refuses_other_features() -> None:
    with pytest.raises(RejectedRequest, match="3 features") as refused:
        _answer(algorithm, _algorithm(CLASSES, 2), b"1,2,3\n")
    assert refused.value.status_code == 400
    with pytest.raises(RejectedRequest) as unreadable:
        _answer(algorithm, _algorithm(CLASSES, 2), b"red\n")
    assert unreadable.value.status_code == 415


def test_labels_come_back_as_in_the_documentation(environment: Environment) -> None:
    environment(
        AUTOML_TRANSFORM_MODE="inverse-label-transform",
        SAGEMAKER_INFERENCE_INPUT="predicted_label,probability,probabilities",
        SAGEMAKER_INFERENCE_OUTPUT=ALL_KEYS,
    )
    body = _answer(features, _processor(["1", "0"]), b'0,0.1,"[0.9, 0.1]"\n')
    assert body == b"1,0.1,\"[0.9, 0.1]\",\"['1', '0']\"\n"


def test_selected_labels_come_as_json_and_json_lines(environment: Environment) -> None:
    environment(
        AUTOML_TRANSFORM_MODE="inverse-label-transform",
        SAGEMAKER_INFERENCE_INPUT="probability,predicted_label",
        SAGEMAKER_INFERENCE_OUTPUT="predicted_label,probability",
    )
    model = _processor(["no", "yes"])
    row = {"predicted_label": "yes", "probability": 0.75}
    whole = _answer(features, model, b"0.75,1.0\n", accept="application/json")
    lines = _answer(features, model, b"0.75,1\n0.75,1\n", accept="application/jsonlines; charset=utf-8")
    assert json.loads(whole) == {"predictions": [row]}
    assert [json.loads(line) for line in lines.splitlines()] == [row, row]


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        (
            "predicted_label",
            "predicted_label,probability",
            b"yes,nan\n",
        ),  # the algorithm was not asked for it
        ("probabilities", "predicted_label,labels", b"nan,\"['no', 'yes']\"\n"),
        ("predicted_label", "Predicted_Label , nonsense", b"yes,nan\n"),
    ],
)
def test_wrong_wiring_shows_as_nan(
    environment: Environment, inputs: str, outputs: str, expected: bytes
) -> None:
    environment(
        AUTOML_TRANSFORM_MODE="inverse-label-transform",
        SAGEMAKER_INFERENCE_INPUT=inputs,
        SAGEMAKER_INFERENCE_OUTPUT=outputs,
    )
    assert _answer(features, _processor(["no", "yes"]), b"1\n") == expected


def test_swapped_positions_give_wrong_labels_not_an_error(environment: Environment) -> None:
    environment(
        AUTOML_TRANSFORM_MODE="inverse-label-transform",
        SAGEMAKER_INFERENCE_INPUT="probability,predicted_label",
        SAGEMAKER_INFERENCE_OUTPUT="predicted_label,probability",
    )
    assert _answer(features, _processor(["no", "yes"]), b"1,0.98\n") == b"no,1.0\n"


def test_an_ensemble_votes_and_answers_every_key(environment: Environment) -> None:
    processor = _processor()
    members: list[ensemble.Member] = [
        {"processor": processor, "estimator": _algorithm(values, 2)["estimator"], "weight": weight}
        for values, weight in ((CLASSES, 0.75), ([1 - value for value in CLASSES], 0.25))
    ]
    model: ensemble.Ensemble = {"members": members, "labels": ["no", "yes"]}
    environment(SAGEMAKER_INFERENCE_OUTPUT=f"{ALL_KEYS},nonsense")
    rows = ensemble.predict_fn(ROWS, model)
    assert [row[0] for row in rows] == [["no", "yes"][value] for value in CLASSES]
    for _, probability, probabilities, labels, nonsense in rows:
        assert probability == max(probabilities)  # type: ignore[call-overload] # a list
        assert sum(probabilities) == pytest.approx(1.0)  # type: ignore[call-overload] # a list
        assert labels == ["no", "yes"]
        assert math.isnan(nonsense)  # type: ignore[arg-type] # a float
    with pytest.raises(RejectedRequest) as refused:
        ensemble.predict_fn([["1"]], model)
    assert refused.value.status_code == 400
