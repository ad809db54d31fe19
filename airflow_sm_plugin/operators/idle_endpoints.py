"""Delete the SageMaker endpoints that DAGs made and that are no longer invoked."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, base_url, count_dag_runs
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.core.input_selection import patterns
from airflow_sm_plugin.core.template_values import boolean, seconds
from airflow_sm_plugin.exceptions import AccessDenied, SageMakerInferenceError, TaskKilled
from airflow_sm_plugin.resources.made_in import MadeIn, airflow_site, is_distinct

if TYPE_CHECKING:
    from airflow_sm_plugin.endpoints.idle_deletion import IdleEndpoints
    from airflow_sm_plugin.endpoints.idleness import IdleDecision, RunState, SeenEndpoint

_ENDED = ("success", "failed")
_COLUMNS = ("endpoint", "status", "idle_since", "decision", "reason")


class SageMakerDeleteIdleEndpointsOperator(SageMakerInferenceOperator):
    """Delete endpoints that our operators made, that were not invoked for some hours, and whose DAG run has ended.

    By default it is a dry run, which deletes nothing: the log has a table of all endpoints that our operators made,
    each with the decision and its reason. It also completes what a killed worker left behind: endpoints that are
    Failed, and configurations whose endpoint does not exist.

    An endpoint is deleted only if all of this holds, and again immediately before the deletion:

    - its tags (``airflow-sm-plugin:created-by``, ``created-in``) name the task instance that made it, and it has a
      configuration that our operators made for it;
    - it is InService, Failed, OutOfService or UpdateRollbackFailed, and has been neither created nor modified (scaled,
      updated) in these hours;
    - the DAG run of that task, and of the task that deployed to it last, ended with success or failure, or does not
      exist any more, in this Airflow: the tags have a digest of its ``[api] base_url``, which must not be empty or
      local;
    - CloudWatch counts no invocation in these hours, and, if it is asynchronous, no request in its queue.

    What cannot be read is no reason to delete. With the endpoint, its scaling and the configurations that were made for
    it are deleted. An endpoint deployed with ``cleanup_on_failure=False`` has no tags, and stays.

    Needs ``tag:GetResources``, ``cloudwatch:GetMetricData``, ``sagemaker:ListEndpoints``, ``ListTags``,
    ``DescribeEndpoint``, ``DescribeEndpointConfig`` and ``ListEndpointConfigs``; to delete, what
    ``SageMakerDeleteEndpointOperator`` needs.

    Returns on XCom: ``{"dry_run", "endpoints": [{"endpoint", "status", "idle_since", "hours", "dag_id", "run_id",
    "task_id", "decision": "delete" | "keep" | "deleted", "reason"}, ...], "deleted": ["endpoint …", ...]}``.
    ``idle_since`` is the latest creation, change or invocation that is known; ``hours`` is the time since then.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param idle_hours: hours without any invocation; default 24
    :param dry_run: only report; default True
    :param delete_models: also delete the models that the deleted configurations name and our operators created, unless
        another endpoint uses them; default False, since models cost nothing and other DAGs may deploy them
    :param exclude: names, or patterns with ``*`` and ``?``, of endpoints to keep; default none. An endpoint that is
        used on working days only needs this, or more ``idle_hours``
    :param delete_of_unknown_dags: a DAG without any run in this Airflow counts as ended, and so does every run of an
        Airflow without a ``base_url`` of its own; default False, since another Airflow may have the run
    :param max_wait_seconds: for the deletion of each endpoint; default 600
    :param poll_interval: default 10
    """

    not_templated = ()

    def __init__(
        self,
        *,
        idle_hours: float | str = 24,
        dry_run: bool | str = True,
        delete_models: bool | str = False,
        exclude: Sequence[str] | str | None = None,
        delete_of_unknown_dags: bool | str = False,
        max_wait_seconds: float | str = 600,
        poll_interval: float | str = 10,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.idle_hours = idle_hours
        self.dry_run = dry_run  # type: ignore[assignment,method-assign]  # the base has a method of that name
        self.delete_models = delete_models
        self.exclude = exclude
        self.delete_of_unknown_dags = delete_of_unknown_dags
        self.max_wait_seconds = max_wait_seconds
        self.poll_interval = poll_interval

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_sm_plugin.endpoints.idle_deletion import IdleEndpoints

        with self.reading_arguments():
            idle_seconds = seconds(self.idle_hours, "idle_hours", positive=True) * 3600
            is_dry = boolean(self.dry_run, "dry_run")
            how = {
                "with_models": boolean(self.delete_models, "delete_models"),
                "max_wait": seconds(self.max_wait_seconds, "max_wait_seconds"),
                "poll_interval": seconds(self.poll_interval, "poll_interval", positive=True),
            }
            with_unknown_dags = boolean(self.delete_of_unknown_dags, "delete_of_unknown_dags")
            run_state = functools.partial(state_of_run, with_unknown_dags=with_unknown_dags)
            idle = IdleEndpoints(self.aws, self.control_plane(), run_state, idle_seconds)
            excluded = patterns(self.exclude, "exclude")
            rows = [self._row(idle, name, excluded) for name in idle.names()]
            self._log_table(rows)
            deleted: list[str] = []
            failures: list[SageMakerInferenceError] = []
            for row in rows if not is_dry else ():
                if row["decision"] == "delete":
                    failures += self._delete(idle, row, deleted, how)
            self._log_end(rows, deleted, is_dry=is_dry)
            if failures:
                raise _combined(failures)
            return {"dry_run": is_dry, "endpoints": rows, "deleted": deleted}

    def _row(self, idle: IdleEndpoints, name: str, excluded: Sequence[str]) -> dict[str, Any]:
        if any(fnmatchcase(name, pattern) for pattern in excluded):
            return {"endpoint": name, "status": None, "decision": "keep", "reason": "excluded"}
        try:
            return row_of(*idle.see(name))
        except AccessDenied as denied:
            return {
                "endpoint": name,
                "status": None,
                "decision": "keep",
                "reason": f"not known: {denied.as_sentence}",
            }

    def _delete(
        self, idle: IdleEndpoints, row: dict[str, Any], deleted: list[str], how: Mapping[str, Any]
    ) -> list[SageMakerInferenceError]:
        name = row["endpoint"]
        try:
            gone, reason = idle.delete(name, **how)
        except TaskKilled:
            raise
        except SageMakerInferenceError as error:
            self.log.warning("endpoint %s could not be deleted: %s", name, error)
            row["reason"] = f"could not be deleted: {error.as_sentence}"
            return [error]
        deleted += gone
        row["decision"] = "keep" if reason else "deleted"
        if reason:
            row["reason"] = reason
            self.log.info("endpoint %s stays: %s", name, reason)
        return []

    def _log_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = [dict.fromkeys(_COLUMNS), *rows] if rows else []
        cells = [
            [str((row.get(name) if number else name) or "-") for name in _COLUMNS]
            for number, row in enumerate(lines)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            # One argument is one line, whatever it holds.
            self.log.info("%s", "  ".join(map(str.ljust, line, widths)).rstrip())

    def _log_end(self, rows: Sequence[Mapping[str, Any]], deleted: Sequence[str], *, is_dry: bool) -> None:
        idle = [row["endpoint"] for row in rows if row["decision"] == "delete"]
        if not rows:
            self.log.info("there is no endpoint that our operators made")
        elif is_dry and idle:
            self.log.info(
                "dry run, nothing was deleted: dry_run=False deletes %d of %d: %s",
                len(idle),
                len(rows),
                ", ".join(idle),
            )
        elif is_dry:
            self.log.info("dry run: none of these %d would be deleted", len(rows))
        else:
            self.log.info("deleted: %s", ", ".join(deleted) or "nothing")


def row_of(seen: SeenEndpoint, decision: IdleDecision) -> dict[str, Any]:
    since, made_in = seen.idle_since, seen.made_in
    now = datetime.now(UTC).timestamp()
    if since is not None:
        since = min(since, now)
    return {
        "endpoint": seen.name,
        "status": seen.status or "does not exist",
        "idle_since": None
        if since is None
        else datetime.fromtimestamp(since, UTC).isoformat(timespec="minutes"),
        "hours": None if since is None else round((now - since) / 3600, 1),
        "dag_id": made_in.dag_id if made_in else None,
        "run_id": made_in.run_id if made_in else None,
        "task_id": made_in.task_id if made_in else None,
        "decision": "delete" if decision.delete else "keep",
        "reason": decision.reason,
    }


def state_of_run(made_in: MadeIn, *, with_unknown_dags: bool) -> RunState:
    """Ask Airflow for the state of a task instance's DAG run."""
    from airflow_sm_plugin.endpoints.idleness import RunState

    if made_in.site != airflow_site(base_url()):
        return RunState.ELSEWHERE
    dag_id, run_id = made_in.dag_id, made_in.run_id
    if count_dag_runs(dag_id, run_id=run_id) > count_dag_runs(dag_id, run_id=run_id, states=_ENDED):
        return RunState.ACTIVE
    if with_unknown_dags:
        return RunState.ENDED
    if not is_distinct(base_url()):  # scheduled runs have the same ids in every Airflow
        return RunState.UNKNOWN_AIRFLOW
    return RunState.ENDED if count_dag_runs(dag_id) else RunState.UNKNOWN_DAG


def _combined(failures: Sequence[SageMakerInferenceError]) -> SageMakerInferenceError:
    """Combine errors into one, which Airflow retries if that can help with any of them."""
    kind = type(next((error for error in failures if error.retryable), failures[0]))
    return kind(*[error.as_sentence for error in failures])
