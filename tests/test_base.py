"""Our bases of operators and sensors: errors that know about retries, hooks, and masked fields."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from typing import Any, cast

import pytest

from airflow_sm_plugin._compat import AirflowFailException, AirflowSkipException, BaseOperator, Context
from airflow_sm_plugin.base import Sensitive, broken_wait, failing_well, reveal
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    EndpointNotInService,
    InvalidName,
    SageMakerInferenceError,
    ServiceUnavailable,
)
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
from tests.support import context_for

pytestmark = pytest.mark.airflow

OPERATORS = [
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
SECRET = "planted-secret-77aa"
BOTOCORE = {"connect_timeout": 3}


def _invoke(**arguments: Any) -> SageMakerInvokeEndpointAsyncOperator:  # noqa: ANN401 - the operator's own
    return SageMakerInvokeEndpointAsyncOperator(task_id="invoke", endpoint_name="endpoint", **arguments)


def _rendered(operator: BaseOperator) -> Any:  # noqa: ANN401 - the operator it was given
    operator.render_template_fields(cast("Context", {**context_for(), "secret": SECRET}))
    return operator


class TestErrors:
    """Errors of ours as Airflow gets them."""

    def test_what_no_retry_mends_becomes_airflows_fail_exception_with_the_name_of_the_cause(self) -> None:
        with pytest.raises(AirflowFailException, match=r"^InvalidName: too long$") as raised, failing_well():
            raise InvalidName("too long")
        assert isinstance(raised.value.__context__, InvalidName)
        assert raised.value.__suppress_context__  # its text would be logged twice, with both stacks

    def test_airflows_exception_carries_the_whole_text(self) -> None:
        with pytest.raises(AirflowFailException) as raised, failing_well():
            raise AccessDenied("it failed", reason="denied", left_behind="an endpoint", do="allow it")
        assert str(raised.value) == (
            "AccessDenied: it failed\nReason: denied\nLeft behind: an endpoint\nDo: allow it"
        )

    def test_the_reason_of_a_skip_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        with pytest.raises(AirflowSkipException), failing_well():
            raise AirflowSkipException("nothing to report on")
        assert "skipped: nothing to report on" in caplog.text

    def test_a_triggers_error_comes_back_with_all_its_parts(self) -> None:
        event = {
            "status": "error",
            "error": "AccessDenied",
            "message": "a poll\nReason: denied\nDo: allow it",
        }
        error = broken_wait("waiting for endpoint churn", event)
        assert isinstance(error, AccessDenied)
        assert str(error) == "waiting for endpoint churn: a poll\nReason: denied\nDo: allow it"

    @pytest.mark.parametrize("error", [ServiceUnavailable("later"), ValueError("not ours")])
    def test_every_other_error_passes_as_it_is(self, error: Exception) -> None:
        with pytest.raises(type(error)) as raised, failing_well():
            raise error
        assert raised.value is error

    @pytest.mark.parametrize("kind", [AccessDenied, EndpointNotInService, InvalidName])
    def test_a_triggers_error_keeps_its_class(self, kind: type[SageMakerInferenceError]) -> None:
        error = broken_wait("waiting for x", {"error": kind.__name__, "message": "why"})
        assert type(error) is kind
        assert str(error) == "waiting for x: why"

    @pytest.mark.parametrize(
        "event", [{}, {"error": "TypeError"}, {"error": "annotations"}, {"error": "ClassVar"}]
    )
    def test_what_is_not_one_of_ours_is_worth_a_retry(self, event: dict[str, str]) -> None:
        assert type(broken_wait("x", event | {"message": "why"})) is ServiceUnavailable


class TestAwsArguments:
    """The four arguments every AWS operator takes."""

    def test_they_reach_every_hook(self) -> None:
        operator = _invoke(
            aws_conn_id=None, region_name="eu-west-1", verify="/ca.pem", botocore_config=BOTOCORE
        )
        for hook in (operator.control_plane(), operator.runtime(), operator.result_store()):
            assert hook.aws_conn_id is None
            assert hook.conn_region_name == "eu-west-1"
            assert hook.verify == "/ca.pem"
            assert hook.conn_config is not None

    def test_they_are_templates(self) -> None:
        operator = _invoke(aws_conn_id=None, region_name="{{ run_id[:6] }}")
        assert _rendered(operator).aws.region_name == "manual"

    def test_they_are_those_of_the_providers_operators(self) -> None:
        operator = _invoke()
        assert (operator.aws_conn_id, operator.region_name, operator.verify, operator.botocore_config) == (
            "aws_default",
            None,
            None,
            None,
        )

    @pytest.mark.parametrize("kind", OPERATORS)
    def test_a_bases_templates_are_not_lost_in_a_subclass(self, kind: type[BaseOperator]) -> None:
        assert tuple(kind.template_fields)[-3:] == ("aws_conn_id", "region_name", "verify")
        assert "botocore_config" not in kind.template_fields


class TestTemplateFields:
    """They are derived from the constructor, and the text fields from its annotations."""

    @pytest.mark.parametrize("kind", OPERATORS)
    def test_every_argument_is_one_but_those_that_airflow_must_know_before(
        self, kind: type[BaseOperator]
    ) -> None:
        arguments = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
        left_out = {
            SageMakerAsyncInferenceSensor: {
                *("timeout", "poke_interval", "deferrable", "on_failure"),
                *("failure_text_limit", "container_log_lines"),
            },
            SageMakerPlanMultiModelBatchOperator: {"multiple_outputs"},
        }
        assert arguments - set(kind.template_fields) == left_out.get(kind, arguments & {"deferrable"})

    def test_they_are_in_the_constructors_order_and_text_is_what_is_annotated_so(self) -> None:
        kind = SageMakerExportAutopilotModelOperator
        own = kind.template_fields[:-3]
        assert (own[0], own[2], own[-1]) == ("auto_ml_job_name", "inference_response_keys", "tags")
        assert kind.text_fields == (
            "auto_ml_job_name",
            "execution_role",
            "candidate_name",
            "processing_unit",
            "on_unmet_objective",
            "model_name",
        )

    def test_a_users_subclass_keeps_its_parents_or_says_its_own(self) -> None:
        class Kept(SageMakerDeleteEndpointOperator):
            def __init__(self, *, note: str, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's
                super().__init__(**kwargs)
                self.remark = note

        class Own(SageMakerDeleteEndpointOperator):
            template_fields = (*SageMakerDeleteEndpointOperator.template_fields, "note")

        assert Kept.template_fields == SageMakerDeleteEndpointOperator.template_fields
        assert Kept(task_id="delete", endpoint_name="e", note="n").remark == "n"
        assert Own.template_fields[-1] == "note"
        assert Own.text_fields == ("endpoint_name",)


class TestSensitiveFields:
    """A template goes in, a value comes out for us, a mask for everybody else.

    What Airflow stores is in ``tests/dags/test_stored_fields.py``.
    """

    def test_a_template_stays_one_until_it_is_rendered(self) -> None:
        operator = _invoke(body="{{ run_id }}")
        assert operator.body == "{{ run_id }}"
        assert reveal(_rendered(operator).body) == context_for()["run_id"]

    @pytest.mark.parametrize("value", ["", "text", b"bytes", {"nested": [SECRET]}])
    def test_a_rendered_value_is_revealed_as_it_was(self, value: object) -> None:
        assert reveal(_rendered(_invoke(body=value)).body) == value

    def test_none_stays_none(self) -> None:
        assert _rendered(_invoke(body=None)).body is None

    def test_rendering_twice_masks_once(self) -> None:
        operator = _rendered(_rendered(_invoke(body="{{ secret }}")))
        assert reveal(operator.body) == SECRET

    def test_two_operators_do_not_share_a_value(self) -> None:
        first, second = _rendered(_invoke(body="1")), _rendered(_invoke(body="2"))
        assert (reveal(first.body), reveal(second.body)) == ("1", "2")

    @pytest.mark.parametrize("text", [str, repr, "{}".format, "%s".__mod__, ascii])
    def test_no_way_of_printing_shows_it(self, text: Any) -> None:  # noqa: ANN401 - a way of printing
        operator = _rendered(_invoke(body="{{ secret }}", custom_attributes="{{ secret }}"))
        for value in (operator.body, operator, [operator.body], {"body": operator.custom_attributes}):
            assert SECRET not in text(value)
        assert text(operator.body) in ("***", "'***'")

    def test_logging_does_not_show_it(self, caplog: pytest.LogCaptureFixture) -> None:
        logging.getLogger("test").warning("%s %r", Sensitive(SECRET), {"body": Sensitive(SECRET)})
        assert caplog.messages == ["*** {'body': ***}"]

    def test_copies_keep_value_and_mask(self) -> None:
        """Airflow copies and pickles operators before it runs them."""
        operator = _rendered(_invoke(body="{{ secret }}"))
        for copied in (copy.copy(operator), copy.deepcopy(operator)):
            assert reveal(copied.body) == SECRET
            assert SECRET not in repr(copied.body)
        assert reveal(pickle.loads(pickle.dumps(operator.body))) == SECRET  # noqa: S301 - our own pickle


def test_a_result_is_one_mapping_and_an_xcom_for_each_key() -> None:
    """``export.output["model_name"]`` works in a DAG."""
    assert _invoke().multiple_outputs is True
    assert _invoke(multiple_outputs=False).multiple_outputs is False
