"""With native rendering an argument is the same as without: text stays as written, also where it resembles a number."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from jinja2.exceptions import UndefinedError

from airflow_sm_plugin._compat import BaseOperator
from airflow_sm_plugin.base import SageMakerInferenceOperator, reveal
from airflow_sm_plugin.core.template_values import boolean, mapping, number, parsed, sequence
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.operators.invoke import (
    SageMakerInvokeEndpointAsyncOperator,
    SageMakerInvokeEndpointOperator,
)
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.support import Account, context_for, run_task, unique

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2.11
    from airflow import DAG

pytestmark = pytest.mark.airflow

OPERATORS: list[type[Any]] = [
    SageMakerAsyncBatchOperator,
    SageMakerAsyncInferenceSensor,
    SageMakerCreateModelOperator,
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
    SageMakerExportAutopilotModelOperator,
    SageMakerInvokeEndpointAsyncOperator,
    SageMakerInvokeEndpointOperator,
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
    SageMakerScaleEndpointOperator,
]
AWS_FIELDS = set(SageMakerInferenceOperator.template_fields)
LISTS = {
    "containers",
    "exclude",
    "include",
    "inference_response_keys",
    "invocations",
    "model_names",
    "production_variants",
}
MAPPINGS = {"data_capture_config", "deployment_config", "environment", "shard", "tags", "vpc_config"}
SWITCHES = {
    "check_input",
    "check_inputs",
    "check_models",
    "cleanup_on_failure",
    "delete_config",
    "delete_models",
    "delete_old_models",
    "empty_ok",
    "enable_network_isolation",
    "force_new",
    "isolate_bad_records",
    "keep_response_attributes",
    "plan_only",
    "remove_scaling",
    "require_approved",
    "retain_variant_properties",
    "return_custom_attributes",
    "return_output",
    "skip_header",
    "wait_for_completion",
    "wait_for_job",
}
LITERALS = (
    "1.0",
    "007",
    "1e5",
    "2026_01_02",
    "1,2,3",
    "'a','b'",
    '"he said ""hi""",1',
    '{"inputs": [1, 2], "all": true}',
    "[1.50, 2]",
    "None",
    "True",
    "b'x'",
    "s3://bucket/key",
)
"""Texts that Python reads as something else, and two that it does not."""


def fields_of(kind: type[Any]) -> list[str]:
    return [name for name in kind.template_fields if name not in AWS_FIELDS]


def make(kind: type[Any], *, native: bool = True, **arguments: Any) -> Any:  # noqa: ANN401 - of any kind
    """Make an operator with what it needs, and with the arguments."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    needed = {
        each.name: "x"
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty and each.name != "kwargs"
    }
    with DAG(unique("dag"), schedule=None, render_template_as_native_obj=native):
        return kind(task_id="task", **needed | arguments)


def rendered(operator: BaseOperator, **params: object) -> Any:  # noqa: ANN401 - the operator
    context = context_for()
    context["params"] = params
    operator.render_template_fields(context)
    return operator


def value_of(operator: Any, name: str) -> object:  # noqa: ANN401 - of any kind
    return reveal(getattr(operator, name))


@pytest.mark.parametrize("kind", OPERATORS)
def test_every_field_is_known_as_text_or_as_something_that_is_read(kind: type[Any]) -> None:
    read = set(kind.template_fields) - set(kind.text_fields) - AWS_FIELDS
    assert set(kind.text_fields) <= set(kind.template_fields)
    for name in read - LISTS - MAPPINGS - SWITCHES - {"body"}:
        default = inspect.signature(kind.__init__).parameters[name]
        assert "float" in str(default.annotation) or "int" in str(default.annotation), name


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", OPERATORS)
def test_text_stays_as_it_is_written(kind: type[Any], *, native: bool) -> None:
    for written in LITERALS:
        for template in (written, "{{ params.value }}", "{{ params.value[:1] }}{{ params.value[1:] }}"):
            arguments: dict[str, Any] = dict.fromkeys(fields_of(kind), template)
            operator = make(kind, native=native, **arguments)
            rendered(operator, value=written)
            for name in fields_of(kind):
                assert value_of(operator, name) == written, name


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"inputs": [1, 2.5], "all": True}, '{"inputs": [1, 2.5], "all": true}'),
        ([1, "a", None], '[1, "a", null]'),
        ((1, 2.5, 3), "1,2.5,3"),
        (7, "7"),
        (5.1, "5.1"),
        (False, "False"),
    ],
)
@pytest.mark.parametrize("kind", OPERATORS)
def test_what_another_task_returned_becomes_text_where_text_is_meant(
    kind: type[Any], value: object, written: str
) -> None:
    arguments: dict[str, Any] = dict.fromkeys(fields_of(kind), "{{ params.value }}")
    operator = make(kind, **arguments)
    rendered(operator, value=value).read_texts()
    for name in fields_of(kind):
        assert value_of(operator, name) == (written if name in kind.text_fields else value), name


NOTHING = (None, "", "None", " None ")


def declared(kind: type[Any], name: str) -> Any:  # noqa: ANN401 - a default of any type
    return inspect.signature(kind.__init__).parameters[name].default


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", OPERATORS)
def test_an_argument_that_renders_to_nothing_is_not_given(kind: type[Any], *, native: bool) -> None:
    for name in fields_of(kind):
        if name in kind.none_fields or declared(kind, name) is inspect.Parameter.empty:
            continue
        for value in NOTHING:
            given: dict[str, Any] = {name: "{{ params.value }}"}
            operator = rendered(make(kind, native=native, **given), value=value)
            operator.read_texts()
            assert value_of(operator, name) == declared(kind, name), (name, value)


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_needed_argument_that_renders_to_nothing_is_named(kind: type[Any]) -> None:
    for name in fields_of(kind):
        if name in kind.none_fields or declared(kind, name) is not inspect.Parameter.empty:
            continue
        for value in NOTHING:
            given: dict[str, Any] = {name: "{{ params.value }}"}
            operator = rendered(make(kind, **given), value=value)
            with pytest.raises(InvalidRequest, match=f"^{name} must be given"):
                operator.read_texts()


def test_none_stays_where_it_means_something_else() -> None:
    """Batch Transform's word for no splitting and the like, an endpoint's every configuration, and the request."""
    kept = {name for kind in OPERATORS for name in kind.none_fields}
    assert kept == {
        "assemble_with",
        "body",
        "compression_type",
        "custom_attributes",
        "join_source",
        "keep_configs",
        "plan_location",
        "split_type",
    }
    for kind in OPERATORS:
        for name in kind.none_fields:
            given: dict[str, Any] = {name: "{{ params.value }}"}
            operator = rendered(make(kind, **given), value="None")
            operator.read_texts()
            assert value_of(operator, name) == "None"


def test_the_default_is_the_operators_own_below_a_class_that_declares_fewer_arguments() -> None:
    class Deploy(SageMakerDeployEndpointOperator):
        def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - handed on
            super().__init__(**kwargs)

    operator = rendered(make(Deploy, endpoint_name="x", max_wait_seconds="{{ none }}"))
    operator.read_texts()
    assert operator.max_wait_seconds == declared(SageMakerDeployEndpointOperator, "max_wait_seconds")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", OPERATORS)
def test_numbers_switches_lists_and_mappings_are_read_in_every_dag(kind: type[Any], *, native: bool) -> None:
    names = [name for name in fields_of(kind) if name not in {*kind.text_fields, "body"}]
    for name in names:
        wanted, read = expected(name)
        for template in ("{{ params.value }}", json.dumps(wanted)):
            arguments: dict[str, Any] = {name: template}
            operator = rendered(make(kind, native=native, **arguments), value=wanted)
            assert read(value_of(operator, name)) == wanted, name


def expected(name: str) -> tuple[object, Any]:
    if name == "invocations":
        return [{"output_location": "s3://b/k"}], parsed
    if name in LISTS:
        return ["a", 1], partial(sequence, name=name)
    if name in MAPPINGS:
        return {"a": {"b": True}}, partial(mapping, name=name)
    if name in SWITCHES:
        return False, partial(boolean, name=name)
    return 7, partial(number, name=name)


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_task_mapped_over_values_renders_them_alike(kind: type[Any]) -> None:
    """Airflow renders a mapped task's arguments with the mapped task's own rules."""
    name = kind.text_fields[0]
    parameters = inspect.signature(kind.__init__).parameters.values()
    needed = {
        each.name: "x"
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty and each.name != name
    }
    with DAG(unique("dag"), schedule=None, render_template_as_native_obj=True):
        mapped = kind.partial(task_id="task", **needed).expand(**{name: ["1.0"]})
    unmapped = mapped.unmap({name: "1.0"})
    assert value_of(rendered(unmapped), name) == "1.0"


@pytest.mark.parametrize("value", ["False", "false", False])
def test_tls_is_not_verified_against_a_bundle_called_false(value: object) -> None:
    operator = rendered(make(SageMakerDeleteEndpointOperator, verify="{{ params.value }}"), value=value)
    assert operator.aws.verify is False
    assert make(SageMakerDeleteEndpointOperator, verify="/a/bundle.pem").aws.verify == "/a/bundle.pem"


@pytest.mark.parametrize("native", [True, False])
def test_a_value_that_is_missing_is_an_error_as_without_native_rendering(*, native: bool) -> None:
    operator = make(SageMakerInvokeEndpointOperator, native=native, body="{{ params.no_such }}")
    with pytest.raises(UndefinedError, match="no_such"):
        rendered(operator)


@pytest.fixture(scope="module")
def endpoint(session_account: Account) -> str:
    return session_account.deploy()


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({"inputs": [1, 2], "all": True}, {"inputs": [1, 2], "all": True}),
        ([[1.5, 2], [3, None]], [[1.5, 2], [3, None]]),
    ],
)
def test_a_body_that_another_task_returned_is_sent_as_equal_json(
    account: Account, endpoint: str, value: object, sent: object
) -> None:
    assert json.loads(echoed(endpoint, "{{ params.value }}", value)) == sent


@pytest.mark.parametrize("body", [text for text in LITERALS if text != "s3://bucket/key"])
def test_a_body_is_sent_as_it_is_written(account: Account, endpoint: str, body: str) -> None:
    assert echoed(endpoint, body, None) == body


def echoed(endpoint: str, body: str, value: object) -> str:
    context = context_for()
    context["params"] = {"value": value}
    arguments: Mapping[str, Any] = {
        "endpoint_name": endpoint,
        "body": body,
        "return_output": True,
        "content_type": "application/json",
        "aws_conn_id": None,
    }
    result = run_task(partial(make, SageMakerInvokeEndpointOperator, **arguments), context)
    return str(result["output"])
