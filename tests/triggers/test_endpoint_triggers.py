"""The two waits for an endpoint: until it may be changed, and until it serves; each ends as it should, and in time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS
from airflow_sm_plugin.triggers.endpoint import (
    EndpointChangeableTrigger,
    EndpointServingTrigger,
    EndpointTrigger,
)
from tests.endpoint_trials import control
from tests.stubs.s3 import QUICK
from tests.support import BROKEN, Account, Requests, event_of, rebuilt

pytestmark = pytest.mark.airflow

NOTE = {"action": "created", "created": ["endpoint"]}
KINDS = pytest.mark.parametrize("kind", [EndpointChangeableTrigger, EndpointServingTrigger])
Kind = type[EndpointChangeableTrigger] | type[EndpointServingTrigger]


def trigger(
    kind: Kind,
    name: str,
    config: str = "another",
    *,
    seconds: float = 3600,
    poll_interval: float = 0.02,
    **config_of_botocore: object,
) -> EndpointTrigger:
    return kind(
        endpoint_name=name,
        wanted_config=config,
        note=NOTE,
        deadline=time.time() + seconds,
        poll_interval=poll_interval,
        aws={
            "aws_conn_id": None,
            "region_name": "us-east-1",
            "verify": None,
            "botocore_config": {**QUICK, **config_of_botocore},
        },
    )


def ended(created: EndpointTrigger) -> dict[str, Any]:
    return event_of(rebuilt(created))


def ended_when(
    account: Account, requests: Requests, created: EndpointTrigger, **seconds: float
) -> dict[str, Any]:
    """Change settings once the trigger has polled twice in vain; return its event."""
    requests.forget()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ended, created)
        while requests.count()["DescribeEndpoint"] < 2:
            assert not waiting.done()
            time.sleep(0.01)
        account.change_settings(**seconds)
        return waiting.result()


@KINDS
def test_a_broken_wait_hands_back_the_tasks_note(kind: Kind) -> None:
    event = ended(trigger(kind, "absent", no_such_option=1))
    assert (event["status"], event["note"]) == ("error", NOTE)


@KINDS
def test_a_deadline_in_seconds_means_seconds_however_seldom_it_polls(account: Account, kind: Kind) -> None:
    """Seconds taken for attempts, or a deadline that is seen only at the next poll, would be an hour here."""
    with account.settings(endpoint_creating_seconds=3600):
        name = account.start_endpoint()
        began = time.monotonic()
        assert ended(trigger(kind, name, seconds=0.3, poll_interval=3600))["status"] == "over"
    assert time.monotonic() - began >= 0.3


@KINDS
@pytest.mark.parametrize("failures", [MAX_FAILED_POLLS, MAX_FAILED_POLLS + 1])
def test_just_so_many_failed_polls_in_a_row_are_endured(account: Account, kind: Kind, failures: int) -> None:
    name = account.deploy()
    rule = {"operation": "sagemaker:DescribeEndpoint", "resource": f"*{name}*", "times": failures}
    control(account, "POST", "faults", [rule | {"fault": "throttle"}])
    try:
        event = ended(trigger(kind, name))
    finally:
        control(account, "DELETE", "faults")
    if failures <= MAX_FAILED_POLLS:
        assert event["status"] == "over"
    else:
        assert (event["status"], event["error"]) == ("error", "Throttled")
        assert f"{failures} failed polls in a row" in event["message"]


class TestChangeable:
    def test_what_is_in_progress_is_waited_out(self, account: Account, requests: Requests) -> None:
        with account.settings(endpoint_creating_seconds=3600):
            name = account.start_endpoint()
            created = trigger(EndpointChangeableTrigger, name)
            event = ended_when(account, requests, created, endpoint_creating_seconds=0)
        assert event == {"status": "over", "note": NOTE}
        assert account.status(name) == "InService"

    def test_an_endpoint_that_is_gone_may_be_created(self, account: Account, requests: Requests) -> None:
        name = account.deploy()
        with account.settings(endpoint_deleting_seconds=3600):
            account.sagemaker.delete_endpoint(EndpointName=name)
            created = trigger(EndpointChangeableTrigger, name)
            event = ended_when(account, requests, created, endpoint_deleting_seconds=0)
        assert event == {"status": "over", "note": NOTE}
        assert account.status(name) is None

    def test_what_heads_for_the_wanted_configuration_needs_no_change(self, account: Account) -> None:
        with account.settings(endpoint_creating_seconds=3600):
            name = account.start_endpoint()
            config = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
            ended(trigger(EndpointChangeableTrigger, name, config))
            assert account.status(name) == "Creating"
        account.wait_for_endpoint(name)


class TestServing:
    def test_it_awaits_the_wanted_configuration_and_reports_the_served_one(self, account: Account) -> None:
        name = account.start_endpoint()
        config = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
        assert ended(trigger(EndpointServingTrigger, name, config))["verdict"]["state"] == "serving"
        event = ended(trigger(EndpointServingTrigger, name, "another"))
        assert (event["verdict"]["state"], event["verdict"]["config_name"]) == ("rolled back", config)
        assert event["note"] == NOTE

    def test_an_endpoint_that_does_not_serve_in_time_is_reported_as_it_is(self, account: Account) -> None:
        with account.settings(endpoint_creating_seconds=3600):
            name = account.start_endpoint()
            event = ended(trigger(EndpointServingTrigger, name, seconds=0.2))
        assert (event["verdict"]["state"], event["verdict"]["status"]) == ("wait", "Creating")

    def test_a_failed_endpoint_ends_the_wait_with_sagemakers_reason(self, account: Account) -> None:
        name = account.start_endpoint(BROKEN)
        event = ended(trigger(EndpointServingTrigger, name))
        assert event["verdict"]["state"] == "failed"
        assert event["verdict"]["reason"] != "SageMaker gave no reason"
