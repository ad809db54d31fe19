"""An AutoML job's decisions from its data and its request, without training."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.local.automl.jobs.layout import JobLayout
from airflow_sm_plugin.local.automl.training import dataset
from airflow_sm_plugin.local.automl.training.plan import (
    BINARY,
    ENSEMBLING,
    METRICS,
    MULTICLASS,
    REGRESSION,
    TUNING,
    default_metric,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1", "1"], BINARY),
        (["yes", "no"], BINARY),
        (["0.5", "1.5"], BINARY),
        (["a", "b", "c"], MULTICLASS),
        (["0", "1", "2"], MULTICLASS),
        (["0", "1", "b"], MULTICLASS),
        (["1.5", "2", "3"], REGRESSION),
        ([str(number) for number in range(31)], REGRESSION),
    ],
)
def test_the_problem_type_follows_from_the_target(values: list[str], expected: str) -> None:
    assert dataset.resolve_problem_type(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["True", "False"], ["False", "True"]),
        (["1", "0"], ["0", "1"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["10", "9", "b"], ["10", "9", "b"]),
    ],
)
def test_labels_keep_their_text_and_are_ordered(values: list[str], expected: list[str]) -> None:
    assert dataset.ordered_labels(values) == expected


def test_the_defaults_are_autopilots() -> None:
    defaults = {kind: default_metric(kind) for kind in METRICS}
    assert defaults == {BINARY: "F1", MULTICLASS: "Accuracy", REGRESSION: "MSE"}


def _table(folder: Path, *contents: bytes, gzipped: bool = False) -> dataset.Table:
    files = []
    for index, content in enumerate(contents):
        files.append(folder / f"{index}.csv")
        files[-1].write_bytes(content)
    return dataset.read_table(files, gzipped=gzipped)


def test_every_file_brings_its_header(tmp_path: Path) -> None:
    table = _table(tmp_path, b'\xef\xbb\xbfa, b\r\n1,"x, y"\r\n\r\n', b"a,b\n2,z")
    assert table == dataset.Table(("a", "b"), [["1", "x, y"], ["2", "z"]])


def test_gzip_is_read(tmp_path: Path) -> None:
    assert _table(tmp_path, gzip.compress(b"a\n1\n"), gzipped=True).rows == [["1"]]


@pytest.mark.parametrize(
    ("contents", "gzipped", "reason"),
    [
        ([b""], False, "0.csv is empty"),
        ([b"a,b\n1,2\n1\n"], False, "0.csv row 3 has 1 columns; its header has 2"),
        ([b"a,a\n1,2\n"], False, "more than one column named 'a'"),
        ([b"a\n1\n", b"b\n1\n"], False, "header of 1.csv differs from the header of 0.csv"),
        ([b"\xff\xfe\x00"], False, "not a readable CSV file"),
        ([b'a\n"1'], False, "not a readable CSV file"),
        ([b"a\n1\n"], True, "not a readable gzipped CSV file"),
        ([gzip.compress(b"a\n1\n")[:-9]], True, "not a readable gzipped CSV file"),
    ],
)
def test_unreadable_files_name_the_file_and_the_trouble(
    tmp_path: Path, contents: list[bytes], gzipped: bool, reason: str
) -> None:
    with pytest.raises(dataset.JobFailed, match=reason):
        _table(tmp_path, *contents, gzipped=gzipped)


def _column(*values: str) -> dataset.Table:
    return dataset.Table(("y",), [[value] for value in values])


@pytest.mark.parametrize(
    ("training", "validation", "kind", "reason"),
    [
        (["1"] * 30, None, None, "only the value '1'"),
        (["1", "2", "3"] * 10, None, BINARY, "needs two classes; the target column 'y' has 3"),
        (["1", "2", "x"] * 10, None, REGRESSION, "a value that is no number: 'x'"),
        ([f"name {number}" for number in range(30)], None, None, "30 classes in 30 rows"),
        (["1", "2"] * 10, ["3"], None, "a class that the training data has not: '3'"),
    ],
)
def test_a_target_that_cannot_be_learned_fails_the_job(
    training: list[str], validation: list[str] | None, kind: str | None, reason: str
) -> None:
    with pytest.raises(dataset.JobFailed, match=reason):
        dataset.target_of(_column(*training), _column(*validation) if validation else None, 0, kind)


def test_labels_are_numbered_in_order() -> None:
    target = dataset.target_of(_column(*["b", "a", "c"] * 3), _column("c"), 0, None)
    assert target.labels == ["a", "b", "c"]
    assert target.values == [1.0, 0.0, 2.0] * 3 + [2.0]


@given(
    job=st.from_regex(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}", fullmatch=True).filter(
        lambda name: len(name) <= 32
    ),
    mode=st.sampled_from([ENSEMBLING, TUNING]),
    number=st.integers(1, 999),
    algorithm=st.sampled_from(["WeightedEnsemble_L2_FULL", "GradientBoostingShallow_L1_FULL"]),
)
def test_names_keep_to_the_limits(job: str, mode: str, number: int, algorithm: str) -> None:
    layout = JobLayout(job, "s3://bucket/out", "eu-west-1", mode, "0123abcd")
    candidate = layout.candidate(number, algorithm, 1)
    assert len(candidate.name) <= 63  # what may also name a model
    assert set(candidate.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
    assert all(len(name) <= 64 for _, _, name in candidate.steps)
    for location in candidate.archives.values():
        assert location.startswith(f"s3://bucket/out/{job}/")
    assert all(
        candidate.artefact(name).endswith("/model.tar.gz")
        for _, kind, name in candidate.steps
        if kind == "training-job"
    )
    assert len(candidate.processor_model) <= 63
