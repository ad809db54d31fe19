"""S3 used once from an event loop, and an S3 whose answers a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from tests.stubs.recorder import Asked, Said, recording

Result = TypeVar("Result")


def run(options: Mapping[str, Any], use: Callable[[S3Objects], Awaitable[Result]]) -> Result:
    async def opened() -> Result:
        async with S3Objects.open(AwsConnection(aws_conn_id=None, botocore_config=options)) as s3:
            return await use(s3)

    return asyncio.run(opened())


def against(
    answer: Callable[[Asked], Said],
    monkeypatch: pytest.MonkeyPatch,
    options: Mapping[str, Any],
    use: Callable[[S3Objects], Awaitable[Result]],
) -> tuple[Result | SageMakerInferenceError, list[Asked]]:
    """Use an S3 whose answers a test decides; return the result or our error, and what was asked."""
    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", recorder.url)
        try:
            return run(options, use), recorder.asked
        except SageMakerInferenceError as error:
            return error, recorder.asked
