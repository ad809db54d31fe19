"""The control plane: calls that may be repeated, waits that endure a bad moment, errors that name the remedy."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_sm_plugin.exceptions import (
    AccessDenied,
    AutoMLJobNotFound,
    CredentialsExpired,
    EndpointConfigNotFound,
    InvalidRequest,
    ModelNotFound,
    RequestRefused,
    ResourceConflict,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks import calls
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec, Variant
from airflow_sm_plugin.resources.model import ModelSpec
from tests.support import IMAGE, POLL, ROLE, Account, Answer, Requests, answering, closed_port, unique

pytestmark = pytest.mark.airflow

ONCE = {"retries": {"total_max_attempts": 1}}
NOT_VISIBLE = Answer(
    400,
    "ValidationException",
    'Could not find endpoint configuration "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/new".',
)


def hook(**arguments: Any) -> SageMakerControlPlaneHook:  # noqa: ANN401 - the provider's own
    return SageMakerControlPlaneHook(**{"aws_conn_id": None} | arguments)


def spec_of(model: str, name: str = "") -> EndpointConfigSpec:
    variant = Variant(model_name=model, instance_type="ml.m5.large")
    return EndpointConfigSpec(endpoint_name=name or unique("endpoint"), variants=[variant]).checked()


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


NEVER = 3600
"""Seconds that no test waits for; what takes so long runs no process."""


class TestRepeatable:
    def test_creating_a_model_twice_makes_one(self, requests: Requests) -> None:
        spec = ModelSpec(containers=[{"Image": IMAGE}], execution_role_arn=ROLE, name=unique("model"))
        name, arn, created = hook().models.create(spec)
        assert (name, created) == (spec.name, True)
        assert hook().models.create(spec) == (name, arn, False)
        assert requests.changes() == ["CreateModel"]

    def test_another_content_under_the_name_is_a_conflict(self) -> None:
        name = unique("model")
        hook().models.create(ModelSpec(containers=[{"Image": IMAGE}], execution_role_arn=ROLE, name=name))
        other = ModelSpec(
            containers=[{"Image": IMAGE}],
            execution_role_arn=ROLE,
            name=name,
            enable_network_isolation=True,
        )
        with pytest.raises(ResourceConflict, match="EnableNetworkIsolation differ"):
            hook().models.create(other)

    def test_configuration_and_endpoint_are_made_once(self, model: str, requests: Requests) -> None:
        spec, its = spec_of(model), hook()
        assert [its.configs.ensure(spec) for _ in range(2)] == [True, False]
        assert [its.create_endpoint(spec) for _ in range(2)] == [True, False]
        assert requests.changes() == ["CreateEndpointConfig", "CreateEndpoint"]
        assert its.delete_endpoint(spec.endpoint_name, max_wait=NEVER, poll_interval=POLL)

    def test_what_is_missing_counts_as_deleted(self) -> None:
        its = hook()
        assert its.models.delete("no-such-model") is False
        assert its.configs.delete("no-such-config") is False
        assert its.delete_endpoint("no-such-endpoint", max_wait=1, poll_interval=POLL) is False
        assert its.describe_endpoint("no-such-endpoint") is None
        assert its.configs.describe("no-such-config") is None

    def test_what_must_exist_and_does_not_is_an_error_of_its_own(self) -> None:
        its = hook()
        with pytest.raises(ModelNotFound, match="no-such-model in us-east-1"):
            its.models.describe("no-such-model")
        with pytest.raises(AutoMLJobNotFound, match="no AutoML job no-such-job in us-east-1"):
            its.automl.describe("no-such-job")


class TestConsistency:
    """SageMaker may not see for a moment what was created just now."""

    @pytest.fixture(autouse=True)
    def _short_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calls, "CONSISTENCY_PAUSE", POLL)

    @pytest.fixture
    def made(self, model: str) -> EndpointConfigSpec:
        spec = spec_of(model)
        hook().configs.ensure(spec)
        return spec

    def test_a_configuration_that_is_not_visible_yet_is_tried_again(
        self, account: Account, made: EndpointConfigSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with answering(NOT_VISIBLE, None, NOT_VISIBLE, None, otherwise=account.url) as (slow, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", slow)
            assert hook().create_endpoint(made)
        # Before each repetition it is made sure that the configuration is there.
        assert asked == ["SageMaker.CreateEndpoint", "SageMaker.CreateEndpointConfig"] * 2 + [
            "SageMaker.CreateEndpoint"
        ]
        account.wait_for_endpoint(made.endpoint_name)

    def test_one_that_never_becomes_visible_is_given_up(
        self, account: Account, made: EndpointConfigSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(calls, "CONSISTENCY_SECONDS", 0.2)
        with answering(*(NOT_VISIBLE, None) * 1000, otherwise=account.url) as (slow, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", slow)
            its = hook()
            its.get_conn()  # before the clock runs
            with pytest.raises(
                EndpointConfigNotFound, match="Could not find endpoint configuration"
            ) as caught:
                its.create_endpoint(made)
        assert caught.value.retryable
        assert asked.count("SageMaker.CreateEndpoint") > 1
        assert account.status(made.endpoint_name) is None

    @pytest.mark.parametrize("verb", ["create", "update"])
    def test_a_configuration_deleted_meanwhile_is_created_again(
        self, account: Account, model: str, verb: str
    ) -> None:
        spec, its = spec_of(model), hook()
        if verb == "update":
            account.sagemaker.create_endpoint(
                EndpointName=spec.endpoint_name, EndpointConfigName=account.create_config(model)
            )
            account.wait_for_endpoint(spec.endpoint_name)
        its.configs.ensure(spec)
        account.sagemaker.delete_endpoint_config(EndpointConfigName=spec.config_name)
        assert its.create_endpoint(spec) if verb == "create" else its.update_endpoint(spec)
        account.wait_for_endpoint(spec.endpoint_name)
        assert account.configs(spec.config_name) == [spec.config_name]

    def test_a_model_deleted_meanwhile_is_reported_at_once(self, account: Account) -> None:
        spec = spec_of(account.create_model(multi_model=True))
        hook().configs.ensure(spec)
        account.sagemaker.delete_model(ModelName=spec.model_names[0])
        with pytest.raises(ModelNotFound, match="Could not find model"):
            hook().create_endpoint(spec)

    def test_an_endpoint_deleted_meanwhile_is_no_error_of_the_update(self, made: EndpointConfigSpec) -> None:
        """One has to list again, and creates it."""
        assert hook().update_endpoint(made) is False

    def test_an_endpoint_in_progress_is_no_error_of_the_update(
        self, account: Account, made: EndpointConfigSpec
    ) -> None:
        with account.settings(endpoint_creating_seconds=NEVER):
            hook().create_endpoint(made)
            assert hook().update_endpoint(made) is False


class TestUpdatesSentAgain:
    """Of an update only a throttled one is sent again: it did nothing."""

    @pytest.fixture(autouse=True)
    def _no_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calls, "pause_after", lambda attempt, *, jitter: 0.0 * attempt * jitter)

    @pytest.mark.parametrize(
        ("answers", "sent", "error"),
        [
            ([Answer(400, "ThrottlingException")] * 4, 5, None),
            ([Answer(429, "TooManyRequestsException")] * 4, 5, None),
            ([Answer(400, "ThrottlingException")] * 5, 5, Throttled),
            ([Answer(400, "ResourceLimitExceeded")], 1, Throttled),
            ([Answer(503, "ServiceUnavailable")], 1, ServiceUnavailable),
            ([Answer(400, "ThrottlingException"), Answer(500, "InternalFailure")], 2, ServiceUnavailable),
        ],
    )
    @pytest.mark.parametrize("retries", [None, {"mode": "legacy", "max_attempts": 7}])
    def test_a_throttled_update_is_endured_as_other_calls_are(  # noqa: PLR0917 - a table's columns
        self,
        account: Account,
        model: str,
        monkeypatch: pytest.MonkeyPatch,
        answers: list[Answer],
        sent: int,
        error: type[Exception] | None,
        retries: dict[str, Any] | None,
    ) -> None:
        spec = spec_of(model)
        account.sagemaker.create_endpoint(
            EndpointName=spec.endpoint_name, EndpointConfigName=account.create_config(model)
        )
        account.wait_for_endpoint(spec.endpoint_name)
        hook().configs.ensure(spec)
        with answering(*answers, otherwise=account.url) as (strange, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", strange)
            its = hook(config={"retries": retries} if retries else None)
            if error is None:
                assert its.update_endpoint(spec)
            else:
                with pytest.raises(error):
                    its.update_endpoint(spec)
        assert asked == ["SageMaker.UpdateEndpoint"] * sent


class TestWait:
    def test_a_failed_poll_in_the_middle_is_endured(
        self,
        account: Account,
        model: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.WARNING)
        spec = spec_of(model)
        bad_moment = [None, Answer(503, "ServiceUnavailable"), Answer(400, "ThrottlingException")]
        with (
            account.settings(endpoint_creating_seconds=NEVER),
            answering(*bad_moment, otherwise=account.url) as (shaky, asked),
            ThreadPoolExecutor(1) as pool,
        ):
            monkeypatch.setenv("AWS_ENDPOINT_URL", shaky)
            waiting_hook = hook(config=ONCE)
            waiting_hook.get_conn()
            monkeypatch.setenv("AWS_ENDPOINT_URL", account.url)
            its = hook()
            its.configs.ensure(spec)
            its.create_endpoint(spec)
            waiting = pool.submit(
                waiting_hook.poll_until,
                spec.endpoint_name,
                lambda description: (description or {}).get("EndpointStatus") == "InService",
                give_up=time.monotonic() + NEVER,
                poll_interval=POLL,
            )
            while len(asked) < 4:  # it polls once more after the bad moment
                assert not waiting.done()
                time.sleep(0.01)
            account.change_settings(endpoint_creating_seconds=0)
            description = waiting.result()
        assert (description or {})["EndpointConfigName"] == spec.config_name
        out, err = capsys.readouterr()
        assert f"the wait for endpoint {spec.endpoint_name} goes on" in caplog.text + out + err

    def test_a_deadline_in_seconds_means_seconds(self, account: Account, model: str) -> None:
        spec, its = spec_of(model), hook()
        with account.settings(endpoint_creating_seconds=NEVER):
            its.configs.ensure(spec)
            its.create_endpoint(spec)
            began = time.monotonic()
            description = its.poll_until(
                spec.endpoint_name, lambda _: False, give_up=began + 0.3, poll_interval=3600
            )
            took = time.monotonic() - began
        assert (description or {})["EndpointStatus"] == "Creating"
        assert took >= 0.3  # neither polls nor attempts: a single one would be an hour


class TestAutoMLVersions:
    def test_the_first_version_is_asked_only_where_the_second_is_not_permitted(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with answering(Answer(400, "AccessDeniedException"), otherwise=account.url) as (strict, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", strict)
            with pytest.raises(AutoMLJobNotFound):
                hook().automl.describe("no-such-job")
        assert asked == ["SageMaker.DescribeAutoMLJobV2", "SageMaker.DescribeAutoMLJob"]

    def test_where_neither_is_permitted_the_second_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with answering(Answer(400, "AccessDeniedException", "not authorized")) as (strict, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL", strict)
            with pytest.raises(
                AccessDenied, match=r"(?s)sagemaker:DescribeAutoMLJobV2 a-job: .*allow this action"
            ):
                hook().automl.describe("a-job")


class TestTrouble:
    def test_a_closed_port_is_named_after_as_many_attempts_as_botocore_is_permitted(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        closed = closed_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", closed)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # by default five: up to 15 seconds
        caplog.set_level(logging.DEBUG, "botocore.endpoint")
        with pytest.raises(ServiceUnavailable) as caught:
            hook().describe_endpoint("an-endpoint")
        assert sum(record.msg.startswith("Sending http request") for record in caplog.records) == 2
        assert "sagemaker:DescribeEndpoint an-endpoint: the service did not answer" in str(caught.value)
        assert closed in str(caught.value)
        assert caught.value.retryable

    @pytest.mark.parametrize(
        ("answer", "error", "retryable"),
        [
            (Answer(400, "AccessDeniedException"), AccessDenied, False),
            (Answer(403, "ExpiredTokenException"), CredentialsExpired, True),
            (Answer(400, "UnrecognizedClientException"), CredentialsExpired, True),
            (Answer(400, "ThrottlingException"), Throttled, True),
            (Answer(400, "ResourceLimitExceeded"), Throttled, True),
            (Answer(500, "InternalFailure"), ServiceUnavailable, True),
            (Answer(503, "ServiceUnavailable"), ServiceUnavailable, True),
            (Answer(400, "ValidationException"), RequestRefused, False),
        ],
        ids=lambda value: value.code if isinstance(value, Answer) else "",
    )
    def test_an_error_answer_says_what_was_done_and_whether_a_retry_helps(
        self, monkeypatch: pytest.MonkeyPatch, answer: Answer, error: type[Exception], retryable: bool
    ) -> None:
        with answering(answer) as (bad, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", bad)
            with pytest.raises(error) as caught:
                hook(config=ONCE).models.describe("a-model")
        assert (
            f"sagemaker:DescribeModel a-model: AWS answered with an error\nReason: {answer.code}: said the test"
            in str(caught.value)
        )
        assert getattr(caught.value, "retryable", None) is retryable
        assert len(asked) == (2 if error is CredentialsExpired else 1)  # once more, with fresh credentials

    def test_the_botocore_configuration_given_is_the_one_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with answering(Answer(503, "ServiceUnavailable")) as (bad, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL", bad)
            with pytest.raises(ServiceUnavailable):
                hook(config={"retries": {"total_max_attempts": 2}}).describe_endpoint("an-endpoint")
        assert len(asked) == 2

    def test_a_malformed_request_shows_the_fields_and_no_value(self) -> None:
        spec = ModelSpec(
            containers=[{"Image": IMAGE, "Environment": {"TOKEN": 4711}}],
            execution_role_arn=ROLE,
            name=unique("model"),
        )
        with pytest.raises(InvalidRequest) as caught:  # not checked() on purpose
            hook().models.create(spec)
        assert "PrimaryContainer.Environment.TOKEN" in str(caught.value)
        assert "4711" not in str(caught.value)

    def test_no_line_of_a_malformed_value_is_shown(self) -> None:
        spec = ModelSpec(
            containers=[{"Image": IMAGE, "Environment": "TOKEN=1\nTOKEN=4711\u20284712\r4713"}],
            execution_role_arn=ROLE,
            name=unique("model"),
        )
        with pytest.raises(InvalidRequest) as caught:  # not checked() on purpose
            hook().models.create(spec)
        assert "Invalid type for parameter PrimaryContainer.Environment" in str(caught.value)
        assert "471" not in str(caught.value)

    def test_no_region_and_no_credentials_say_what_to_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(InvalidRequest, match=r"(?s)no AWS region.*pass region_name"):
            hook().describe_endpoint("an-endpoint")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(ServiceUnavailable, match="AWS credentials could not be fetched"):
            hook(region_name="us-east-1").describe_endpoint("an-endpoint")

    def test_listing_that_is_not_permitted_leaves_nothing_undone_but_that(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with answering(Answer(400, "AccessDeniedException")) as (strict, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL", strict)
            assert hook().configs.made_for("an-endpoint") == []
