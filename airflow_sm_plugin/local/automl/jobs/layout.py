"""The locations of a job's artefacts, the names of its candidates, and their containers.

Numbers of containers, environments and paths are those of real jobs: a candidate of hyperparameter tuning has three
containers for a classification, two for a regression; a candidate of ensembling has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_sm_plugin.local.automl.training.plan import ENSEMBLING, REGRESSION

_PROGRAM = {"SAGEMAKER_PROGRAM": "sagemaker_serve", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
_CSV_BY_DEFAULT = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}
_LABEL = "predicted_label"
_ALGORITHM_KEYS = "predicted_label,probability,probabilities"
_ALL_KEYS = "predicted_label,probability,labels,probabilities"
_SKLEARN = "246618743249.dkr.ecr.{region}.amazonaws.com/sagemaker-sklearn-automl:2.5-1-cpu-py3"
_XGBOOST = "246618743249.dkr.ecr.{region}.amazonaws.com/sagemaker-xgboost:1.3-1-cpu-py3"
_AUTOGLUON = "763104351884.dkr.ecr.{region}.amazonaws.com/autogluon-inference:0.4.3-cpu-py38-ubuntu20.04"

Container = dict[str, object]


@dataclass(frozen=True)
class CandidateLayout:
    """A candidate's name, its steps (type, ARN kind, name) and the locations of its results, by role.

    :param processor_model: name of its feature processor's own model; empty without a feature processor
    """

    name: str
    steps: tuple[tuple[str, str, str], ...]
    archives: Mapping[str, str]
    processor_model: str = ""

    def artefact(self, training_job: str) -> str:
        """Locate a training step's archive: the last step trains the model, an earlier one the feature processor."""
        role = "processor" if training_job != self.steps[-1][2] else "algorithm"
        return self.archives.get(role) or self.archives["model"]


@dataclass(frozen=True)
class JobLayout:
    """The locations of a job's results; ``token`` (hexadecimal) makes the names unique."""

    job: str
    output: str
    region: str
    mode: str
    token: str

    @property
    def folder(self) -> str:
        return f"{self.output}/{self.job}"

    @property
    def data_exploration(self) -> str:
        return f"{self.notebooks}/SageMakerAutopilotDataExplorationNotebook.ipynb"

    @property
    def candidate_definition(self) -> str:
        return f"{self.notebooks}/SageMakerAutopilotCandidateDefinitionNotebook.ipynb"

    @property
    def notebooks(self) -> str:
        return f"{self.folder}/sagemaker-automl-candidates/notebooks"

    def explainability(self, candidate: str) -> str:
        return f"{self.folder}/documentation/explainability/output/{candidate}"

    def insights(self, candidate: str) -> str:
        return f"{self.folder}/documentation/model_monitor/output/{candidate}"

    def candidate(self, number: int, algorithm: str, processor: int) -> CandidateLayout:
        """Name a candidate's steps and results; ``processor`` is its feature processor's number, for tuning."""
        if self.mode == ENSEMBLING:
            return self._ensembling(number, algorithm)
        return self._tuned(number, processor)

    def _ensembling(self, number: int, algorithm: str) -> CandidateLayout:
        name = f"{algorithm.replace('_', '-')}-t{number}"
        path = f"{self.folder}/sagemaker-automl-candidates/model/{name}/model.tar.gz"
        training = f"{self.job[:20]}-training-{number}-{self.token}"
        return CandidateLayout(name, (("TrainingJob", "training-job", training),), {"model": path})

    def _tuned(self, number: int, processor: int) -> CandidateLayout:
        name = f"{self.job[:20]}{self.token[:3]}-{number:03d}-{self.token}"
        processing = f"{self.job[:24]}-dpp{processor}-1-{self.token}"
        steps = (
            ("ProcessingJob", "processing-job", f"{self.job[:20]}-db-1-{self.token}"),
            ("TrainingJob", "training-job", processing),
            ("TransformJob", "transform-job", f"{self.job[:20]}-dpp{processor}-rpb-1-{self.token}"),
            ("TrainingJob", "training-job", name),
        )
        tuning = f"{self.folder}/tuning/{self.job[:8]}-dpp{processor}-xgb/{name}/output/model.tar.gz"
        return CandidateLayout(
            name,
            steps,
            {
                "processor": f"{self.folder}/data-processor-models/{processing}/output/model.tar.gz",
                "algorithm": tuning,
                "transformed": f"{self.folder}/transformed-data/dpp{processor}/rpb/train/chunk_0.csv.out",
            },
            f"{self.job[:20]}-dpp{processor}-model-{self.token}",
        )

    @property
    def processor_image(self) -> str:
        return _SKLEARN.format(region=self.region)

    def training_image(self, candidate: CandidateLayout, training_job: str) -> str:
        if self.mode == ENSEMBLING:
            return _AUTOGLUON.format(region=self.region)
        is_last = training_job == candidate.steps[-1][2]
        return (_XGBOOST if is_last else _SKLEARN).format(region=self.region)

    def containers(self, candidate: CandidateLayout, problem_type: str) -> list[Container]:
        if self.mode == ENSEMBLING:
            return [self._ensemble(candidate, problem_type)]
        archives = candidate.archives
        features = {
            "AUTOML_SPARSE_ENCODE_RECORDIO_PROTOBUF": "1",
            "AUTOML_TRANSFORM_MODE": "feature-transform",
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-recordio-protobuf",
            **_PROGRAM,
        }
        algorithm = {"MAX_CONTENT_LENGTH": "20971520", **_CSV_BY_DEFAULT}
        first = self._container(_SKLEARN, archives["processor"], features)
        if problem_type == REGRESSION:
            return [first, self._container(_XGBOOST, archives["algorithm"], algorithm)]
        algorithm |= {"SAGEMAKER_INFERENCE_OUTPUT": _LABEL, "SAGEMAKER_INFERENCE_SUPPORTED": _ALGORITHM_KEYS}
        labels = {
            "AUTOML_TRANSFORM_MODE": "inverse-label-transform",
            **_CSV_BY_DEFAULT,
            "SAGEMAKER_INFERENCE_INPUT": _LABEL,
            "SAGEMAKER_INFERENCE_OUTPUT": _LABEL,
            "SAGEMAKER_INFERENCE_SUPPORTED": _ALL_KEYS,
            **_PROGRAM,
        }
        return [
            first,
            self._container(_XGBOOST, archives["algorithm"], algorithm),
            self._container(_SKLEARN, archives["processor"], labels),
        ]

    def _ensemble(self, candidate: CandidateLayout, problem_type: str) -> Container:
        regression = problem_type == REGRESSION
        environment = {
            "MODEL_NAME": re.sub(r"-t\d+$", "", candidate.name).replace("-", "_"),
            **_CSV_BY_DEFAULT,
            "SAGEMAKER_INFERENCE_OUTPUT": _LABEL,
            "SAGEMAKER_INFERENCE_SUPPORTED": _LABEL if regression else _ALL_KEYS,
            **_PROGRAM,
        }
        return self._container(_AUTOGLUON, candidate.archives["model"], environment)

    def _container(self, image: str, archive: str, environment: Mapping[str, str]) -> Container:
        return {
            "Image": image.format(region=self.region),
            "ModelDataUrl": archive,
            "Environment": dict(environment),
        }
