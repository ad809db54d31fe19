"""A manifest's line is an input, or the message has its number and the reason, and nothing sensitive."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.inputs import (
    ASYNC_LIMITS,
    MULTI_MODEL_LIMITS,
    BatchInput,
    InputLimits,
    ManifestEntry,
    entry_of_line,
)
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest, InvalidS3Uri

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INPUTS = st.builds(
    BatchInput,
    source=VISIBLE.filter(lambda key: not key.endswith("/")).map("s3://bucket/".__add__),
    size=st.none() | st.integers(0, 2**30),
    etag=st.none() | TEXT,
    content_type=st.none() | VISIBLE,
    custom_attributes=st.none() | VISIBLE,
    target_model=st.none() | TEXT,
    output=st.none() | TEXT,
    relative=st.none() | TEXT,
)
LISTED = st.builds(
    BatchInput,
    source=VISIBLE.filter(lambda key: not key.endswith("/")).map("s3://bucket/".__add__),
    content_type=st.none() | VISIBLE,
    custom_attributes=st.none() | VISIBLE,
    target_model=st.none() | VISIBLE,
)
"""Inputs with the fields of a manifest's line."""


@given(INPUTS)
def test_an_input_survives_its_line(item: BatchInput) -> None:
    line = item.as_line()
    assert BatchInput.from_line(line) == item
    assert line.isascii()
    assert len(line.splitlines()) == 1


@given(LISTED)
def test_the_fields_of_a_manifests_line_are_read(item: BatchInput) -> None:
    listed = {
        "source-ref": item.source,
        "content-type": item.content_type,
        "custom-attributes": item.custom_attributes,
        "target-model": item.target_model,
    }
    line = json.dumps({name: value for name, value in listed.items() if value is not None})
    entry = entry_of_line(f"  {line}\n", number=7, target_models=True)
    assert entry == ManifestEntry(position="line 7", input=item)
    assert ASYNC_LIMITS.check(entry.input) is entry.input


def test_a_target_model_is_refused_where_there_is_no_such_thing() -> None:
    line = '{"source-ref": "s3://b/k", "target-model": "m.tar.gz"}'
    with pytest.raises(
        InvalidRequest, match=r"line 4 of the manifest has the key 'target-model'.*leave it out"
    ):
        entry_of_line(line, number=4)


@given(
    st.dictionaries(
        st.text(max_size=20).map("label-{}-metadata".format), st.from_type(int) | TEXT | st.none()
    )
)
def test_labels_are_passed_over_whatever_they_hold(labels: dict[str, object]) -> None:
    line = json.dumps({**labels, "source-ref": "s3://b/k"})
    entry = entry_of_line(line, number=1)
    assert entry is not None
    assert entry.input == BatchInput(source="s3://b/k")
    assert entry.passed_over == tuple(labels)


@pytest.mark.parametrize(
    "labels",
    [
        '"churn": 1, "churn-metadata": {"confidence": 0.9, "type": "groundtruth/x", "human-annotated": "no"}',
        '"label": {"a": 1, "a": 2}, "label": 3',
        '"boxes": [[1, 2], {"x": null}], "weight": NaN',
        '"size": 5, "output": "x", "etag": "y", "relative": "z"',
        '"source": "camera-3"',
        f'"{"k" * 5_000}": 1',
        '"": ""',
    ],
    ids=["Ground Truth's", "twice", "nested", "words of a plan", "source beside source-ref", "long", "empty"],
)
def test_labels_as_in_practice_are_passed_over(labels: str) -> None:
    entry = entry_of_line(f'{{"source-ref": "s3://b/k", {labels}}}', number=1, target_models=True)
    assert entry is not None
    assert entry.input == BatchInput(source="s3://b/k")
    assert entry.passed_over


def edits_of(key: str) -> st.SearchStrategy[str]:
    """Return texts that are one edit away from a key, or that are spelled with other separators or case."""
    index, letter = st.integers(0, len(key) - 1), st.sampled_from(string.ascii_lowercase)
    return st.one_of(
        index.map(lambda cut: key[:cut] + key[cut + 1 :]),
        st.builds(lambda cut, new: key[:cut] + new + key[cut:], index, letter),
        st.builds(lambda cut, new: key[:cut] + new + key[cut + 1 :], index, letter),
        st.sampled_from(
            [key.replace("-", "_"), key.replace("-", ""), key.replace("-", " "), key.upper(), key.title()]
        ),
    ).filter(lambda edited: edited != key)


@given(
    st.sampled_from(["source-ref", "content-type", "custom-attributes", "target-model"]).flatmap(
        lambda key: st.tuples(st.just(key), edits_of(key))
    )
)
def test_a_key_one_edit_away_is_refused_with_the_right_spelling(keys: tuple[str, str]) -> None:
    meant, written = keys
    line = json.dumps({"source-ref": "s3://b/k", written: "x"})
    with pytest.raises(InvalidRequest, match=f"line 3 of the manifest has the key .*: write '{meant}'"):
        entry_of_line(line, number=3, target_models=True)


@pytest.mark.parametrize("name", ["target_model", "targetmodel", "TargetModel", "target-models"])
def test_a_misspelled_target_model_is_refused_in_an_asynchronous_batch_as_well(name: str) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"the key '{name}': an asynchronous endpoint has no target models"
    ):
        entry_of_line(json.dumps({"source-ref": "s3://b/k", name: "m"}), number=1)


def test_records_within_the_manifest_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        InvalidRequest, match=r"line 2 of the manifest has a record of its own in 'source'.*list those"
    ) as refused:
        entry_of_line('{"source": "secret words", "label": 0}', number=2)
    assert "secret" not in str(refused.value)


def test_no_repr_shows_custom_attributes() -> None:
    assert "secret" not in repr(BatchInput(source="s3://b/k", custom_attributes="secret"))


@pytest.mark.parametrize("line", ["", "\n", "  \t\r\n", "\ufeff"])
def test_an_empty_line_is_no_input(line: str) -> None:
    assert entry_of_line(line, number=1) is None


def test_a_byte_order_mark_before_the_first_line_is_passed_over() -> None:
    line = '\ufeff{"source-ref": "s3://b/k"}'
    assert entry_of_line(line, number=1) == ManifestEntry(
        position="line 1", input=BatchInput(source="s3://b/k")
    )
    with pytest.raises(InvalidRequest, match="line 2 of the manifest is not JSON"):
        entry_of_line(line, number=2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("s3://b/k", "is not JSON"),
        ('{"source-ref": "s3://b/k"', "is not JSON"),
        ('[{"prefix": "s3://b/"}, "k"]', "is a JSON list, not an object"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 5_000, "is not JSON"),
        ("null", "is a JSON NoneType"),
        ("{}", "has no source-ref"),
        ('{"source-ref": null}', "source-ref must be a text, not NoneType"),
        ('{"source-ref": ""}', "source-ref must be a text, not empty"),
        ('{"source-ref": "s3://b/k", "content-type": 5}', "content-type must be a text, not int"),
        ('{"source-ref": "s3://b/k", "content-type": "text/csv\\n"}', "content-type 'text/csv.*not allowed"),
        ('{"source-ref": "s3://b/k", "content-type": "text/csv "}', "content-type 'text/csv '.*at its end"),
        ('{"source-ref": "s3://b/k", "custom-attributes": "a "}', "begin or end with a space"),
        ('{"source-ref": "s3://b/k", "custom-attributes": ["x"]}', "custom-attributes must be a text, not"),
        ('{"source-ref": "s3://b/k", "sourceref": 1, "x": 2}', "the key 'sourceref': write 'source-ref'"),
        ('{"labels": [1]}', "has no source-ref"),
        ('{"source-ref": "s3://b/k", "source-ref": "s3://b/l"}', "'source-ref' more than once"),
        (
            '{"source-ref": "s3://b/k", "label": 1, "content-type": "a/b", "content-type": "a/b"}',
            "'content-type' more than once",
        ),
        ('{"source-ref": "s3://b/' + "k" * 1_048_576 + '"}', "is longer than 1048576 characters"),
    ],
)
def test_a_bad_line_is_named_by_number_and_reason(line: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"line 12\b.*{reason}"):
        entry_of_line(line, number=12)


@pytest.mark.parametrize("source", ["b/k", "https://b/k", "s3://", "s3://b", "s3://b/", "s3://b/k/"])
def test_a_source_must_be_one_object_in_s3(source: str) -> None:
    with pytest.raises(InvalidS3Uri, match="line 3 of the manifest: source-ref"):
        entry_of_line(json.dumps({"source-ref": source}), number=3)


def test_half_a_character_is_no_source() -> None:
    """JSON can encode it, UTF-8 cannot."""
    with pytest.raises(InvalidS3Uri, match=r"line 2 .*surrogate") as refused:
        entry_of_line('{"source-ref": "s3://b/\\ud83d"}', number=2)
    assert str(refused.value).isascii()
    entry = entry_of_line('{"source-ref": "s3://b/\\ud83d\\ude00"}', number=2)
    assert entry == ManifestEntry(position="line 2", input=BatchInput(source="s3://b/😀"))


@pytest.mark.parametrize(
    "line",
    [
        '{"source-ref": "s3://b/k", "custom-attributes": "secret-1\\n"}',
        '{"source-ref": "s3://b/k", "custom-attributes": "secret-1"',
        '{"source-ref": "nowhere", "custom-attributes": "secret-1"}',
        '{"source-ref": "s3://b/k", "custom-attributes": {"a": "secret-1"}}',
        '{"custom-attributes": "secret-1"}',
        '{"source-ref": "s3://b/k", "custom-attributes": "a", "custom-attributes": "secret-1"}',
        '{"source-ref": "s3://b/k", "custom-attributes": "secret-1", "content_type": 1}',
    ],
)
def test_no_message_shows_custom_attributes(line: str) -> None:
    with pytest.raises(InvalidRequest, match=r"line 1\b") as refused:
        entry_of_line(line, number=1)
    assert "secret-1" not in str(refused.value)


def test_an_input_over_the_limit_is_refused_with_object_size_limit_and_remedy() -> None:
    most = ASYNC_LIMITS.most_bytes
    assert most is not None
    assert ASYNC_LIMITS.check(BatchInput(source="s3://b/k", size=most)).size == most
    with pytest.raises(
        InvalidRequest,
        match=f"the input s3://b/k has {most + 1} bytes, SageMaker takes up to {most}: split it",
    ):
        ASYNC_LIMITS.check(BatchInput(source="s3://b/k", size=most + 1))


def test_an_input_of_a_multi_model_batch_can_have_any_size_and_name() -> None:
    item = BatchInput(source="s3://b/" + "ü" * 2_000, size=2**50)
    assert MULTI_MODEL_LIMITS.check(item) is item


def test_a_location_may_have_1024_characters() -> None:
    longest = "s3://b/" + "k" * (1_024 - len("s3://b/"))
    assert ASYNC_LIMITS.check(BatchInput(source=longest)).source == longest
    with pytest.raises(
        InvalidRequest, match="has 1025 characters, SageMaker takes up to 1024: use a shorter"
    ):
        ASYNC_LIMITS.check(BatchInput(source=f"{longest}k"))


@pytest.mark.parametrize(
    ("key", "code"), [("Zürich", "00FC"), ("a\nb", "000A"), ("a ", "0020"), ("€", "20AC")]
)
def test_a_location_that_no_header_carries_is_refused(key: str, code: str) -> None:
    item = BatchInput(source=f"s3://b/{key}")
    with pytest.raises(InvalidRequest, match=rf"holds U\+{code}.*rename the object"):
        ASYNC_LIMITS.check(item)
    assert InputLimits(most_bytes=1, remedy="").check(item) is item


def test_a_space_inside_a_location_is_fine() -> None:
    item = BatchInput(source="s3://b/my file.csv")
    assert ASYNC_LIMITS.check(item) is item


def test_custom_attributes_are_checked_with_the_inputs_name_and_without_their_value() -> None:
    with pytest.raises(InvalidCustomAttributes, match="the input s3://b/k: character 7") as refused:
        ASYNC_LIMITS.check(BatchInput(source="s3://b/k", custom_attributes="secretü"))
    assert "secret" not in str(refused.value)
