"""Settings: what may be set, in Python and over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.server import EmbeddedSageMaker


def _put(url: str, body: bytes) -> dict[str, float]:
    request = urllib.request.Request(f"{url}/_embedded/settings", data=body, method="PUT")
    with urllib.request.urlopen(request) as response:
        changed: dict[str, float] = json.load(response)
        return changed


def test_given_settings_change_and_the_others_stay() -> None:
    settings = Settings()
    settings.change({"automl_seconds": 7})
    assert settings == Settings(automl_seconds=7.0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"automl_seconds": -1}, "'automl_seconds' must be a number of seconds >= 0, not -1"),
        ({"automl_seconds": "1"}, "not '1'"),
        ({"automl_seconds": True}, "not True"),
        ({"automl_minutes": 1}, "unknown setting 'automl_minutes'; known are "),
    ],
)
def test_a_bad_value_changes_nothing_and_is_named(values: dict[str, object], says: str) -> None:
    settings = Settings()
    with pytest.raises(ValueError, match=says):
        settings.change({"transform_seconds": 9, **values})
    assert settings == Settings()


def test_settings_are_read_and_changed_over_http() -> None:
    with EmbeddedSageMaker() as embedded:
        assert _put(embedded.url, b'{"endpoint_creating_seconds": 1.5}')["endpoint_creating_seconds"] == 1.5
        assert embedded.settings.endpoint_creating_seconds == 1.5
        with urllib.request.urlopen(f"{embedded.url}/_embedded/settings") as response:
            assert json.load(response) == embedded.settings.as_json()
        for body in (b'{"nothing": 1}', b"[]", b"{"):
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                _put(embedded.url, body)
            refused.value.close()
