"""Environments for asynchronous inference: the published values, which never replace the user's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.containers import PRESETS, with_preset

names = st.sampled_from(sorted({key for preset in PRESETS.values() for key in preset} | {"OTHER"}))
environments = st.dictionaries(names, st.text(max_size=5))


@pytest.mark.parametrize(
    ("preset", "entries"),
    [
        (
            "torchserve",
            {
                "TS_MAX_REQUEST_SIZE": "100000000",
                "TS_MAX_RESPONSE_SIZE": "100000000",
                "TS_DEFAULT_RESPONSE_TIMEOUT": "1000",
            },
        ),
        (
            "mms",
            {
                "MMS_MAX_REQUEST_SIZE": "1000000000",
                "MMS_MAX_RESPONSE_SIZE": "1000000000",
                "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
            },
        ),
        (
            "huggingface",
            {
                "MMS_MAX_REQUEST_SIZE": "2000000000",
                "MMS_MAX_RESPONSE_SIZE": "2000000000",
                "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
            },
        ),
    ],
)
def test_each_serving_stack_has_its_variables(preset: str, entries: dict[str, str]) -> None:
    assert with_preset(None, preset) == entries


@given(environments, st.sampled_from(sorted(PRESETS)))
def test_the_users_variables_stay_and_the_preset_adds_the_rest(
    environment: dict[str, str], preset: str
) -> None:
    before = dict(environment)
    made = with_preset(environment, preset)
    assert made == {**PRESETS[preset], **environment}
    assert environment == before


@given(environments, environments, st.sampled_from(sorted(PRESETS)))
def test_variables_set_elsewhere_are_left_alone(
    environment: dict[str, str], elsewhere: dict[str, str], preset: str
) -> None:
    made = with_preset(environment, preset, kept=elsewhere)
    assert {key: made.get(key) for key in elsewhere} == {key: environment.get(key) for key in elsewhere}
    assert set(PRESETS[preset]) <= {*made, *elsewhere}


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InvalidRequest, match="serving_preset must be one of torchserve, mms, huggingface, not 'ts'"
    ):
        with_preset({}, "ts")
