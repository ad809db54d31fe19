"""A multi-model endpoint on the embedded SageMaker, and batches through it in this process."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.shard import FinishedShard, ShardSettings, run_shard
from tests.support import IMAGE, ROLE, Account, archive, unique

CONNECTION = AwsConnection(aws_conn_id=None)

FIRST = TaskTry(100.0, 1)

NAMED = """
import json

def model_fn(model_dir):
    return open(model_dir + "/name.txt").read()

def transform_fn(model, data, content_type, accept, context):
    rows = [line for line in data.split("\\n") if line]
    sent = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if sent:
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen:" + sent)
    if any("bad" in row for row in rows):
        error = ValueError("a bad record in " + str(len(rows)))
        error.status_code = 400
        raise error
    return "\\n".join(model + "/" + row for row in rows) + "\\n"
"""
"""Answers each record with the model's name before it; refuses payloads with a record that contains ``bad``."""


@dataclass
class MultiModel:
    """A multi-model endpoint and a folder of inputs."""

    account: Account
    name: str
    root: str
    prefix: str
    names: list[str] = field(default_factory=list)

    @classmethod
    def deployed(
        cls, account: Account, models: Iterable[str], code: str = NAMED, *, slash: str = "/"
    ) -> MultiModel:
        """Deploy an endpoint with artefacts ``<model>.tar.gz``; its prefix is spelled with, or without, a slash."""
        root = unique("mm")
        endpoint = cls(account, unique("mm"), f"s3://{account.bucket}/{root}", f"{root}/models/")
        for model in models:
            endpoint.add_model(model, code)
        account.sagemaker.create_model(
            ModelName=endpoint.name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "Mode": "MultiModel",
                "ModelDataUrl": f"s3://{account.bucket}/{endpoint.prefix.rstrip('/')}{slash}",
            },
        )
        account.create_config(endpoint.name, name=endpoint.name)
        account.sagemaker.create_endpoint(EndpointName=endpoint.name, EndpointConfigName=endpoint.name)
        account.wait_for_endpoint(endpoint.name)
        return endpoint

    def add_model(self, model: str, code: str = NAMED) -> None:
        body = archive({"code/inference.py": code, "name.txt": model})
        self.account.s3.put_object(Bucket=self.account.bucket, Key=f"{self.prefix}{model}.tar.gz", Body=body)

    def put(self, model: str, name: str, body: bytes | str) -> None:
        key = f"{self.root.removeprefix(f's3://{self.account.bucket}/')}/in/model={model}/{name}"
        content = body.encode() if isinstance(body, str) else body
        self.account.s3.put_object(Bucket=self.account.bucket, Key=key, Body=content)

    def output(self, model: str, name: str, suffix: str = ".out") -> bytes | None:
        """Read an output; None when there is none."""
        key = f"{self.root.removeprefix(f's3://{self.account.bucket}/')}/out/model={model}/{name}{suffix}"
        try:
            body: bytes = self.account.s3.get_object(Bucket=self.account.bucket, Key=key)["Body"].read()
        except self.account.s3.exceptions.NoSuchKey:
            return None
        return body

    def errors(self, model: str, name: str) -> list[dict[str, Any]]:
        """Read the rows of an input's errors."""
        return [json.loads(line) for line in (self.output(model, name, ".errors.jsonl") or b"").splitlines()]

    def plan(
        self,
        *,
        shards: int = 1,
        run: str = "1",
        task_try: TaskTry = FIRST,
        target_model: str = "{model}.tar.gz",
        **settings: Any,  # noqa: ANN401 - PlanSettings' own
    ) -> str:
        """Plan the inputs, and return the plan's location."""
        plan = PlanSettings(
            endpoint_name=self.name,
            source=InputSource(location=f"{self.root}/in/"),
            outputs=f"{self.root}/out",
            owner="owner",
            target_model=target_model,
            max_shards=shards,
            writer=StateWriter(task_try, run),
            **settings,
        )
        return asyncio.run(self._planned(plan))

    async def _planned(self, plan: PlanSettings) -> str:
        async with S3Objects.open(CONNECTION) as s3:
            _, folder = await make_plan(s3, plan, await EndpointFacts(CONNECTION, self.name).models())
        return folder.location

    def settings(
        self,
        location: str,
        *,
        shard: int = 0,
        run: str = "1",
        task_try: TaskTry = FIRST,
        restart: bool = False,
        **engine: Any,  # noqa: ANN401 - EngineSettings' own
    ) -> ShardSettings:
        given: Mapping[str, Any] = {"content_type": "text/csv", "accept": "text/csv", **engine}
        return ShardSettings(
            plan_location=location,
            shard=shard,
            engine=EngineSettings(endpoint_name=self.name, **given),
            writer=StateWriter(task_try, run),
            restart=restart,
        )

    @contextmanager
    def faults(self, *rules: Mapping[str, Any]) -> Iterator[None]:
        """Apply rules of the fault plan during the block; ``resource`` is this endpoint by default."""
        complete = [{"resource": self.name, **rule} for rule in rules]
        self._ask("POST", "faults", complete)
        try:
            yield
        finally:
            for resource in {str(rule["resource"]) for rule in complete}:
                self._ask("DELETE", f"faults?resource={quote(resource)}")

    def invocations(self) -> list[dict[str, Any]]:
        """List the invocations of this endpoint without an injected fault, from the call log."""
        log = self._ask("GET", f"calls?service=*&operation=InvokeEndpoint&resource={quote(self.name)}")
        return [call for call in log["calls"] if not call["fault"]]

    def calls(self) -> int:
        """Count the calls of all services that have ended."""
        return len(self._ask("GET", "calls?service=*")["calls"])

    def struck(self) -> int:
        """Count how often rules of the fault plan applied."""
        return sum(rule["struck"] for rule in self._ask("GET", "faults")["rules"])

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.account.url}/_embedded/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def run(self, location: str, **settings: Any) -> FinishedShard:  # noqa: ANN401 - as settings()
        """Run a shard in this process."""
        return asyncio.run(run_shard(CONNECTION, self.settings(location, **settings)))


MULTI = SplitOptions(batch_strategy="MultiRecord")
