"""The note of a deferred deployment survives Airflow's database."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.endpoints.options import DeploymentNote

NOTES = st.builds(
    DeploymentNote,
    action=st.sampled_from([None, "created", "updated", "unchanged"]),
    created=st.lists(st.sampled_from(["endpoint", "endpoint configuration"])).map(tuple),
    touched=st.booleans(),
    failed_updates=st.integers(0, 3),
    may_be_updating=st.booleans(),
    deadline=st.none() | st.floats(0, 4e9),
    created_at=st.none() | st.floats(0, 4e9),
    replaced_config=st.none() | st.sampled_from(["", "churn-1"]),
    models_created_at=st.dictionaries(st.text(max_size=5), st.floats(0, 4e9), max_size=3),
    taken_down=st.lists(st.text(max_size=5), max_size=3).map(tuple),
)


@given(NOTES)
def test_a_note_comes_back_as_it_was_written(note: DeploymentNote) -> None:
    assert DeploymentNote.from_mapping(json.loads(json.dumps(note.as_mapping()))) == note
