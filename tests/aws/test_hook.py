"""Sessions of the hooks: what they share, and what they take from botocore's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from airflow_sm_plugin.aws.hook import AwsHook


def loader_of(hook: AwsHook) -> Any:  # noqa: ANN401 - botocore has no annotations
    return hook.get_session()._session.get_component("data_loader")


def test_sessions_share_what_botocore_reads_of_its_services() -> None:
    first = AwsHook(aws_conn_id=None, region_name="us-east-1", client_type="s3")
    second = AwsHook(aws_conn_id=None, region_name="eu-west-1", client_type="s3")
    shape = "ListObjectsV2Output"
    assert loader_of(first) is loader_of(second)
    models = [cast("Any", hook.get_conn()).meta.service_model.shape_for(shape) for hook in (first, second)]
    assert models[0].metadata == models[1].metadata
    assert cast("Any", second.get_conn()).meta.region_name == "eu-west-1"


def test_further_folders_of_models_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = loader_of(AwsHook(aws_conn_id=None, client_type="s3"))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    loader = loader_of(AwsHook(aws_conn_id=None, client_type="s3"))
    assert loader is not before
    assert str(tmp_path) in loader.search_paths
