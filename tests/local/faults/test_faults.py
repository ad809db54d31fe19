"""The fault plan over HTTP: what strikes, how often, and what the client sees."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from airflow_sm_plugin.local.faults.faults import FaultPlan
from airflow_sm_plugin.local.protocol.call_names import CallName
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import IMAGE, ROLE, Clients, clients_of, unique


@pytest.fixture(scope="module")
def unlucky() -> Iterator[EmbeddedSageMaker]:
    """A service of its own: a fault plan is for all who call."""
    with EmbeddedSageMaker() as embedded:
        yield embedded


@pytest.fixture
def there(unlucky: EmbeddedSageMaker) -> Iterator[Clients]:
    """Clients of it, that send a call once; plan and log are empty when a test begins."""
    unlucky.calls.clear()
    yield clients_of(unlucky.url)
    unlucky.faults.clear()


def control(embedded: EmbeddedSageMaker, method: str, route: str, value: object = None) -> dict[str, object]:
    """Call below ``/_embedded/``."""
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(f"{embedded.url}/_embedded/{route}", data=body, method=method)
    with urllib.request.urlopen(request, timeout=600) as answer:
        answered: dict[str, object] = json.load(answer)
        return answered


def create_model(clients: Clients, name: str) -> None:
    clients.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})


def call(operation: str, resource: str | None = None, service: str = "sagemaker") -> CallName:
    return CallName(service, operation, resource, "us-east-1", "POST", "/")


def test_an_error_is_answered_as_the_rule_says_and_nothing_is_done(
    unlucky: EmbeddedSageMaker, there: Clients
) -> None:
    rule = {
        "operation": "CreateModel",
        "fault": "error",
        "times": 1,
        "status": 400,
        "code": "ResourceLimitExceeded",
        "message": "enough",
    }
    control(unlucky, "PUT", "faults", [rule])
    name = unique("model")
    with pytest.raises(ClientError) as refused:
        create_model(there, name)
    assert refused.value.response["Error"] == {"Code": "ResourceLimitExceeded", "Message": "enough"}
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    create_model(there, name)
    rules = control(unlucky, "GET", "faults")["rules"]
    counted = {"after": 0, "probability": 1.0, "seconds": 0.0, "matched": 2, "struck": 1}
    assert rules == [{**rule, **counted}]
    assert control(unlucky, "DELETE", "faults")["rules"] == []


def test_after_and_times_say_which_calls_are_struck(unlucky: EmbeddedSageMaker, there: Clients) -> None:
    control(
        unlucky, "PUT", "faults", [{"operation": "ListModels", "fault": "throttle", "after": 1, "times": 2}]
    )
    codes = []
    for _ in range(4):
        try:
            there.sagemaker.list_models()
            codes.append("")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert codes == ["", "ThrottlingException", "ThrottlingException", ""]


def test_a_dropped_call_does_nothing_and_a_lost_answer_does_it(
    unlucky: EmbeddedSageMaker, there: Clients
) -> None:
    dropped, lost = unique("dropped"), unique("lost")
    control(
        unlucky,
        "PUT",
        "faults",
        [
            {"operation": "Create*", "resource": "dropped-*", "fault": "drop"},
            {"operation": "Create*", "resource": "lost-*", "fault": "lost_answer"},
        ],
    )
    for name in (dropped, lost):
        with pytest.raises(ConnectionClosedError):
            create_model(there, name)
    with pytest.raises(ClientError, match="Could not find model"):
        there.sagemaker.describe_model(ModelName=dropped)
    there.sagemaker.describe_model(ModelName=lost)
    calls = {call.resource: call for call in unlucky.calls.calls(operation="CreateModel")}
    assert (calls[dropped].fault, calls[dropped].status, calls[dropped].effect) == ("drop", None, False)
    assert (calls[lost].fault, calls[lost].status, calls[lost].effect) == ("lost_answer", 200, True)


def test_a_lost_answer_can_be_held_so_that_the_caller_can_be_killed_meanwhile(
    unlucky: EmbeddedSageMaker, there: Clients
) -> None:
    name = unique("held")
    unlucky.faults.replace([{"operation": "CreateModel", "fault": "lost_answer", "seconds": 3600}])
    outcome: list[BaseException] = []

    def create() -> None:
        try:
            create_model(there, name)
        except ConnectionClosedError as error:
            outcome.append(error)

    caller = threading.Thread(target=create)
    caller.start()
    while not unlucky.calls.calls(operation="CreateModel") or not _exists(there, name):
        time.sleep(0.01)
    assert outcome == []  # done, noted, and the caller still waits
    control(unlucky, "DELETE", "faults")
    caller.join(timeout=600)
    assert len(outcome) == 1


def test_rules_of_one_resource_are_forgotten_alone_and_let_go_of_what_they_hold(
    unlucky: EmbeddedSageMaker, there: Clients
) -> None:
    """They are named as they stand in the rule, so that the rules of others stay."""
    mine, others = unique("mine"), unique("others")
    held = {"operation": "CreateModel", "fault": "latency", "seconds": 3600}
    everybodys = {"operation": "ListModels", "fault": "throttle", "after": 1000}
    of_all = {"operation": "DescribeModel", "resource": "*", "fault": "throttle", "after": 1000}
    rules = [{**held, "resource": f"{mine}*"}, {**held, "resource": f"{others}*"}, everybodys, of_all]
    control(unlucky, "PUT", "faults", rules)
    callers = {name: threading.Thread(target=create_model, args=(there, name)) for name in (mine, others)}
    for caller in callers.values():
        caller.start()
    while [rule["struck"] for rule in control(unlucky, "GET", "faults")["rules"]][:2] != [1, 1]:  # type: ignore[attr-defined] # JSON
        time.sleep(0.01)

    left = control(unlucky, "DELETE", f"faults?{urlencode({'resource': f'{mine}*'})}")["rules"]

    callers[mine].join(timeout=600)
    assert not callers[mine].is_alive()
    assert callers[others].is_alive()
    assert [rule.get("resource") for rule in left] == [f"{others}*", None, "*"]  # type: ignore[attr-defined] # JSON
    there.sagemaker.describe_model(ModelName=mine)
    unlucky.faults.clear()
    callers[others].join(timeout=600)
    assert not callers[others].is_alive()


@pytest.mark.parametrize("query", ["resource=", "resorce=mine", "resource=a&all=1"])
def test_a_slip_in_what_to_forget_clears_nothing(
    unlucky: EmbeddedSageMaker, there: Clients, query: str
) -> None:
    control(unlucky, "PUT", "faults", [{"operation": "ListModels", "resource": "mine", "fault": "drop"}])
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(unlucky, "DELETE", f"faults?{query}")
    assert refused.value.code == 400
    refused.value.close()
    assert len(unlucky.faults.as_json()["rules"]) == 1  # type: ignore[arg-type] # JSON


def test_a_rule_that_comes_after_one_was_forgotten_has_a_chance_of_its_own() -> None:
    rule = {"operation": "*", "fault": "drop", "probability": 0.5}
    plan = FaultPlan()
    plan.replace([{**rule, "resource": "a"}, {**rule, "resource": "b"}], seed=7)
    plan.forget("a")
    plan.add([{**rule, "resource": "c"}])
    struck = {name: [plan.strike(call("X", name)).fault for _ in range(100)] for name in ("b", "c")}
    assert struck["b"] != struck["c"]


def _exists(clients: Clients, name: str) -> bool:
    return any(
        model["ModelName"] == name for model in clients.sagemaker.list_models(MaxResults=100)["Models"]
    )


def test_latency_holds_a_call_that_is_then_answered(unlucky: EmbeddedSageMaker, there: Clients) -> None:
    control(unlucky, "PUT", "faults", [{"operation": "ListModels", "fault": "latency", "seconds": 0.3}])
    before = time.monotonic()
    there.sagemaker.list_models()
    assert time.monotonic() - before >= 0.3
    (noted,) = unlucky.calls.calls(operation="ListModels")[-1:]
    assert (noted.fault, noted.status) == ("latency", 200)


def test_the_runtime_is_struck_in_its_own_words(unlucky: EmbeddedSageMaker, there: Clients) -> None:
    rules = [
        {
            "operation": "InvokeEndpoint",
            "resource": "cold",
            "fault": "error",
            "code": "ModelNotReadyException",
        },
        {"operation": "InvokeEndpoint", "resource": "bad", "fault": "error", "status": 400},
        {"operation": "InvokeEndpointAsync", "fault": "throttle"},
    ]
    control(unlucky, "PUT", "faults", rules)
    with pytest.raises(there.runtime.exceptions.ModelNotReadyException) as cold:
        there.runtime.invoke_endpoint(EndpointName="cold", Body=b"?")
    assert cold.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    with pytest.raises(ClientError) as bad:
        there.runtime.invoke_endpoint(EndpointName="bad", Body=b"?")
    assert bad.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError, match="ThrottlingException"):
        there.runtime.invoke_endpoint_async(EndpointName="any", InputLocation="s3://bucket/key")


@pytest.mark.parametrize(
    ("operation", "ask", "answered"),
    [
        ("s3:GetObject", lambda c: c.s3.get_object(Bucket=c.bucket, Key="a/b"), (503, "SlowDown")),
        ("s3:ListObjectsV2", lambda c: c.s3.list_objects_v2(Bucket=c.bucket), (503, "SlowDown")),
        ("s3:HeadObject", lambda c: c.s3.head_object(Bucket=c.bucket, Key="a/b"), (503, "503")),
        ("sns:Create*", lambda c: c.sns.create_topic(Name="topic"), (400, "Throttling")),
        ("sqs:CreateQueue", lambda c: c.sqs.create_queue(QueueName="queue"), (400, "ThrottlingException")),
        ("logs:*", lambda c: c.logs.describe_log_groups(), (400, "ThrottlingException")),
    ],
)
def test_other_services_are_struck_by_operation_in_their_own_form(
    unlucky: EmbeddedSageMaker,
    there: Clients,
    operation: str,
    ask: Callable[[Clients], object],
    answered: tuple[int, str],
) -> None:
    control(unlucky, "PUT", "faults", [{"operation": operation, "fault": "throttle"}])
    with pytest.raises(ClientError) as struck:
        ask(there)
    response = struck.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == answered


def test_an_upload_whose_answer_is_lost_is_there(unlucky: EmbeddedSageMaker, there: Clients) -> None:
    rule = {"path": f"/{there.bucket}/*", "method": "put", "fault": "lost_answer"}
    control(unlucky, "PUT", "faults", [rule])
    with pytest.raises(ConnectionClosedError):
        there.s3.put_object(Bucket=there.bucket, Key="kept", Body=b"x" * 100_000)
    assert len(there.s3.get_object(Bucket=there.bucket, Key="kept")["Body"].read()) == 100_000


def test_the_services_own_calls_are_spared(unlucky: EmbeddedSageMaker, there: Clients) -> None:
    model = there.create_model()
    unlucky.faults.replace([{"operation": "s3:*", "fault": "drop"}, {"operation": "logs:*", "fault": "drop"}])
    name = unique("endpoint")
    there.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=there.create_config(model))
    there.wait_for_endpoint(name)  # its archive came from S3
    assert [call for call in unlucky.calls.calls(service="s3") if call.operation == "GetObject"] == []


def test_a_seed_makes_chances_repeatable() -> None:
    rule = {"operation": "*", "fault": "drop", "probability": 0.5}
    plans = []
    for seed in (7, 7, 8):
        plan = FaultPlan()
        plan.replace([rule], seed=seed)
        plans.append([plan.strike(call("ListModels")).fault for _ in range(100)])
    assert plans[0] == plans[1] != plans[2]
    assert 25 < plans[0].count("drop") < 75


def test_latencies_add_up_and_the_first_other_fault_decides() -> None:
    plan = FaultPlan()
    plan.replace(
        [
            {"operation": "*", "fault": "latency", "seconds": 1},
            {"operation": "CreateModel", "fault": "throttle", "seconds": 2},
            {"operation": "*", "fault": "drop"},
        ]
    )
    throttled, dropped = plan.strike(call("CreateModel")), plan.strike(call("DeleteModel"))
    assert (throttled.fault, [hold.seconds for hold in throttled.before]) == ("throttle", [1.0, 2.0])
    assert (dropped.fault, [hold.seconds for hold in dropped.before]) == ("drop", [1.0, 0.0])
    assert plan.strike(call("GetObject", service="s3")).fault is None


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({}, "a fault plan is a list of rules, or"),
        ([{"operation": "*"}], "rule 1: a rule needs fault: error, throttle, latency, drop, lost_answer"),
        ([{"fault": "drop"}], "rule 1: a rule needs operation or path"),
        (
            [{"operation": "*", "fault": "drop"}, {"operation": "*", "fault": "fire"}],
            "rule 2: fault must be one of error, throttle, latency, drop, lost_answer, not 'fire'",
        ),
        (
            [{"operation": "*", "fault": "drop", "chance": 1}],
            "rule 1: unknown chance; known are after, body_contains, code",
        ),
        (
            [{"operation": "*", "fault": "drop", "probability": 2}],
            "probability must be a number from 0 to 1, not 2",
        ),
        ([{"operation": "*", "fault": "drop", "times": 0}], "times must be a whole number from 1, not 0"),
        (
            [{"operation": "*", "fault": "error", "status": 200}],
            "status must be a whole number from 400 to 599",
        ),
        ([{"operation": "*", "fault": "latency"}], "latency needs seconds"),
        ([{"operation": "*", "fault": "drop", "status": 500}], "drop answers no error of its own"),
        (["drop"], "rule 1: a rule is an object, not 'drop'"),
        ({"rules": [], "seed": "x"}, "seed must be a whole number, not 'x'"),
    ],
)
def test_a_bad_plan_is_refused_naming_what_is_wrong_and_changes_nothing(
    unlucky: EmbeddedSageMaker, there: Clients, plan: object, says: str
) -> None:
    unlucky.faults.replace([{"operation": "DeleteModel", "fault": "drop"}])
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(unlucky, "PUT", "faults", plan)
    assert refused.value.code == 400
    assert says in json.load(refused.value)["message"]
    refused.value.close()
    assert len(unlucky.faults.as_json()["rules"]) == 1  # type: ignore[arg-type] # JSON


def test_rules_can_be_added_and_a_reset_clears_them(unlucky: EmbeddedSageMaker, there: Clients) -> None:
    control(unlucky, "PUT", "faults", {"seed": 1, "rules": [{"operation": "A", "fault": "drop"}]})
    plan = control(unlucky, "POST", "faults", [{"operation": "B", "fault": "drop"}])
    assert [listed["operation"] for listed in plan["rules"]] == ["A", "B"]  # type: ignore[attr-defined] # JSON
    assert plan["seed"] == 1
    unlucky.reset()
    assert control(unlucky, "GET", "faults") == {"seed": None, "rules": []}
