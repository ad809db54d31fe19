"""Scaling that deployments take down survives every interleaving of two deployments, and is never lost silently."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling
from airflow_sm_plugin.endpoints.scaling_note import NOTE_TAG, VariantScaling, note_of, noted_in
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks import calls
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.scaling import ScaledVariant
from airflow_sm_plugin.resources.tags import MAX_TAGS
from tests.endpoint_trials import control
from tests.scaled_endpoints import clients, notes_on, scale, scaling_of, target_of
from tests.support import Account

pytestmark = [pytest.mark.usefixtures("account"), pytest.mark.airflow]

CONNECTION = AwsConnection(aws_conn_id=None)
DENIED = {"fault": "error", "code": "AccessDeniedException", "status": 400}
VARIANTS = ["AllTraffic"]


class Task:
    """A deployment that rescales: its hooks, and an interruption before its n-th call."""

    def __init__(self) -> None:
        self.hook = SageMakerControlPlaneHook(**CONNECTION.hook_arguments())
        self.scaling = EndpointScaling(CONNECTION, before_call=self._called)
        self.hook.before_call = self._called
        self.calls, self.before = 0, -1
        self.interruption: Callable[[], object] | None = None

    def interrupt(self, before: int, interruption: Callable[[], object] | None) -> None:
        """Call ``interruption`` before a call of AWS, counted from now on."""
        self.calls, self.before, self.interruption = 0, before, interruption

    def noted(self, name: str) -> NotedScaling:
        return NotedScaling(self.hook, name, self.scaling)

    def take_down(self, name: str) -> None:
        described = self.hook.describe_endpoint(name) or {}
        self.noted(name).take_down(described["EndpointArn"], self.scaling.variants.targets(name, VARIANTS))

    def _called(self) -> None:
        self.calls += 1
        if self.interruption is not None and self.calls == self.before:
            self.interruption()


@cache
def first() -> Task:
    """A task whose clients are made once for all tests."""
    return Task()


@cache
def second() -> Task:
    """Another task than the first."""
    return Task()


@pytest.fixture(scope="module")
def deployed(module_account: Account) -> str:
    return module_account.deploy()


@pytest.fixture
def endpoint(account: Account, deployed: str) -> Iterator[str]:
    """An endpoint that scales in every way; no notes on it."""
    scale(account, deployed)
    yield deployed
    control(account, "DELETE", "faults")
    first().interrupt(-1, None)
    first().scaling.remove(deployed)
    forget_notes(account, deployed)


def arn_of(account: Account, name: str) -> str:
    return account.sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]


def note_keys(account: Account, name: str) -> list[str]:
    tags = account.sagemaker.list_tags(ResourceArn=arn_of(account, name))["Tags"]
    return [tag["Key"] for tag in tags if tag["Key"].startswith(NOTE_TAG)]


def forget_notes(account: Account, name: str) -> None:
    """Remove the notes, as a tool does that removes all tags it does not know."""
    account.sagemaker.delete_tags(
        ResourceArn=arn_of(account, name), TagKeys=[*note_keys(account, name), "none"]
    )


def test_no_taking_down_while_another_task_puts_back_loses_the_scaling(
    account: Account, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second task takes the scaling down before a call of the first, one call per round, and puts it back last."""
    monkeypatch.setattr(calls, "CONSISTENCY_SECONDS", 0.0)
    before, call_number, interrupted = scaling_of(account, endpoint), 0, True
    while interrupted:
        call_number += 1
        first().interrupt(-1, None)
        first().take_down(endpoint)
        first().interrupt(
            call_number, lambda: second().take_down(endpoint) if registered(account, endpoint) else None
        )
        try:
            first().noted(endpoint).put_back(taken_down=VARIANTS)
        except SageMakerInferenceError as problem:  # what it puts back has been taken down again
            assert "ObjectNotFound" in str(problem)  # noqa: PT017
        interrupted = first().calls >= call_number
        second().noted(endpoint).put_back(taken_down=VARIANTS)
        context = f"taken down before call {call_number}"
        assert scaling_of(account, endpoint) == before, context
        assert notes_on(account, endpoint) == [], context
    assert call_number > 8, "it made few calls"


def registered(account: Account, name: str) -> bool:
    response = clients(account.url)[0].describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[target_of(name)["ResourceId"]]
    )
    return bool(response["ScalableTargets"])


def test_scaling_whose_note_was_removed_is_logged_as_lost(
    account: Account, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        first().take_down(endpoint)
    assert "1 to 4 instances; policies tracking, steps; scheduled actions nights" in caplog.text
    forget_notes(account, endpoint)
    first().noted(endpoint).put_back(taken_down=VARIANTS)
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert f"the scaling of endpoint {endpoint} was taken down and cannot be put back" in record.message
    assert "Variants AllTraffic do not scale: scale them again" in record.message


def test_scaling_that_another_task_has_put_back_is_not_lost(
    account: Account, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    first().take_down(endpoint)
    second().noted(endpoint).put_back()
    first().noted(endpoint).put_back(taken_down=VARIANTS)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_unreadable_tags_are_logged_with_the_scaling_that_stays_down(
    account: Account, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    first().take_down(endpoint)
    control(account, "POST", "faults", [{"operation": "sagemaker:ListTags", **DENIED}])
    first().noted(endpoint).put_back(taken_down=VARIANTS)
    assert "its tags, which keep it, cannot be read (variants AllTraffic)" in caplog.text


def test_the_scaling_of_an_endpoint_under_change_stays_down_and_is_logged(
    account: Account, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    first().take_down(endpoint)
    config = account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    with account.settings(endpoint_updating_seconds=3600):
        account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
        first().noted(endpoint).put_back(taken_down=VARIANTS)
        account.change_settings(endpoint_updating_seconds=0)
        account.wait_for_endpoint(endpoint)
    assert f"the scaling of endpoint {endpoint} stays down while it is Updating" in caplog.text
    assert "(variants AllTraffic, noted in its tags): the next deployment" in caplog.text
    assert notes_on(account, endpoint)


def test_tries_that_are_killed_one_after_the_other_leave_one_note(account: Account, endpoint: str) -> None:
    """Each of them finds the endpoint scaled, with the note of the one before."""
    before = scaling_of(account, endpoint)
    sizes = []
    for _ in range(4):
        first().take_down(endpoint)
        sizes.append(len(note_keys(account, endpoint)))
        scale(account, endpoint)
    assert len(set(sizes)) == 1
    first().noted(endpoint).put_back()
    assert (scaling_of(account, endpoint), notes_on(account, endpoint)) == (before, [])


def test_a_role_that_may_not_remove_tags_does_not_fill_them(account: Account, endpoint: str) -> None:
    control(account, "POST", "faults", [{"operation": "sagemaker:DeleteTags", **DENIED}])
    sizes = set()
    for _ in range(4):
        first().take_down(endpoint)
        first().noted(endpoint).put_back(taken_down=VARIANTS)
        sizes.add(len(note_keys(account, endpoint)))
    assert len(sizes) == 1
    assert set(notes_on(account, endpoint)) == {""}


@pytest.mark.parametrize("variants", [["gone"], None])
def test_only_scaling_that_is_given_up_is_not_put_back(
    account: Account, endpoint: str, variants: list[str] | None
) -> None:
    first().take_down(endpoint)
    other = VariantScaling(
        variant=ScaledVariant(endpoint, "gone"), target={"MinCapacity": 1, "MaxCapacity": 2}
    )
    arn = arn_of(account, endpoint)
    first().hook.add_tags(arn, note_of([other], prefix=f"{NOTE_TAG}0-"))
    first().noted(endpoint).give_up(variants)
    tags = first().hook.tags_of(arn) or {}
    left = [one.variant.variant_name for one in noted_in(tags, endpoint)]
    assert left == ([] if variants is None else VARIANTS)
    assert len(tags) < MAX_TAGS


@pytest.mark.parametrize("operation", ["DescribeEndpoint", "DeleteTags"])
def test_scaling_that_cannot_be_given_up_is_a_warning(
    account: Account, endpoint: str, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    first().take_down(endpoint)
    rules = [{"operation": f"sagemaker:{name}", **DENIED} for name in (operation, "AddTags")]
    control(account, "POST", "faults", rules)
    first().noted(endpoint).give_up()
    assert "may still be put back by the next one: " in caplog.text


def test_a_note_that_cannot_be_read_is_a_warning_where_it_is_given_up(
    account: Account, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    first().hook.add_tags(arn_of(account, endpoint), {f"{NOTE_TAG}01": "garbled"})
    first().noted(endpoint).give_up()
    assert "cannot be read any more" in caplog.text
