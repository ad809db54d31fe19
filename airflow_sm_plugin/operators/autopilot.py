"""Export a candidate of an AutoML job as a SageMaker model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import AirflowSkipException, Context, default_deferrable
from airflow_sm_plugin.autopilot import candidates as autopilot
from airflow_sm_plugin.autopilot.candidates import CandidateChoice
from airflow_sm_plugin.autopilot.job import JobState, check_completed, job_state
from airflow_sm_plugin.base import SageMakerInferenceOperator, check_event
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.response_keys import select_response_keys
from airflow_sm_plugin.core.template_values import boolean, is_given, mapping, names, seconds, text
from airflow_sm_plugin.core.text import duration
from airflow_sm_plugin.exceptions import AutoMLJobStillRunning, ObjectiveNotMet
from airflow_sm_plugin.resources.containers import artefact_of
from airflow_sm_plugin.resources.model import ModelSpec
from airflow_sm_plugin.resources.tags import read_tags

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook


class SageMakerExportAutopilotModelOperator(SageMakerInferenceOperator):
    """Create a SageMaker model of the best candidate of an Autopilot job, V1 or V2, or of a candidate by name or rank.

    The model's response contains the chosen inference response keys, in HPO mode (two or three containers) and in
    ensembling mode (one container). A retry, or a second run over the same job, reuses the model. Its tags
    ``airflow-sm-plugin:auto-ml-job`` and ``airflow-sm-plugin:candidate`` name its origin.

    Returns on XCom: ``{"model_name", "model_arn", "auto_ml_job_name", "candidate_name", "objective": {"name", "type",
    "value"} or None, "inference_response_keys": [...]}``.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param inference_response_keys: of ``predicted_label``, ``probability``, ``probabilities``, ``labels``, in the
        order of the response's columns; default those of the candidate, ``predicted_label``
    :param candidate_name: a candidate of the job; default the best one
    :param candidate_rank: or its rank: 1 is the job's best one, then the other completed ones by their final objective
    :param processing_unit: ``CPU`` (default) or ``GPU``: text and image jobs have containers for each
    :param required_objective: the final objective metric must have at least this value (at most, if it is minimised);
        default none
    :param on_unmet_objective: ``fail`` (default), or ``skip`` this task and those that depend on it
    :param model_name: default derived from candidate and content, so that it stays the same over retries
    :param wait_for_job: wait for a job that still runs instead of failing; default False
    :param max_wait_seconds: for the job; default 24 hours
    :raises AutoMLJobError: AutoMLJobNotFound, AutoMLJobFailed, AutoMLJobStillRunning, ObjectiveNotMet,
        CandidateNotFound (also for a rank or processing unit)
    :raises ResponseKeysNotSupported: the candidate does not support these keys
    :raises ResourceConflict: another model has this name
    """

    not_templated = ("deferrable",)

    def __init__(
        self,
        *,
        auto_ml_job_name: str,
        execution_role: str,
        inference_response_keys: Sequence[str] | str = (),
        candidate_name: str | None = None,
        candidate_rank: int | str | None = None,
        processing_unit: str = autopilot.CPU,
        required_objective: float | str | None = None,
        on_unmet_objective: str = "fail",
        model_name: str | None = None,
        wait_for_job: bool | str = False,
        max_wait_seconds: float | str = 86_400,
        poll_interval: float | str = 30,
        deferrable: bool | None = None,
        vpc_config: Mapping[str, Any] | str | None = None,
        enable_network_isolation: bool | str = False,
        tags: Mapping[str, str] | str | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.auto_ml_job_name = auto_ml_job_name
        self.execution_role = execution_role
        self.inference_response_keys = inference_response_keys
        self.candidate_name = candidate_name
        self.candidate_rank = candidate_rank
        self.processing_unit = processing_unit
        self.required_objective = required_objective
        self.on_unmet_objective = on_unmet_objective
        self.model_name = model_name
        self.wait_for_job = wait_for_job
        self.max_wait_seconds = max_wait_seconds
        self.poll_interval = poll_interval
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.vpc_config = vpc_config
        self.enable_network_isolation = enable_network_isolation
        self.tags = tags

    def execute(self, context: Context) -> dict[str, Any]:
        with self.reading_arguments():
            self._check_arguments()
            hook = self.control_plane()
            job = hook.automl.describe(self.auto_ml_job_name)
            if boolean(self.wait_for_job, "wait_for_job") and job_state(job) is JobState.RUNNING:
                return self._wait()
            return self._export(hook, job)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        with self.reading_arguments():
            return self._conclude(event)

    def _conclude(self, event: Mapping[str, Any]) -> dict[str, Any]:
        check_event(f"waiting for AutoML job {self.auto_ml_job_name}", event)
        hook = self.control_plane()
        job = hook.automl.describe(self.auto_ml_job_name)
        if job_state(job) is not JobState.RUNNING:
            return self._export(hook, job)
        raise AutoMLJobStillRunning(
            f"AutoML job {self.auto_ml_job_name} was still {job['AutoMLJobStatus']} after "
            f"{duration(seconds(self.max_wait_seconds, 'max_wait_seconds'))}",
            left_behind=f"AutoML job {self.auto_ml_job_name} goes on, and costs money until it ends",
            do="retry later, or raise max_wait_seconds",
        )

    def _check_arguments(self) -> None:
        names(self.inference_response_keys, "inference_response_keys")
        mapping(self.vpc_config, "vpc_config")
        read_tags(self.tags, "tags")
        if is_given(self.model_name):
            check_name(str(self.model_name), "model name")
        boolean(self.wait_for_job, "wait_for_job")
        boolean(self.enable_network_isolation, "enable_network_isolation")
        seconds(self.max_wait_seconds, "max_wait_seconds")
        seconds(self.poll_interval, "poll_interval", positive=True)
        self._choice()

    def _choice(self) -> CandidateChoice:
        return CandidateChoice.read(
            name=self.candidate_name,
            rank=self.candidate_rank,
            processing_unit=self.processing_unit,
            required_objective=self.required_objective,
            on_unmet_objective=self.on_unmet_objective,
        )

    def _wait(self) -> dict[str, Any]:
        from airflow_sm_plugin.triggers.autopilot import AutoMLJobTrigger

        trigger = AutoMLJobTrigger(
            job_name=self.auto_ml_job_name,
            deadline=time.time() + seconds(self.max_wait_seconds, "max_wait_seconds"),
            poll_interval=seconds(self.poll_interval, "poll_interval", positive=True),
            aws=self.aws.as_mapping(),
        )
        self.log.info("AutoML job %s is still running: waiting for it", self.auto_ml_job_name)
        return self._conclude(self.wait_with(trigger, deferrable=self.deferrable))

    def _export(self, hook: SageMakerControlPlaneHook, job: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_sm_plugin.hooks.result_store import ArtefactHook

        check_completed(job)
        choice = self._choice()
        candidate = self._candidate(hook, job, choice)
        keys = names(self.inference_response_keys, "inference_response_keys") or []
        containers = autopilot.containers_of(
            candidate, job_name=self.auto_ml_job_name, processing_unit=choice.processing_unit
        )
        spec = ModelSpec(
            containers=select_response_keys(containers, keys),
            execution_role_arn=hook.role_arn(self.execution_role) if self.execution_role else "",
            name=text(self.model_name, "model_name"),
            stem=candidate["CandidateName"],
            vpc_config=mapping(self.vpc_config, "vpc_config"),
            enable_network_isolation=boolean(self.enable_network_isolation, "enable_network_isolation"),
            tags=(read_tags(self.tags, "tags") or {})
            | autopilot.tags_of(candidate, job_name=self.auto_ml_job_name),
        ).checked()
        spec = ArtefactHook(**self.aws.hook_arguments()).with_etags(spec)
        name, arn, created = hook.models.create(spec)
        objective = autopilot.objective_of(candidate)
        self.log.info(
            "model %s %s from candidate %s of AutoML job %s (%s), response keys %s, artefact %s",
            name,
            "created" if created else "reused",
            candidate["CandidateName"],
            self.auto_ml_job_name,
            f"{objective['name']} {objective['value']:g}" if objective else "no objective",
            ", ".join(keys) or "as they are",
            ", ".join(filter(None, map(artefact_of, spec.containers))) or "none",
        )
        return {
            "model_name": name,
            "model_arn": arn,
            "auto_ml_job_name": self.auto_ml_job_name,
            "candidate_name": candidate["CandidateName"],
            "objective": objective,
            "inference_response_keys": keys,
        }

    def _candidate(
        self, hook: SageMakerControlPlaneHook, job: Mapping[str, Any], choice: CandidateChoice
    ) -> Mapping[str, Any]:
        """Describe the chosen candidate, after checking the required objective.

        :raises AirflowSkipException: the objective is not met, and ``on_unmet_objective`` is ``skip``
        """
        name = self.auto_ml_job_name
        if choice.name is not None:
            candidate = hook.automl.candidate(name, choice.name)
        else:
            candidate = autopilot.best_candidate(job)
            if choice.rank > 1:
                others = hook.automl.completed_candidates(name)
                candidate = autopilot.candidate_at(choice.rank, others, best=candidate, job_name=name)
        if choice.required_objective is None:
            return candidate
        try:
            autopilot.check_objective(candidate, choice.required_objective, job_name=name)
        except ObjectiveNotMet as unmet:
            if choice.skips:
                raise AirflowSkipException(unmet.as_sentence) from None
            raise
        return candidate
