"""Shards through a multi-model endpoint of the embedded SageMaker, and their outputs in S3."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from airflow_sm_plugin.exceptions import (
    EndpointNotFound,
    EndpointNotMultiModel,
    InvalidRequest,
    ServiceUnavailable,
)
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from tests.multi_model.multi_models import MULTI, MultiModel
from tests.support import Account, unique

ERROR_KEYS = [
    "source",
    "target_model",
    "first_record",
    "record_count",
    "error",
    "status",
    "message",
    "attempts",
]


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    """An endpoint with three models for the tests of this module; each has inputs of its own."""
    return MultiModel.deployed(module_account, ["a", "b", "c"])


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    """The endpoint, with a folder for this test alone."""
    return MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)


def rows(model: str, *records: str) -> bytes:
    return "".join(f"{model}/{record}\n" for record in records).encode()


def test_outputs_have_the_inputs_names_and_order(batch: MultiModel) -> None:
    records = [f"r{number}" for number in range(200)]
    for model in ("a", "b", "c"):
        batch.put(model, "one.csv", "\n".join(records))
    finished = batch.run(batch.plan(), max_concurrent_transforms=16)
    for model in ("a", "b", "c"):
        assert batch.output(model, "one.csv") == rows(model, *records)
        assert batch.output(model, "one.csv", ".errors.jsonl") is None
    assert finished.report.total.records == 600
    assert not finished.report.total.failed


@pytest.mark.parametrize(
    ("content", "records"),
    [
        ("", ()),
        ("one", ("one",)),
        ("one\r\n\ntwo\n", ("one", "two")),
        ("\n\n", ()),
    ],
    ids=["empty", "no line end", "blank lines", "blank lines only"],
)
def test_each_line_is_a_record(batch: MultiModel, content: str, records: tuple[str, ...]) -> None:
    batch.put("a", "x.csv", content)
    assert batch.run(batch.plan()).report.total.records == len(records)
    assert batch.output("a", "x.csv") == rows("a", *records)


def test_several_records_go_in_one_payload(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "header\n" + "".join(f"r{number}\n" for number in range(10)))
    split = SplitOptions(batch_strategy="MultiRecord", skip_header=True, max_records=4)
    finished = batch.run(batch.plan(), split=split)
    assert batch.output("a", "x.csv") == rows("a", *[f"r{number}" for number in range(10)])
    assert finished.report.summary()["invocations"] == 3


def test_compressed_inputs_are_decompressed(batch: MultiModel) -> None:
    batch.put("a", "x.csv.gz", gzip.compress(b"one\ntwo\n"))
    batch.put("b", "y.csv.gz", gzip.compress(b"one\ntwo\n")[:-6])
    finished = batch.run(batch.plan(), gunzip=True)
    assert batch.output("a", "x.csv.gz") == rows("a", "one", "two")
    assert [row["error"] for row in batch.errors("b", "y.csv.gz")] == ["InvalidRequest"]
    assert finished.report.total.inputs_unread == 1


def test_an_object_is_one_record_without_a_split_type(batch: MultiModel) -> None:
    batch.put("a", "x.txt", "one\ntwo")
    output = OutputOptions(assemble_with="None")
    batch.run(batch.plan(), split=SplitOptions(split_type="None"), output=output)
    assert batch.output("a", "x.txt") == rows("a", "one", "two")


def test_answers_are_joined_to_their_records(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "1,2\n3,4\n")
    output = OutputOptions(join_source="Input", content_type="text/csv", accept="text/csv")
    batch.run(batch.plan(), split=MULTI, output=output)
    assert batch.output("a", "x.csv") == b"1,2,a/1,2\n3,4,a/3,4\n"


def test_records_that_the_model_refuses_are_in_the_errors_and_the_rest_in_the_output(
    batch: MultiModel,
) -> None:
    batch.put("a", "x.csv", "one\nbad\nthree\n")
    batch.put("b", "y.csv", "one\n")
    finished = batch.run(batch.plan())
    assert batch.output("a", "x.csv") == rows("a", "one", "three")
    [row] = batch.errors("a", "x.csv")
    assert list(row) == ERROR_KEYS
    assert (row["first_record"], row["record_count"], row["error"], row["status"]) == (
        1,
        1,
        "ModelError",
        400,
    )
    assert (row["message"], row["attempts"]) == ("a bad record in 1", 1)
    assert row["target_model"] == "a.tar.gz"
    assert (finished.report.total.records, finished.report.total.records_failed) == (4, 1)
    assert finished.retryable == 0


def test_error_texts_can_be_left_out(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "bad\n")
    batch.run(batch.plan(), error_text_limit=0)
    assert [row["message"] for row in batch.errors("a", "x.csv")] == [""]


def test_one_bad_record_need_not_fail_its_neighbours(batch: MultiModel) -> None:
    records = [f"r{number}" for number in range(50)]
    records[17], records[40] = "bad-1", "bad-2"
    batch.put("a", "x.csv", "\n".join(records))
    batch.run(batch.plan(), split=MULTI, isolate_bad_records=True)
    assert batch.output("a", "x.csv") == rows("a", *[each for each in records if "bad" not in each])
    assert [(row["first_record"], row["record_count"]) for row in batch.errors("a", "x.csv")] == [
        (17, 1),
        (40, 1),
    ]


def test_a_record_larger_than_a_payload_fails_alone(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n" + "x" * 200 + "\nthree\n")
    batch.run(batch.plan(), split=SplitOptions(max_payload_bytes=100))
    assert batch.output("a", "x.csv") == rows("a", "one", "three")
    [row] = batch.errors("a", "x.csv")
    assert (row["error"], row["first_record"], row["attempts"]) == ("RecordTooLarge", 1, 0)
    assert re.search(r"\b200 bytes.*\b100\b", row["message"])


def test_a_missing_artefact_fails_its_records_and_no_others(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    batch.put("gone", "y.csv", "one\ntwo\nthree\n")
    finished = batch.run(batch.plan())
    [row] = batch.errors("gone", "y.csv")
    assert (row["error"], row["record_count"], row["attempts"]) == ("TargetModelNotFound", 3, 0)
    assert batch.output("a", "x.csv") == rows("a", "one")
    assert finished.report.total.records_failed == 3


def test_a_missing_artefact_that_the_plan_did_not_check_is_reported_by_the_endpoint(
    batch: MultiModel,
) -> None:
    batch.put("gone", "y.csv", "one\ntwo\nthree\n")
    finished = batch.run(batch.plan(check_models=False))
    errors = batch.errors("gone", "y.csv")
    assert {row["error"] for row in errors} == {"TargetModelNotFound"}
    assert sum(row["record_count"] for row in errors) == 3
    assert finished.report.total.records_failed == 3


def test_many_faults_lose_no_record(batch: MultiModel) -> None:
    records = [f"r{number}" for number in range(150)]
    for model in ("a", "b", "c"):
        batch.put(model, "x.csv", "\n".join(records))
    with batch.faults(
        {"operation": "InvokeEndpoint", "fault": "throttle", "probability": 0.05},
        {"operation": "InvokeEndpoint", "fault": "error", "status": 500, "probability": 0.03},
        {"operation": "InvokeEndpoint", "fault": "drop", "probability": 0.03},
        {"operation": "InvokeEndpoint", "fault": "lost_answer", "probability": 0.02},
    ):
        finished = batch.run(batch.plan(), max_concurrent_transforms=16, attempts=12)
    for model in ("a", "b", "c"):
        assert batch.output(model, "x.csv") == rows(model, *records)
    repeats = [model.get("repeats", {}) for model in finished.report.statistics["models"].values()]
    assert sum(sum(each.values()) for each in repeats) > 10


def test_a_retry_sends_again_a_payload_that_failed_at_every_attempt(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.put("b", "y.csv", "one\n")
    location = batch.plan()
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500, "target_model": "a.tar.gz"}
    with batch.faults(rule):
        finished = batch.run(location, attempts=2, payload_seconds=1)
    assert finished.retryable == 1
    assert [row["error"] for row in batch.errors("a", "x.csv")] == ["ServiceUnavailable"] * 2
    before = len(batch.invocations())
    again = batch.run(location)
    assert len(batch.invocations()) == before + 2
    assert not again.report.total.failed
    assert batch.output("a", "x.csv") == rows("a", "one", "two")
    assert batch.output("a", "x.csv", ".errors.jsonl") is None


def test_failures_that_no_retry_can_mend_are_tried_again_only_when_the_task_is_cleared(
    batch: MultiModel,
) -> None:
    batch.put("a", "x.csv", "one\nbad\nthree\n")
    location = batch.plan()
    batch.run(location)
    before = len(batch.invocations())
    batch.run(location)
    assert len(batch.invocations()) == before
    batch.run(location, run="2")
    assert len(batch.invocations()) == before + 1
    assert batch.output("a", "x.csv") == rows("a", "one", "three")


def test_a_cleared_task_restarts_everything_on_request(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    location = batch.plan()
    batch.run(location)
    before = len(batch.invocations())
    batch.run(location, run="2", restart=True)
    assert len(batch.invocations()) == before + 2
    batch.run(location, run="2", restart=True)
    assert len(batch.invocations()) == before + 2


def test_an_outage_ends_the_task_and_keeps_the_results(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "".join(f"r{number}\n" for number in range(60)))
    location = batch.plan()
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 503, "after": 10}
    with batch.faults(rule), pytest.raises(ServiceUnavailable, match="payload after payload"):
        batch.run(location, attempts=1, max_concurrent_transforms=4, payload_seconds=0.1)
    before = len(batch.invocations())
    finished = batch.run(location)
    assert len(batch.invocations()) - before == 50
    assert not finished.report.total.failed
    assert batch.output("a", "x.csv") == rows("a", *[f"r{number}" for number in range(60)])


def test_attributes_go_with_each_payload_and_come_back_in_a_file(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.run(
        batch.plan(),
        custom_attributes="{run}/{model}/{first_record}",
        fields={"run": "r1"},
        keep_attributes=True,
    )
    attributes = [
        json.loads(line) for line in (batch.output("a", "x.csv", ".attributes.jsonl") or b"").splitlines()
    ]
    assert attributes == [
        {"first_record": record, "record_count": 1, "custom_attributes": f"seen:r1/a/{record}"}
        for record in range(2)
    ]


def test_relative_keys_in_attributes_equal_those_in_output_names(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    batch.run(batch.plan(), custom_attributes="{relative}", keep_attributes=True)
    (line,) = (batch.output("a", "x.csv", ".attributes.jsonl") or b"").splitlines()
    assert json.loads(line)["custom_attributes"] == "seen:model=a/x.csv"


def test_an_attribute_template_with_an_unknown_field_is_refused_before_anything_is_sent(
    batch: MultiModel,
) -> None:
    batch.put("a", "x.csv", "one\n")
    before = len(batch.invocations())
    with pytest.raises(InvalidRequest, match="shop"):
        batch.run(batch.plan(), custom_attributes="{shop}")
    assert len(batch.invocations()) == before


def test_an_input_that_changed_after_it_was_planned_is_not_taken(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    batch.put("b", "y.csv", "one\n")
    location = batch.plan()
    batch.put("a", "x.csv", "two\n")
    finished = batch.run(location)
    assert [row["error"] for row in batch.errors("a", "x.csv")] == ["InputChanged"]
    assert [row["record_count"] for row in batch.errors("a", "x.csv")] == [None]
    assert batch.output("a", "x.csv") is None
    assert batch.output("b", "y.csv") == rows("b", "one")
    assert finished.report.total.inputs_unread == 1


def test_one_input_without_permission_fails_alone(batch: MultiModel) -> None:
    batch.put("a", "secret.csv", "one\n")
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    rule = {"operation": "s3:GetObject", "fault": "error", "status": 403, "resource": "*/secret.csv"}
    with batch.faults(rule):
        batch.run(location)
    assert [row["error"] for row in batch.errors("a", "secret.csv")] == ["AccessDenied"]
    assert batch.output("a", "x.csv") == rows("a", "one")


def test_errors_of_an_earlier_batch_do_not_stay_beside_new_outputs(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "bad\n")
    batch.run(batch.plan())
    assert batch.errors("a", "x.csv")
    batch.put("a", "x.csv", "good\n")
    batch.run(batch.plan(run="2"), run="2")
    assert batch.output("a", "x.csv") == rows("a", "good")
    assert batch.output("a", "x.csv", ".errors.jsonl") is None


def test_an_endpoint_that_is_gone_fails_the_task_at_once(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    batch.name = "no-such-endpoint"
    with pytest.raises(EndpointNotFound, match="no-such-endpoint"):
        batch.run(location)


def test_an_endpoint_of_one_model_is_refused(account: Account, batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    batch.name = account.deploy()
    with pytest.raises(EndpointNotMultiModel, match="serves no target models"):
        batch.run(location)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("target_model", ["{model}.tar.gz", "/{model}.tar.gz"])
def test_prefix_and_target_model_have_one_slash_between_them(
    account: Account, slash: str, target_model: str
) -> None:
    """SageMaker joins both unchanged; the batch reads the prefix, and spells the model's name to fit."""
    batch = MultiModel.deployed(account, ["a"], slash=slash)
    batch.put("a", "x.csv", "one\n")
    finished = batch.run(batch.plan(target_model=target_model))
    assert batch.output("a", "x.csv") == rows("a", "one")
    assert not finished.report.total.failed
