"""Everything that can go wrong, drawn once; each class says when it happens. A retry can help those with an asterisk.

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
    │       AsyncInferenceTimedOut*, FencedOff, PlanReplaced*, InputChanged, OutputMismatch, TargetModelNotFound,
    │       BatchFailed (BatchUnfinished*), QueueNotFound
    ├── TaskKilled*
    └── ServiceError: AccessDenied, CredentialsExpired*, RequestRefused, PreconditionFailed, Throttled*,
            ServiceUnavailable* (AnswerLost*)

The operators turn an error that is not ``retryable`` into Airflow's ``AirflowFailException``, so that no retry is spent
on it. This module imports nothing of Airflow or AWS.
"""

from __future__ import annotations

from typing import ClassVar

from airflow_sm_plugin._safe_text import presentable


class SageMakerInferenceError(Exception):
    """The root of every error this package raises on purpose.

    Its message is fit to be shown wherever it goes: in lines of ours only, and without credentials that came with a
    foreign text (a proxy's URL, a presigned URL).

    :param lines: the message; each is shown in one line.
    """

    retryable: ClassVar[bool] = False
    """Whether running the task again can help."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(presentable, lines))

    def __str__(self) -> str:
        """Return the message."""
        return "\n".join(self.args)


class InvalidRequest(SageMakerInferenceError, ValueError):
    """An argument breaks a limit. The message names the value, the limit and the remedy; a retry cannot help."""


class InvalidName(InvalidRequest):
    """A name is not one that SageMaker accepts: up to 63 letters, digits and inner hyphens."""


class InvalidS3Uri(InvalidRequest):
    """A location is not of the form ``s3://bucket/key``."""


class InvalidCustomAttributes(InvalidRequest):
    """CustomAttributes are no visible US-ASCII of up to 1024 characters. The message never shows them: a secret."""


class RecordTooLarge(InvalidRequest):
    """One record, or request, is larger than permitted: split it, or raise ``max_payload_in_mb`` (up to 25)."""


class ResponseKeysNotSupported(InvalidRequest):
    """The candidate's last container does not list a requested inference response key, or lists none at all."""


class AutoMLJobError(SageMakerInferenceError):
    """The Autopilot (AutoML) job cannot be exported."""


class AutoMLJobNotFound(AutoMLJobError):
    """There is no AutoML job of that name in this account and region."""


class AutoMLJobFailed(AutoMLJobError):
    """The job ended Failed or Stopped; the message carries SageMaker's reason."""


class AutoMLJobStillRunning(AutoMLJobError):
    """The job has not ended yet. Retrying the task later helps, so does ``wait_for_job=True``."""

    retryable = True


class CandidateNotFound(AutoMLJobError):
    """The job has no best candidate, no candidate of the given name, or one without inference containers."""


class ObjectiveNotMet(AutoMLJobError):
    """The candidate's objective metric is worse than the required one. A retry finds the same: train again."""


class ResourceConflict(SageMakerInferenceError):
    """The name is taken by a resource with other content. The message shows which fields differ, no values of them."""


class ModelNotFound(SageMakerInferenceError):
    """There is no SageMaker model of that name in this account and region."""


class ModelCreationRefused(SageMakerInferenceError):
    """SageMaker refused to create a model for its artefact, image or execution role. The message says the remedy."""


class ModelDataNotFound(ModelCreationRefused):
    """The model's artefact is not in S3: upload it, or mend its location. A retry finds the same."""


class ModelDataNotAccessible(ModelCreationRefused):
    """The execution role may not read the model's artefact, or its bucket does not exist or lies in another region."""


class ImageNotAccessible(ModelCreationRefused):
    """SageMaker cannot pull the container's image: it does not exist, or a permission is missing."""


class ExecutionRoleNotAssumable(ModelCreationRefused):
    """SageMaker may not assume the execution role, also not after a minute: it does not exist, or does not trust it."""


class ModelPackageError(SageMakerInferenceError):
    """A model package of the Model Registry cannot become a model."""


class ModelPackageNotFound(ModelPackageError):
    """There is no such model package or group in this account and region, or the group has no approved version."""


class ModelPackageNotApproved(ModelPackageError):
    """The model package is rejected or waits for approval: approve it before a retry."""


class EndpointError(SageMakerInferenceError):
    """The endpoint is not as it must be."""


class EndpointNotFound(EndpointError):
    """There is no endpoint of that name in this account and region."""


class EndpointNotAsynchronous(EndpointError):
    """The endpoint serves real-time requests only: its configuration has no AsyncInferenceConfig."""


class EndpointNotRealTime(EndpointError):
    """The endpoint is asynchronous: it takes no real-time invocation."""


class EndpointNotMultiModel(EndpointError):
    """The endpoint serves no target models: none of its containers has ``Mode="MultiModel"``."""


class EndpointNotInService(EndpointError):
    """The endpoint exists but does not serve now (Creating, Failed, Deleting, …). A later retry may find it serving.

    Of a batch's row: AWS denied this payload the endpoint, but not enough others to say that there is none.
    """

    retryable = True


class EndpointFailed(EndpointError):
    """The endpoint ended in a status that it will not leave. A retry begins again after the cleanup."""

    retryable = True


class EndpointUnchangeable(EndpointError):
    """The endpoint was found Failed, OutOfService or UpdateRollbackFailed, which do not end by themselves.

    A retry finds the same; the message says what to do.
    """


class EndpointScaled(EndpointError):
    """SageMaker updates no variant that is registered with Application Auto Scaling: deregister it first."""


class EndpointRolledBack(EndpointError):
    """The update failed and SageMaker went back: the endpoint serves the old configuration."""


class EndpointTakenOver(EndpointError):
    """Another deployment moved the endpoint to its own configuration meanwhile, which a retry would replace."""


class EndpointConfigNotFound(EndpointError):
    """The endpoint configuration was deleted, again and again, before it could be used. A retry can help."""

    retryable = True


class EndpointDeadlineExceeded(EndpointError):
    """The endpoint was not in service, or not gone, within the given seconds. A retry waits again."""

    retryable = True


class InferenceError(SageMakerInferenceError):
    """An inference did not give a result."""


class InputNotFound(InferenceError):
    """The input object does not exist in S3. SageMaker would accept the request and fail it later."""


class ModelError(InferenceError):
    """The container raised or answered an error; the message carries its status and the start of its text."""


class ModelUnavailable(InferenceError):
    """The container timed out or answered 429, 502, 503 or 504 at every attempt. A later retry may fare better."""

    retryable = True


class ModelLoadTimeout(InferenceError):
    """The endpoint did not load the target model before the cold-start deadline. Retrying the task helps."""

    retryable = True


class AsyncInferenceFailed(InferenceError):
    """SageMaker wrote a failure object, which a retry would find again: send the input again instead."""


class AsyncInferenceTimedOut(InferenceError):
    """Neither the output nor the failure object was there by the deadline. A retry polls again."""

    retryable = True


class FencedOff(InferenceError):
    """A later try of the same task instance has taken over its ledger: this process, left behind, stops here."""


class PlanReplaced(InferenceError):
    """A later plan of the same batch counts, not the one this task works on. A retry takes that one."""

    retryable = True


class InputChanged(InferenceError):
    """The input changed after it was planned: its ETag is another. A new plan takes it as it is now."""


class OutputMismatch(InferenceError):
    """The model answered another number of rows than there were records, so they cannot be joined."""


class TargetModelNotFound(InferenceError):
    """The endpoint's model prefix holds no artefact of that name: upload it, or mend the target model's name."""


class BatchFailed(InferenceError):
    """More records of a batch failed than are tolerated. A retry would find the same: the report says which."""


class BatchUnfinished(BatchFailed):
    """More records failed than are tolerated, some for reasons that may pass. A retry does only those again."""

    retryable = True


class QueueNotFound(InferenceError):
    """The completion queue does not exist, or not in this region and account."""


class TaskKilled(SageMakerInferenceError):
    """Airflow ended the task while it worked or waited. A retry goes on from what was written down."""

    retryable = True


class ServiceError(SageMakerInferenceError):
    """AWS answered with an error, or did not answer."""


class AccessDenied(ServiceError):
    """AWS answered 403: the message names the action that needs a permission."""


class CredentialsExpired(ServiceError):
    """AWS called the credentials or the signature expired or invalid, or the clock skewed, also for fresh credentials.

    Keys that were made or rotated just now are invalid for a moment: a later retry helps.
    """

    retryable = True


class RequestRefused(ServiceError):
    """AWS refused the request (400): the message is the service's own."""


class PreconditionFailed(ServiceError):
    """A conditional write met an object that another writer changed meanwhile; nothing was written."""


class Throttled(ServiceError):
    """AWS asked to slow down, or a limit of the account is reached. A later retry helps."""

    retryable = True


class ServiceUnavailable(ServiceError):
    """The service answered 5xx, did not answer in time, or is not at that address. A later retry helps.

    So does one when there were no credentials: a metadata service may not have answered.
    """

    retryable = True


class AnswerLost(ServiceUnavailable):
    """The request was sent, but no answer came: it may have been carried out. Sending it again may do it twice."""
