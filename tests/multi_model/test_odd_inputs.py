"""Inputs that contradict their names and content types: they are refused, and the others are sent."""

from __future__ import annotations

import gzip
import json
import pickle
from typing import Any

import pytest

from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from tests.multi_model.multi_models import MULTI, MultiModel
from tests.support import Account, unique

pytestmark = pytest.mark.airflow

MULTI_WITH_HEADER = SplitOptions(batch_strategy="MultiRecord", skip_header=True)
JOINED = OutputOptions(join_source="Input", content_type="text/csv")

COUNTS_LINES = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else data.decode("latin-1")
    return "".join("0.5\\n" for _ in text.split("\\n")), "text/csv"
"""
"""Gives a score to each line, as a container does that ignores quotes."""


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, ["a"], COUNTS_LINES)


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    return MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('odd')}", shared.prefix)


def run(batch: MultiModel, **settings: Any) -> dict[str, int]:  # noqa: ANN401 - as MultiModel.settings()
    total = batch.run(batch.plan(), **settings).report.total
    return {"inputs": total.inputs, "inputs_failed": total.inputs_failed, "records": total.records}


NO_TEXT = {
    "gzip": gzip.compress(b"1,2\n" * 50),
    "utf-16": "1,2\n3,4\n".encode("utf-16"),
    "utf-16-without-a-mark": "1,2\n3,4\n".encode("utf-16-le"),
    "utf-16-of-no-us-ascii": "日本,語\n東京,都\n".encode("utf-16-le"),
    "numpy": b"\x93NUMPY\x01\0v\0{}\n\n",
    "pickle": pickle.dumps(5, protocol=5) + b"\n\n",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "parquet": b"PAR1\x15\x04\x15\x10\n\x15\x14\n" + bytes(range(256)),
    "zip": b"PK\x03\x04\n\n\n",
}


@pytest.mark.parametrize("split", [SplitOptions(), MULTI, SplitOptions(split_type="None")])
def test_binary_inputs_are_refused_before_their_first_record_and_the_others_are_sent(
    batch: MultiModel, split: SplitOptions
) -> None:
    for name, body in NO_TEXT.items():
        batch.put("a", name, body)
    batch.put("a", "text", "1,2\n")
    before = len(batch.invocations())
    assert run(batch, split=split) == {
        "inputs": len(NO_TEXT) + 1,
        "inputs_failed": len(NO_TEXT),
        "records": 1,
    }
    assert len(batch.invocations()) - before == 1
    assert batch.output("a", "text")
    for name in NO_TEXT:
        (row,) = batch.errors("a", name)
        assert (row["error"], row["first_record"], row["record_count"]) == ("InvalidRequest", 0, None)
        assert row["message"].startswith("the input ")
        assert row["attempts"] == 0


def test_announced_gzip_is_decompressed_and_its_content_is_checked(batch: MultiModel) -> None:
    batch.put("a", "good", gzip.compress(b"1,2\n"))
    batch.put("a", "twice", gzip.compress(gzip.compress(b"1,2\n")))
    assert run(batch, gunzip=True) == {"inputs": 2, "inputs_failed": 1, "records": 1}
    (row,) = batch.errors("a", "twice")
    assert "compress the object once only" in row["message"]


def test_inputs_of_a_binary_content_type_are_not_checked(batch: MultiModel) -> None:
    for name, body in NO_TEXT.items():
        batch.put("a", name, body)
    assert run(batch, content_type="application/octet-stream", split=SplitOptions(split_type="None")) == {
        "inputs": len(NO_TEXT),
        "inputs_failed": 0,
        "records": len(NO_TEXT),
    }


@pytest.mark.parametrize("split", [SplitOptions(skip_header=True), MULTI_WITH_HEADER])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_no_score_is_ever_joined_into_a_quoted_text(batch: MultiModel, split: SplitOptions, end: str) -> None:
    lines = ["id,text", '1,"a, ""b"""', '2,5" pipe', "3,plain"]
    batch.put("a", "undivided", end.join([*lines, ""]))
    batch.put("a", "divided", end.join([*lines[:2], f'2,"line one{end}line two"', "3,plain", ""]))
    batch.put("a", "divided-header", end.join([f'id,"te{end}xt"', "1,a", ""]))
    assert run(batch, split=split, output=JOINED)["inputs_failed"] == 2
    assert (batch.output("a", "undivided") or b"").split(b"\n") == [
        *(line.encode() + b",0.5" for line in lines[1:]),
        b"",
    ]
    assert batch.output("a", "divided") == lines[1].encode() + b",0.5\n"
    (row,) = batch.errors("a", "divided")
    assert (row["first_record"], row["record_count"]) == (1, None)
    assert f"the line at byte {len(end.join(lines[:2]) + end)}, where record 1" in row["message"]
    assert "split_type='None'" in row["message"]
    assert not batch.output("a", "divided-header")
    assert "the line at byte 0," in batch.errors("a", "divided-header")[0]["message"]


@pytest.mark.parametrize(
    ("content_type", "separator"),
    [
        ("text/csv", ","),
        ("TEXT/CSV; charset=utf-8", ";"),
        ("application/csv", ","),
        ("text/tab-separated-values", "\t"),
        ("text/tsv", "\t"),
    ],
)
def test_no_content_type_of_csv_cuts_a_record_in_quotes(
    batch: MultiModel, content_type: str, separator: str
) -> None:
    lines = ["id,text", '1,"a, ""b"""', '2,"27\\""', '3,5" pipe', '4,foo |"bar']
    batch.put("a", "undivided", "\n".join([*lines, ""]).replace(",", separator))
    batch.put("a", "divided", "\n".join([*lines, '5,"line one', 'line two"', ""]).replace(",", separator))
    counts = run(batch, split=SplitOptions(skip_header=True), content_type=content_type)
    assert counts == {"inputs": 2, "inputs_failed": 1, "records": 8}
    (row,) = batch.errors("a", "divided")
    assert (row["first_record"], row["record_count"]) == (4, None)


def test_a_carriage_return_alone_ends_no_record(batch: MultiModel) -> None:
    batch.put("a", "old", "id,x\r1,2\r3,4\r")
    assert run(batch, split=MULTI_WITH_HEADER)["inputs_failed"] == 1
    assert "a carriage return" in batch.errors("a", "old")[0]["message"]


def test_json_lines_may_hold_any_quotes(batch: MultiModel) -> None:
    batch.put("a", "x", '{"a": "5\\" pipe \u2028"}\n{"b":\r "\\""}\n')
    assert run(batch, content_type="application/jsonlines") == {
        "inputs": 1,
        "inputs_failed": 0,
        "records": 2,
    }


@pytest.mark.parametrize("skip_header", [False, True])
def test_a_byte_order_mark_reaches_no_model_and_no_output(batch: MultiModel, skip_header: bool) -> None:
    head = "\ufeff" + ("id,x\n" if skip_header else "")
    batch.put("a", "x", f"{head}1,2\n3,4\n")
    assert run(batch, split=SplitOptions(skip_header=skip_header), output=JOINED)["inputs_failed"] == 0
    assert batch.output("a", "x") == b"1,2,0.5\n3,4,0.5\n"


ODD_KEYS = [
    "%2F",
    "%3A%3F",
    "query?1",
    "query?2",
    "a#b",
    "a+b",
    "a b ",
    " ",
    "é日",
    "a./b",
    "a../b",
    "a\tb",
    "\x01",
    "{}",
]


def test_results_have_the_names_of_their_inputs_with_any_characters(batch: MultiModel) -> None:
    for key in ODD_KEYS:
        batch.put("a", key, "1\n")
    assert run(batch) == {"inputs": len(ODD_KEYS), "inputs_failed": 0, "records": len(ODD_KEYS)}
    folder = f"{batch.root.partition(batch.account.bucket + '/')[2]}/out/model=a/"
    listed = batch.account.s3.list_objects_v2(Bucket=batch.account.bucket, Prefix=folder)["Contents"]
    assert sorted(each["Key"] for each in listed) == sorted(f"{folder}{key}.out" for key in ODD_KEYS)


def test_rows_of_errors_hold_any_key(batch: MultiModel) -> None:
    for key in ODD_KEYS:
        batch.put("a", key, b"\x1f\x8b\x08")
    assert run(batch)["inputs_failed"] == len(ODD_KEYS)
    for key in ODD_KEYS:
        (row,) = batch.errors("a", key)
        assert json.loads(json.dumps(row))["source"] == f"{batch.root}/in/model=a/{key}"


def test_a_process_that_ends_after_a_refusal_leaves_one_row_of_errors(batch: MultiModel) -> None:
    """The journal holds the row but not the input's end: the resumed shard has nothing left to read."""
    batch.put("a", "x", '1,a\n2,"b\nc"\n')
    location = batch.plan()
    batch.run(location)
    bucket = batch.account.bucket
    journal = f"{location.partition(f'{bucket}/')[2]}/shards/00000/journal/"
    is_behind = False
    for listed_object in batch.account.s3.list_objects_v2(Bucket=bucket, Prefix=journal)["Contents"]:
        body = batch.account.s3.get_object(Bucket=bucket, Key=listed_object["Key"])["Body"].read()
        is_behind = is_behind or "ended" in json.loads(body)
        if is_behind:
            batch.account.s3.delete_object(Bucket=bucket, Key=listed_object["Key"])
    assert is_behind
    before = len(batch.invocations())
    total = batch.run(location, task_try=TaskTry(100.0, 2)).report.total
    assert (total.records, total.inputs_failed) == (1, 1)
    assert len(batch.invocations()) == before
    assert len(batch.errors("a", "x")) == 1
    assert batch.output("a", "x") == b"0.5\n"
