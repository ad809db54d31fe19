"""State of a batch is recognized by its key, below any prefix, and no file of a user is taken for it."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.async_inference.batch.folder import BatchFolder
from airflow_sm_plugin.async_inference.single.state import state_folder
from airflow_sm_plugin.batches.folder import numbered, result_if_marked, state_in
from airflow_sm_plugin.batches.input_chunks import chunk_location
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.multi_model.state.folder import MultiModelFolder

OWNER, ARGUMENTS = digest("a task instance"), digest("arguments")
PREFIXES = ("s3://b", "s3://b/", "s3://b/a/b/", "s3://b/_batch")


def state_below(prefix: str) -> list[str]:
    """List the locations of each kind of state below a prefix."""
    batch = BatchFolder.below(prefix, owner=OWNER, arguments=ARGUMENTS)
    round_ = batch.plan(0).round(1)
    models = MultiModelFolder.below("s3://o", owner=OWNER, arguments=ARGUMENTS, state_prefix=prefix)
    default = MultiModelFolder.below(prefix, owner=OWNER, arguments=ARGUMENTS)
    plan = models.plan(0, "1234")
    shard = plan.shard(0)
    invocation = state_folder(prefix, OWNER, ARGUMENTS)
    return [
        numbered(batch.claims, 0),
        batch.plan(0).plan,
        batch.plan(0).report,
        batch.plan(0).rows_of(0),
        batch.plan(0).failures_of(0),
        f"{batch.plan(0).inputs('t')}/inputs/00000.jsonl",
        *(round_.numbers, round_.wait(0), numbered(round_.ledger, 0)),
        *(numbered(models.choices, 0), numbered(default.choices, 0), default.plan(0, "1234").report),
        *(plan.plan, numbered(plan.claims, 0), plan.report, plan.report_page),
        *(
            shard.plan,
            chunk_location(shard.location, 0),
            numbered(shard.claims, 0),
            numbered(shard.journal, 0),
            shard.data("x"),
            shard.report(0),
        ),
        *(f"{invocation}00000-{kind}.json" for kind in ("intent", "accepted", "lost")),
    ]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_all_state_is_recognised_by_its_key(prefix: str) -> None:
    for location in state_below(prefix):
        assert state_in(S3Uri.parse(location).key) is not None, location


@pytest.mark.parametrize(
    "key",
    [
        "in/a.csv",
        "_batch/2026-01-01/a.csv",
        "in/_batch/a/b/c.csv",
        "in/my_batch/0123456789ab/0123456789ab/a.csv",
        "in/0123456789ab/0123456789ab/a.csv",
        "in/plan-000/plan.json",
        "in/claims/00000001.json",
        "in/00000-intent.json",
        "in/x/00000-accepted.json",
        "report.json",
    ],
)
def test_a_users_own_file_is_no_state(key: str) -> None:
    assert state_in(key) is None


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("out/report.json", "the report of a batch"),
        ("report.html", "the report of a batch"),
        ("out/a.csv.errors.jsonl", "a batch's list of failures"),
        ("out/a.csv.attributes.jsonl", "a batch's list of response attributes"),
        ("out/a.csv.out", None),
        ("out/my-report.json", None),
        ("report.json/a.csv", None),
        ("out/errors.jsonl", None),
    ],
)
def test_only_objects_of_certain_names_are_asked_whether_a_batch_wrote_them(
    key: str, kind: str | None
) -> None:
    assert result_if_marked(key) == kind
