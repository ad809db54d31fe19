"""Every error this package raises. A retry can help those with an asterisk: their class has ``retryable=True``.

::

    SageMakerInferenceError
    ├── InvalidRequest: InvalidName, InvalidS3Uri, InvalidCustomAttributes, RecordTooLarge, ResponseKeysNotSupported
    ├── AutoMLJobError: AutoMLJobNotFound, AutoMLJobFailed, AutoMLJobStillRunning*, CandidateNotFound, ObjectiveNotMet
    ├── ResourceConflict
    ├── ModelNotFound
    ├── ModelCreationRefused: ModelDataNotFound, ModelDataNotAccessible, ImageNotAccessible, ExecutionRoleNotAssumable
    ├── ModelPackageError: ModelPackageNotFound, ModelPackageNotApproved
    ├── EndpointError: EndpointNotFound, EndpointNotAsynchronous, EndpointNotRealTime, EndpointNotMultiModel,
    │       EndpointNotInService*, EndpointFailed*, EndpointScaled, EndpointUnchangeable, EndpointRolledBack,
    │       EndpointTakenOver, EndpointConfigNotFound*, EndpointDeadlineExceeded*
    ├── InferenceError: InputNotFound, ModelError, ModelUnavailable*, ModelLoadTimeout*, AsyncInferenceFailed,
    │       AsyncInferenceTimedOut*, FencedOff, PlanNotFound, PlanReplaced*, InputChanged, OutputMismatch,
    │       TargetModelNotFound, BatchFailed (BatchUnfinished*), QueueNotFound
    ├── TaskKilled*
    └── ServiceError: AccessDenied, CredentialsExpired*, RequestRefused, PreconditionFailed, Throttled*,
            ServiceUnavailable* (AnswerLost*)

The operators convert every other error to Airflow's ``AirflowFailException``, so that Airflow spends no retry on it.
This module imports nothing of Airflow or AWS.
"""

from __future__ import annotations

from typing import ClassVar, Self

from airflow_sm_plugin._safe_text import presentable

_SECTIONS = {"Reason": "reason", "Left behind": "left_behind", "Do": "do"}
"""The names of an error's last lines, and the arguments that they show."""


class SageMakerInferenceError(Exception):
    """Root of all errors. A subclass inherits ``retryable`` unless its class statement sets it.

    Its text has short lines, the most important first: what happened, ``Reason:``, ``Left behind:``, ``Do:``. Airflow's
    log, callbacks and e-mails show the same text. Credentials in it (in a proxy's URL, a presigned URL) are masked. A
    line break inside an argument is escaped.

    :param lines: what happened to what
    :param reason: the words of SageMaker, of another service, or of the container
    :param left_behind: what exists now and costs money; empty for nothing
    :param do: what the reader can do.
    """

    retryable: ClassVar[bool] = False
    """Whether running the task again can help."""

    def __init_subclass__(cls, *, retryable: bool | None = None) -> None:
        if retryable is not None:
            cls.retryable = retryable

    def __init__(self, *lines: str, reason: str = "", left_behind: str = "", do: str = "") -> None:
        super().__init__(*map(presentable, lines))
        self.reason = reason
        self.left_behind = left_behind
        self.do = do

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        sections = {name: getattr(self, argument) for name, argument in _SECTIONS.items()}
        return [*self.args, *(f"{name}: {presentable(text)}" for name, text in sections.items() if text)]

    @property
    def as_sentence(self) -> str:
        """The text in one line, without a full stop at the end, for logs, records and other texts."""
        lines = self._lines()
        ended = [line if line.endswith((".", "!", "?", ":")) else f"{line}." for line in lines[:-1]]
        return " ".join([*ended, *lines[-1:]]).removesuffix(".")

    def during(self, doing: str) -> Self:
        """Make the same error, with the action that it ended at the beginning of its text."""
        first, *others = self.args or ("",)
        sections = {argument: getattr(self, argument) for argument in _SECTIONS.values()}
        return type(self)(f"{doing}: {first}", *others, **sections)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Make an error of this class from the ``str()`` of another one, such as a trigger's event carries."""
        lines, sections = text.split("\n"), dict[str, str]()
        while len(lines) > 1 and (argument := _SECTIONS.get(lines[-1].partition(": ")[0])):
            sections[argument] = lines.pop().partition(": ")[2]
        return cls(*lines, **sections)


class InvalidRequest(SageMakerInferenceError, ValueError):
    """An argument breaks a limit. The message names the argument, the limit and the remedy."""


class InvalidName(InvalidRequest):
    """A name is not one that SageMaker accepts: up to 63 letters, digits and inner hyphens."""


class InvalidS3Uri(InvalidRequest):
    """A location is not of the form ``s3://bucket/key``."""


class InvalidCustomAttributes(InvalidRequest):
    """CustomAttributes are not up to 1024 characters of visible US-ASCII. The message never shows them: a secret."""


class RecordTooLarge(InvalidRequest):
    """One record, or request, is larger than permitted: split it, or raise ``max_payload_in_mb`` (up to 25)."""


class ResponseKeysNotSupported(InvalidRequest):
    """The candidate's last container does not list a requested inference response key, or lists none at all."""


class AutoMLJobError(SageMakerInferenceError):
    """The Autopilot (AutoML) job cannot be exported."""


class AutoMLJobNotFound(AutoMLJobError):
    """This account and region have no AutoML job of that name."""


class AutoMLJobFailed(AutoMLJobError):
    """The job ended Failed or Stopped; the message carries SageMaker's reason."""


class AutoMLJobStillRunning(AutoMLJobError, retryable=True):
    """The job has not ended yet. A later retry helps, and so does ``wait_for_job=True``."""


class CandidateNotFound(AutoMLJobError):
    """The job has no best candidate, no candidate of the given name, or one without inference containers."""


class ObjectiveNotMet(AutoMLJobError):
    """The candidate's objective metric is worse than the required value: train again."""


class ResourceConflict(SageMakerInferenceError):
    """A resource with other content has the name. The message names the fields that differ, without their values."""


class ModelNotFound(SageMakerInferenceError):
    """This account and region have no SageMaker model of that name."""


class ModelCreationRefused(SageMakerInferenceError):
    """SageMaker refused to create a model because of its artefact, image or role. The message names the remedy."""


class ModelDataNotFound(ModelCreationRefused):
    """The model's artefact is not in S3: upload it, or correct its location."""


class ModelDataNotAccessible(ModelCreationRefused):
    """The execution role is not permitted to read the artefact, or its bucket is missing or in another region."""


class ImageNotAccessible(ModelCreationRefused):
    """SageMaker cannot pull the container's image: it does not exist, or a permission is missing."""


class ExecutionRoleNotAssumable(ModelCreationRefused):
    """For a minute SageMaker could not assume the execution role: it does not exist, or does not trust SageMaker."""


class ModelPackageError(SageMakerInferenceError):
    """A model package of the Model Registry cannot become a model."""


class ModelPackageNotFound(ModelPackageError):
    """This account and region have no such model package or group, or the group has no approved version."""


class ModelPackageNotApproved(ModelPackageError):
    """The model package is rejected or waits for approval: approve it before a retry."""


class EndpointError(SageMakerInferenceError):
    """The endpoint is not in the state that the task needs."""


class EndpointNotFound(EndpointError):
    """This account and region have no endpoint of that name."""


class EndpointNotAsynchronous(EndpointError):
    """The endpoint serves real-time requests only: its configuration has no AsyncInferenceConfig."""


class EndpointNotRealTime(EndpointError):
    """The endpoint is asynchronous: it takes no real-time invocation."""


class EndpointNotMultiModel(EndpointError):
    """The endpoint serves no target models: none of its containers has ``Mode="MultiModel"``."""


class EndpointNotInService(EndpointError, retryable=True):
    """The endpoint does not serve now (Creating, Failed, …), or AWS denied it to a few payloads of a batch only."""


class EndpointFailed(EndpointError, retryable=True):
    """The endpoint ended in a status that it will not leave. A retry starts again after the cleanup."""


class EndpointUnchangeable(EndpointError):
    """The endpoint was already Failed, OutOfService or UpdateRollbackFailed; the message names the remedy."""


class EndpointScaled(EndpointError):
    """SageMaker updates no variant that is registered with Application Auto Scaling: deregister it first."""


class EndpointRolledBack(EndpointError):
    """The update failed and SageMaker rolled it back: the endpoint serves the old configuration."""


class EndpointTakenOver(EndpointError):
    """Another deployment has meanwhile set its own configuration, which a retry would replace."""


class EndpointConfigNotFound(EndpointError, retryable=True):
    """The endpoint configuration was deleted, repeatedly, before it could be used."""


class EndpointDeadlineExceeded(EndpointError, retryable=True):
    """The endpoint was not in service, or not deleted, within the given seconds. A retry waits again."""


class InferenceError(SageMakerInferenceError):
    """An inference gave no result."""


class InputNotFound(InferenceError):
    """The input object does not exist in S3. SageMaker would accept the request and fail it later."""


class ModelError(InferenceError):
    """The container raised or answered an error; the message carries its status and the start of its text."""


class ModelUnavailable(InferenceError, retryable=True):
    """The container timed out or answered 429, 502, 503 or 504 at every attempt."""


class ModelLoadTimeout(InferenceError, retryable=True):
    """The endpoint did not load the target model before the cold-start deadline."""


class AsyncInferenceFailed(InferenceError):
    """SageMaker wrote a failure object, which a retry would read again: send the input again instead."""


class AsyncInferenceTimedOut(InferenceError, retryable=True):
    """Neither the output nor the failure object existed at the deadline. A retry polls again."""


class FencedOff(InferenceError):
    """A later try of the same task instance has taken over the ledger, so that this process stops."""


class PlanNotFound(InferenceError):
    """The plan task of a batch left no plan, since it failed: its log has the reason."""


class PlanReplaced(InferenceError, retryable=True):
    """A later plan of the same batch has replaced the plan of this task. A retry takes the later one."""


class InputChanged(InferenceError):
    """The input's ETag is no longer the planned one: plan again."""


class OutputMismatch(InferenceError):
    """The model answered another number of rows than there were records, so they cannot be joined."""


class TargetModelNotFound(InferenceError):
    """The endpoint's model prefix has no artefact of that name: upload it, or correct the target model's name."""


class BatchFailed(InferenceError):
    """More records of a batch failed than are tolerated, and would fail again: the report names them."""


class BatchUnfinished(BatchFailed, retryable=True):
    """More records failed than are tolerated, some for transient reasons. A retry repeats only those."""


class QueueNotFound(InferenceError):
    """The completion queue does not exist, or not in this region and account."""


class TaskKilled(SageMakerInferenceError, retryable=True):
    """Airflow ended the task while it worked or waited. A retry continues from the recorded state."""


class ServiceError(SageMakerInferenceError):
    """AWS answered with an error, or did not answer."""


class AccessDenied(ServiceError):
    """AWS answered 403: the message names the action that needs a permission."""


class CredentialsExpired(ServiceError, retryable=True):
    """AWS rejected fresh credentials or their signature (a new key is invalid for a moment), or the clock as skewed."""


class RequestRefused(ServiceError):
    """AWS refused the request (400): the message is the service's own."""


class PreconditionFailed(ServiceError):
    """Another writer changed the object of a conditional write; nothing was written."""


class Throttled(ServiceError, retryable=True):
    """AWS asked to slow down, or a limit of the account is reached."""


class ServiceUnavailable(ServiceError, retryable=True):
    """The service, or the metadata service that has the credentials, answered 5xx, too late, or not at all."""


class AnswerLost(ServiceUnavailable):
    """The request was sent, but no answer came. AWS perhaps carried it out; a second request repeats it."""
