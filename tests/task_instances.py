"""A task instance that stores XComs as the installed Airflow does: a value comes back serialised and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import BaseOperator, XCom

if TYPE_CHECKING:
    from airflow.sdk.definitions.mappedoperator import is_mappable_value
    from airflow.sdk.exceptions import UnmappableXComTypePushed, XComForMappingNotPushed
    from airflow.sdk.execution_time.comms import SetXCom, XComResult, _RequestFrame

    WRONG_OUTPUTS: type[Exception]
else:
    try:
        from airflow.sdk.definitions.mappedoperator import is_mappable_value
        from airflow.sdk.exceptions import UnmappableXComTypePushed, XComForMappingNotPushed
        from airflow.sdk.execution_time.comms import SetXCom, XComResult, _RequestFrame

        WRONG_OUTPUTS = TypeError
    except ImportError:  # Airflow 2.11
        from airflow.exceptions import AirflowException, UnmappableXComTypePushed, XComForMappingNotPushed
        from airflow.models.taskinstance import _is_mappable_value as is_mappable_value

        WRONG_OUTPUTS = AirflowException
        SetXCom = None

RETURN_VALUE = "return_value"
"""The key of what a task returns."""


@dataclass
class TaskInstanceDouble:
    """The used part of Airflow's task instance; ``xcom`` holds the values that other tasks pull."""

    dag_id: str = "a_dag"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    task_id: str = "a_task"
    map_index: int = -1
    try_number: int = 1
    xcom: dict[str, Any] = field(default_factory=dict)

    @property
    def is_mapped(self) -> bool:
        """Check whether it is one of many of its task."""
        return self.map_index >= 0

    def xcom_push(self, key: str, value: object) -> None:
        """Store a value.

        :raises Exception: as in Airflow, where it cannot be serialised, sent, or read again
        """
        about = {"key": key, "dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id}
        serialised = XCom.serialize_value(value, **about, map_index=self.map_index)
        if SetXCom is None:
            self.xcom[key] = XCom.deserialize_value(SimpleNamespace(value=serialised))
        else:
            self.store(SetXCom.model_validate(about | {"value": serialised, "map_index": self.map_index}))

    def store(self, message: SetXCom) -> None:
        """Store what a task of Airflow 3 sends: MessagePack to its supervisor, which sends JSON to the API server."""
        import httpx
        import msgspec

        frame = bytes(_RequestFrame(id=0, body=message.model_dump()).as_bytes()[4:])  # after its length
        received = SetXCom.model_validate(msgspec.msgpack.decode(frame, type=_RequestFrame).body)
        body = httpx.Request("POST", "http://api-server/execution/", json=received.value).content
        stored = XComResult(key=received.key, value=json.loads(body) if body else None)
        self.xcom[received.key] = None if stored.value is None else XCom.deserialize_value(stored)

    def push_result(self, task: BaseOperator, result: object) -> None:
        """Store what a task returned, as Airflow does when its process ends: nothing for None, and each of several.

        :raises Exception: as in Airflow, where the result is not what the task, or a task mapped over it, needs
        """
        value = result if task.do_xcom_push else None
        if task.has_dag() and not self.is_mapped and next(task.iter_mapped_dependants(), None) is not None:
            if value is None:
                raise XComForMappingNotPushed
            if not is_mappable_value(value):
                raise UnmappableXComTypePushed(value)
        if value is None:
            return
        if task.multiple_outputs:
            for key, output in _outputs(value).items():
                self.xcom_push(key, output)
        self.xcom_push(RETURN_VALUE, value)


def _outputs(result: object) -> Mapping[str, object]:
    if not isinstance(result, Mapping):
        raise WRONG_OUTPUTS(
            f"Returned output was type {type(result)} expected dictionary for multiple_outputs"
        )
    for key in result:
        if not isinstance(key, str):
            raise WRONG_OUTPUTS(
                "Returned dictionary keys must be strings when using multiple_outputs, "
                f"found {key} ({type(key)}) instead"
            )
    return result
