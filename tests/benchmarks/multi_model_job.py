"""A batch over the stub's models: its inputs, its settings, its plan, and what its outputs must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
from airflow_sm_plugin.killable import quick_loop
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.shard import FinishedShard, ShardSettings, run_shard
from tests.benchmarks.measured import client_libraries, note_client
from tests.stubs.endpoint import BUCKET, ENDPOINT, StubServer
from tests.stubs.models import EndpointSettings
from tests.stubs.objects import records

CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")
CONTENT_TYPE = "text/csv"
Result = TypeVar("Result")
ANSWER_BYTES = EndpointSettings.answer_bytes


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of a process.

    :param name: of the folder of its outputs
    :param models: so many, each with ``inputs`` of ``records``
    :param max_records: of a MultiRecord payload; None sends each record by itself
    :param max_warm_models: as the engine's
    :param checkpoint_seconds: as the engine's
    """

    name: str
    models: int = 20
    inputs: int = 1
    records: int = 600
    record_bytes: int = 1_024
    in_flight: int = 64
    max_records: int | None = None
    max_warm_models: int | None = None
    checkpoint_seconds: float = EngineSettings.checkpoint_seconds
    run: str = "1"

    @property
    def total(self) -> int:
        """All records."""
        return self.models * self.inputs * self.records

    def input_keys(self) -> list[str]:
        """Return the inputs' keys, model by model."""
        return [
            f"in/model=m-{model:03}/part-{number:05}.csv"
            for model in range(self.models)
            for number in range(self.inputs)
        ]

    def output_key(self, key: str) -> str:
        """Return where the output of an input lies."""
        return f"out-{self.name}/{key.removeprefix('in/')}.out"

    def target_model(self, key: str) -> str:
        """Return an input's model."""
        return f"{key.split('/')[1].removeprefix('model=')}.tar.gz"

    def split(self) -> SplitOptions:
        """Return how inputs become payloads."""
        if self.max_records is None:
            return SplitOptions()
        return SplitOptions(batch_strategy="MultiRecord", max_records=self.max_records)

    def as_json(self) -> str:
        """Return it for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read :meth:`as_json`."""
        return cls(**json.loads(text))

    # In the process that measures

    def fill(self, server: StubServer) -> None:
        """Have the models' artefacts and the inputs, and nothing else."""
        server.forget()
        artefacts = {f"models/{self.target_model(key)}" for key in self.input_keys()}
        server.fill(sorted(artefacts), records=1, record_bytes=16)
        server.fill(self.input_keys(), records=self.records, record_bytes=self.record_bytes)

    def lost(self, server: StubServer) -> int:
        """Return how many records are not where they must be in the outputs, compared byte by byte."""
        lost = 0
        outputs = server.read([self.output_key(key) for key in self.input_keys()])
        for index, output in enumerate(outputs):
            sent = records(index * self.records, self.records, self.record_bytes).splitlines()
            got = output.splitlines()
            same = sum(one[:ANSWER_BYTES] == other for one, other in zip(sent, got, strict=False))
            lost += max(self.records, len(got)) - same
        return lost

    # In the process that is measured

    async def plan(self) -> str:
        """Plan the batch, and return where the plan lies."""
        settings = PlanSettings(
            endpoint_name=ENDPOINT,
            source=InputSource(location=f"s3://{BUCKET}/in/"),
            outputs=f"s3://{BUCKET}/out-{self.name}",
            owner="owner",
            target_model="{model}.tar.gz",
            max_shards=1,
            writer=StateWriter(run=self.run),
            check_models=False,
        )
        async with S3Objects.open(CONNECTION) as s3:
            _, folder = await make_plan(s3, settings, None)
        return folder.location

    async def note_client(self) -> str:
        """Name what carries the batch's invocations, also for the figures of this process."""
        async with EndpointInvoker.open(CONNECTION, ENDPOINT, max_connections=1) as invoker:
            await note_client(invoker.carrier)
            return await client_libraries(invoker.carrier)

    async def batch(self, plan: str) -> FinishedShard:
        """Do the batch with our engine."""
        engine = EngineSettings(
            endpoint_name=ENDPOINT,
            content_type=CONTENT_TYPE,
            accept=CONTENT_TYPE,
            split=self.split(),
            max_concurrent_transforms=self.in_flight,
            max_warm_models=self.max_warm_models,
            checkpoint_seconds=self.checkpoint_seconds,
        )
        settings = ShardSettings(plan_location=plan, shard=0, engine=engine, writer=StateWriter(run=self.run))
        return await run_shard(CONNECTION, settings)


def run_as_a_task_does(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it as the operator does: on a quick event loop."""
    with asyncio.Runner(loop_factory=quick_loop) as runner:
        return runner.run(work)
