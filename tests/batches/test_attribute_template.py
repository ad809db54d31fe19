from __future__ import annotations

import pytest

from airflow_sm_plugin.batches.templates import attribute_fields, attributes_of, check_template
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest

SOURCE = "s3://bucket/in/store=7/day.csv"


def test_fields_are_the_run_the_source_the_record_and_the_key() -> None:
    fields = attribute_fields(SOURCE, {"run": "manual__2026-01-01T00:00:00+00:00"})
    attributes = attributes_of("{run} {source} {first_record} {store} {stem}", fields, first_record=12)
    assert attributes == f"manual__2026-01-01T00:00:00+00:00 {SOURCE} 12 7 day"


@pytest.mark.parametrize(("relative", "expected"), [(None, "in/store=7/day.csv"), ("day.csv", "day.csv")])
def test_the_relative_key_is_the_inputs_own(relative: str | None, expected: str) -> None:
    fields = attribute_fields(SOURCE, {}, relative=relative)
    assert attributes_of("{relative}", fields, first_record=0) == expected


def test_characters_that_a_header_cannot_carry_are_percent_encoded() -> None:
    fields = attribute_fields("s3://bucket/in/Müller.csv", {})
    assert attributes_of("{stem}", fields, first_record=0) == "M%C3%BCller"


def test_given_fields_go_before_those_of_the_key() -> None:
    fields = attribute_fields("s3://bucket/run=7/day.csv", {"run": "mine"})
    assert attributes_of("{run}", fields, first_record=0) == "mine"


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="shop"):
        attributes_of("{shop}", attribute_fields(SOURCE, {}), first_record=0)


def test_long_attributes_are_refused_without_showing_them() -> None:
    with pytest.raises(InvalidCustomAttributes) as caught:
        attributes_of("s" * 2_000, attribute_fields(SOURCE, {}), first_record=0)
    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("template", ["{", "{run!r}", "{run:>10}", "{}", "{run.x}"])
def test_a_template_that_is_none_is_refused_before_any_key_is_known(template: str) -> None:
    with pytest.raises(InvalidRequest):
        check_template(template, argument="custom_attributes") if template != "{run.x}" else attributes_of(
            template, attribute_fields(SOURCE, {"run": "r"}), first_record=0
        )


def test_a_well_formed_template_passes_whatever_it_names() -> None:
    check_template("{anything} {store_id}", argument="custom_attributes")
