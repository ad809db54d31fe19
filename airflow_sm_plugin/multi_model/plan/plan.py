"""The plan of a multi-model batch as it is stored in S3: a summary of the plan, and the work of each shard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.exceptions import ResourceConflict

FORMAT = 2
"""Format number of a plan and of all state below it. A version that cannot read older state has another number."""

_Json = bytes  # the name means a count in the classes below
_State = TypeVar("_State")


class ModelWork(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The inputs of one model in a shard: entries ``first`` … ``first + count - 1`` of the shard.

    :param target_model: path below the endpoint's model prefix
    :param bytes: of the inputs whose size is known
    :param missing: the check found no artefact
    """

    target_model: str
    first: int
    count: int
    bytes: int
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The work of one shard.

    :param number: from 0
    :param inputs: count of entries; each has one model
    :param bytes: of the inputs whose size is known
    :param models: the largest first, so that no long one comes last; their entries follow one another
    """

    number: int
    inputs: int
    bytes: int
    models: tuple[ModelWork, ...]

    def as_json(self) -> _Json:
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, body: _Json) -> ShardPlan:
        return msgspec.json.decode(body, type=cls)

    def reference(self, plan_location: str) -> dict[str, Any]:
        """Return the shard's XCom reference."""
        return {
            "plan_location": plan_location,
            "shard": self.number,
            "inputs": self.inputs,
            "models": len(self.models),
            "bytes": self.bytes,
        }


@dataclass(frozen=True, kw_only=True)
class MultiModelPlan:
    """The summary of a plan.

    :param number: 0 for the first; inputs that have changed make the next
    :param nonce: unique to the plan, even among equal plans; identifies its folder, outputs and reports
    :param outputs: ``s3://bucket/prefix`` of the results
    :param digest: of every input with its ETag, target model and output name, in order, carried inputs included
    :param inputs: to be processed, over all shards
    :param bytes: of these, as far as their size is known
    :param models: distinct target models of these
    :param missing_models: those of the models for which the check found no artefact, sorted
    :param carried: unchanged inputs that an earlier plan has processed
    :param passed_over: objects below the inputs' prefix that were no inputs
    :param created_at: ISO 8601
    :param writer: the task try that made the plan
    :param earlier: locations of the plans whose results count beside this plan's, the earliest first: none from before
        a restart, or of a deleted DAG run
    """

    format: int = FORMAT
    number: int
    nonce: str
    endpoint_name: str
    outputs: str
    digest: str
    inputs: int
    bytes: int
    models: int
    shards: int
    missing_models: tuple[str, ...] = ()
    carried: int = 0
    passed_over: int = 0
    created_at: str
    writer: StateWriter = field(default_factory=StateWriter)
    earlier: tuple[str, ...] = ()

    def as_json(self) -> _Json:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    def summary(self, plan_location: str) -> dict[str, Any]:
        """Return the plan's XCom value: small, whatever the number of models."""
        return {
            "plan_location": plan_location,
            "inputs": self.inputs,
            "models": self.models,
            "shards": self.shards,
            "bytes": self.bytes,
            "carried": self.carried,
            "missing_models": len(self.missing_models),
            "passed_over": self.passed_over,
        }


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An entry of the log of plans: the choice of a plan.

    :param number: from 0
    :param writer: the task try that chose the plan; not always the try that made the plan
    """

    format: int = FORMAT
    number: int
    plan_location: str
    writer: StateWriter


def read_state(body: bytes, kind: type[_State], *, location: str, batch: str) -> _State:
    """Decode a plan, or an entry of the log of plans.

    :param location: of the object
    :param batch: the folder of all plans of the batch
    :raises ResourceConflict: another version of this package wrote the object
    """
    try:
        stored_format: object = msgspec.json.decode(body, type=_Header).format
    except msgspec.MsgspecError:
        stored_format = "unknown"
    if stored_format != FORMAT:
        raise ResourceConflict(
            f"another version of airflow-sm-plugin began the batch in {batch}: {location} has format {stored_format}, "
            f"this version reads {FORMAT}",
            do=f"finish the batch with that version, or delete {batch} and clear the task that plans: then everything "
            f"is processed again",
        )
    return msgspec.json.decode(body, type=kind)


class _Header(msgspec.Struct):
    format: int = 1  # state of the first format has no number
