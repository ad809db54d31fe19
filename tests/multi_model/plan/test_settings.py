"""Each input gets a model and an output name, or the message names the input and the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sm_plugin.batches.inputs import BatchInput, InputSource
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool

KEY = "in/day=1/store_id=7/a.csv"


def settings_of(**changes: object) -> PlanSettings:
    settings = PlanSettings(
        endpoint_name="ratings",
        source=InputSource(location="s3://b/manifest.jsonl", inputs_type="ManifestFile"),
        outputs="s3://b/out/",
        owner="owner",
        target_model="store-{store_id}.tar.gz",
    )
    return replace(settings, **changes)  # type: ignore[arg-type] # a table of changes


def named(
    key: str = KEY,
    *,
    model: str | None = None,
    prefix: str = "in/",
    many_buckets: bool = False,
    **changes: object,
) -> tuple[str | None, str | None]:
    relative = key.removeprefix(prefix) if prefix else None
    entry = BatchInput(source=f"s3://b/{key}", size=5, target_model=model, relative=relative)
    result = settings_of(**changes).checked().named(entry, many_buckets=many_buckets)
    return result.target_model, result.output


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("store-7.tar.gz", "day=1/store_id=7/a.csv")),
        ({"target_model": "{parent}/{stem}"}, ("store_id=7/a", "day=1/store_id=7/a.csv")),
        ({"model": "own.tar.gz"}, ("own.tar.gz", "day=1/store_id=7/a.csv")),
        ({"model": "own.tar.gz", "target_model": None}, ("own.tar.gz", "day=1/store_id=7/a.csv")),
        (
            {"output_name": "{target_model}/{relative}"},
            ("store-7.tar.gz", "store-7.tar.gz/day=1/store_id=7/a.csv"),
        ),
        ({"output_name": "{day}-{store_id}"}, ("store-7.tar.gz", "1-7")),
        ({"prefix": ""}, ("store-7.tar.gz", KEY)),
        ({"prefix": "", "many_buckets": True}, ("store-7.tar.gz", f"b/{KEY}")),
    ],
)
def test_templates_give_model_and_output_and_a_manifests_model_wins(
    changes: dict[str, object], expected: tuple[str, str]
) -> None:
    assert named(**changes) == expected  # type: ignore[arg-type] # a table of changes


def test_the_inputs_other_fields_stay() -> None:
    entry = BatchInput(
        source=f"s3://b/{KEY}", size=5, etag="e", content_type="text/csv", custom_attributes="x"
    )
    result = settings_of().named(entry)
    assert (result.source, result.size, result.etag) == (entry.source, entry.size, entry.etag)
    assert (result.content_type, result.custom_attributes) == (entry.content_type, entry.custom_attributes)


def test_an_input_without_a_model_is_named() -> None:
    with pytest.raises(
        InvalidRequest, match=rf"which model the input s3://b/{KEY} goes to: give target_model"
    ):
        named(target_model=None)


def test_an_unknown_field_is_named_with_the_existing_fields() -> None:
    with pytest.raises(InvalidRequest, match=r"target_model names the field \{shop\}.*store_id"):
        named(target_model="{shop}.tar.gz")
    with pytest.raises(InvalidRequest, match=r"output_name names the field \{shop\}.*target_model"):
        named(output_name="{shop}")


@pytest.mark.parametrize("template", ["{", "{}", "{key!r}"])
def test_a_malformed_template_is_refused_without_an_input(template: str) -> None:
    with pytest.raises(InvalidRequest, match="target_model"):
        settings_of(target_model=template).checked()
    with pytest.raises(InvalidRequest, match="output_name"):
        settings_of(output_name=template).checked()


@pytest.mark.parametrize("model", ["", " a", "a ", "a\n", "a\t", "Zürich", "x" * 1_025])
def test_a_model_that_no_header_carries_is_refused(model: str) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"target model of the input s3://b/{KEY} .*(not allowed|1 to 1024)"
    ):
        named(model=model)
    with pytest.raises(
        InvalidRequest, match=r"target model .* '7 ' is not allowed: it holds U\+0020 at its end"
    ):
        named("in/store_id=7 /a.csv", target_model="{store_id}")
    assert named(model="m" * 1_024)[0] == "m" * 1_024


@pytest.mark.parametrize("name", ["", "/a", "a/", "_batch/a"])
def test_a_reserved_or_malformed_output_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"output name .* of the input s3://b/{KEY} is not allowed"):
        named(output_name=name)


def test_a_key_longer_than_s3_takes_is_refused_beforehand() -> None:
    room = 1_024 - len("out/") - len(".attributes.jsonl")
    assert named(output_name="n" * room)[1] == "n" * room
    for too_long in ("n" * (room + 1), "ü" * (room // 2 + 1)):
        with pytest.raises(InvalidRequest, match=r"too long: .*1024 bytes"):
            named(output_name=too_long)
    assert named(output_name="n" * (room + 4), outputs="s3://b")


@pytest.mark.parametrize(
    ("second", "message"),
    [("s3://b/y", "s3://b/x and s3://b/y would have"), ("s3://b/x", "both entries of s3://b/x would have")],
)
def test_two_inputs_of_one_output_name_are_both_named_with_the_remedy(second: str, message: str) -> None:
    with PlanSpool.opened() as spool:
        for source in ("s3://b/x", second):
            spool.add(BatchInput(source=source, target_model="m", output="n"))
        with pytest.raises(
            InvalidRequest, match=rf"{message} the same name, n: .*\{{target_model\}}/\{{relative\}}"
        ):
            spool.finish()


def test_the_relative_key_of_the_name_is_kept_for_other_templates() -> None:
    """Custom attributes are rendered when the input is read."""
    entry = BatchInput(source=f"s3://b/{KEY}", relative="a.csv")
    assert settings_of().named(entry).relative == "a.csv"
    assert settings_of().named(entry, many_buckets=True).relative == "b/a.csv"
    assert settings_of().named(BatchInput(source=f"s3://b/{KEY}")).relative is None
