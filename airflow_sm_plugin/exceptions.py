"""Everything that can go wrong, drawn once. This module imports nothing of Airflow or AWS.

::

    SageMakerInferenceError
    ├── InvalidRequest                 an argument breaks a limit; found before the call where possible
    │   ├── InvalidName                a SageMaker name over 63 characters or with a bad character
    │   ├── InvalidS3Uri               not s3://bucket/key
    │   ├── InvalidCustomAttributes    over 1024 characters or not visible US-ASCII
    │   ├── RecordTooLarge             one record, or request, is larger than permitted
    │   └── ResponseKeysNotSupported   the candidate cannot answer these inference response keys
    ├── AutoMLJobError
    │   ├── AutoMLJobNotFound
    │   ├── AutoMLJobFailed            Failed or Stopped, with SageMaker's reason
    │   ├── AutoMLJobStillRunning      (retry) InProgress, or the wait ended first
    │   ├── CandidateNotFound          no best candidate, or none of that name, or one without containers
    │   └── ObjectiveNotMet            the candidate is worse than the required objective
    ├── ResourceConflict               the name is taken by something else than what was asked for
    ├── ModelNotFound
    ├── ModelCreationRefused           CreateModel looked for what the model is made of
    │   ├── ModelDataNotFound          its artefact is not in S3
    │   ├── ModelDataNotAccessible     the execution role may not read the artefact, or there is no such bucket
    │   ├── ImageNotAccessible         the execution role may not pull the container's image, or there is none
    │   └── ExecutionRoleNotAssumable  SageMaker may not assume the execution role, for a minute
    ├── ModelPackageError
    │   ├── ModelPackageNotFound       no such package or group, or no approved version in the group
    │   └── ModelPackageNotApproved    it is rejected or waits for approval
    ├── EndpointError
    │   ├── EndpointNotFound
    │   ├── EndpointNotAsynchronous    asked for an asynchronous call; the endpoint has no AsyncInferenceConfig
    │   ├── EndpointNotRealTime        asked for a real-time call; the endpoint is asynchronous
    │   ├── EndpointNotMultiModel      asked for a target model; the endpoint has no container of many models
    │   ├── EndpointNotInService       (retry) its status does not serve
    │   ├── EndpointFailed             (retry) creation or update ended Failed
    │   ├── EndpointScaled             an update is refused while a variant that changes is registered for scaling
    │   ├── EndpointUnchangeable       it was found Failed, OutOfService or UpdateRollbackFailed: somebody has to act
    │   ├── EndpointRolledBack         an update ended InService with the old configuration
    │   ├── EndpointTakenOver          another deployment has put a configuration of its own there meanwhile
    │   ├── EndpointConfigNotFound     (retry) the configuration was deleted, again and again, before it could be used
    │   └── EndpointDeadlineExceeded   (retry) not in service within the given seconds
    ├── InferenceError
    │   ├── InputNotFound              the input object is not in S3
    │   ├── ModelError                 the container raised or answered an error
    │   ├── ModelUnavailable           (retry) the container timed out or was overloaded, at every attempt
    │   ├── ModelLoadTimeout           (retry) a cold model was not loaded before its deadline
    │   ├── AsyncInferenceFailed       a failure object was written
    │   ├── AsyncInferenceTimedOut     (retry) neither output nor failure object by the deadline
    │   ├── FencedOff                  a later try of the same task has taken over its ledger
    │   ├── PlanReplaced               (retry) a later plan of the same batch counts, not the one this task works on
    │   ├── InputChanged               the input was written anew after it was planned
    │   ├── OutputMismatch             the model answered another number of rows than it was asked for
    │   ├── TargetModelNotFound        the endpoint's model prefix holds no such artefact
    │   ├── BatchFailed                more records failed than tolerated, for good
    │   │   └── BatchUnfinished        (retry) the same, but some for reasons that may pass
    │   └── QueueNotFound              the completion queue does not exist
    ├── TaskKilled                     (retry) Airflow ended the task: SIGTERM, a time-out, marked by a person
    └── ServiceError                   AWS answered an error, or did not answer
        ├── AccessDenied               403: a permission is missing
        ├── CredentialsExpired         (retry) AWS called them expired or invalid, or the clock skewed
        ├── RequestRefused             the request is wrong in a way that only the service could see
        ├── PreconditionFailed         a conditional write found the object changed by somebody else
        ├── Throttled                  (retry)
        └── ServiceUnavailable         (retry) 5xx, time-out, or nobody at that address
            └── AnswerLost             (retry) sent, but no answer: it may have been carried out

``retryable`` says whether running the task again can help; the operators turn an error that is not into
Airflow's ``AirflowFailException``, so that no retry is spent on it.
"""

from __future__ import annotations

from typing import ClassVar

from airflow_sm_plugin._safe_text import presentable

__all__ = [
    "AccessDenied",
    "AnswerLost",
    "AsyncInferenceFailed",
    "AsyncInferenceTimedOut",
    "AutoMLJobError",
    "AutoMLJobFailed",
    "AutoMLJobNotFound",
    "AutoMLJobStillRunning",
    "BatchFailed",
    "BatchUnfinished",
    "CandidateNotFound",
    "CredentialsExpired",
    "EndpointConfigNotFound",
    "EndpointDeadlineExceeded",
    "EndpointError",
    "EndpointFailed",
    "EndpointNotAsynchronous",
    "EndpointNotFound",
    "EndpointNotInService",
    "EndpointNotMultiModel",
    "EndpointNotRealTime",
    "EndpointRolledBack",
    "EndpointScaled",
    "EndpointTakenOver",
    "EndpointUnchangeable",
    "ExecutionRoleNotAssumable",
    "FencedOff",
    "ImageNotAccessible",
    "InferenceError",
    "InputChanged",
    "InputNotFound",
    "InvalidCustomAttributes",
    "InvalidName",
    "InvalidRequest",
    "InvalidS3Uri",
    "ModelCreationRefused",
    "ModelDataNotAccessible",
    "ModelDataNotFound",
    "ModelError",
    "ModelLoadTimeout",
    "ModelNotFound",
    "ModelPackageError",
    "ModelPackageNotApproved",
    "ModelPackageNotFound",
    "ModelUnavailable",
    "ObjectiveNotMet",
    "OutputMismatch",
    "PlanReplaced",
    "PreconditionFailed",
    "QueueNotFound",
    "RecordTooLarge",
    "RequestRefused",
    "ResourceConflict",
    "ResponseKeysNotSupported",
    "SageMakerInferenceError",
    "ServiceError",
    "ServiceUnavailable",
    "TargetModelNotFound",
    "TaskKilled",
    "Throttled",
]


class SageMakerInferenceError(Exception):
    """The root of every error this package raises on purpose.

    Its message is fit to be shown wherever it goes: in lines of ours only, and without credentials that came with a
    text of somebody else (a proxy's URL, a presigned URL).

    :param lines: the message; each is shown in one line.
    """

    retryable: ClassVar[bool] = False

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
    """CustomAttributes are longer than 1024 characters or hold something else than visible US-ASCII.

    The message never shows the value: it is sensitive.
    """


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
    """The model package is rejected or waits for approval. Somebody has to approve it before a retry can help."""


class EndpointError(SageMakerInferenceError):
    """Something about an endpoint."""


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
    """The endpoint ended in a status it will not leave. A retry starts anew once what was created is cleaned up."""

    retryable = True


class EndpointUnchangeable(EndpointError):
    """The endpoint was found in a status that does not end by itself, so a retry finds the same.

    Only deletion ends Failed; OutOfService and UpdateRollbackFailed need somebody who looks why. The message says what.
    """


class EndpointScaled(EndpointError):
    """SageMaker updates no endpoint whose changing variants are registered with Application Auto Scaling.

    The scaling has to be taken down first: a retry finds the same.
    """


class EndpointRolledBack(EndpointError):
    """The update failed and SageMaker went back: the endpoint serves the old configuration."""


class EndpointTakenOver(EndpointError):
    """Another deployment has moved the endpoint to a configuration of its own while this task waited.

    Not retried: a retry would replace what the other has deployed.
    """


class EndpointConfigNotFound(EndpointError):
    """SageMaker does not find the endpoint configuration, though it was created, and created again where it was gone.

    Something deletes it. A retry can help.
    """

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
    """SageMaker wrote a failure object. Looking again would find the same object: send the input again instead."""


class AsyncInferenceTimedOut(InferenceError):
    """Neither the output nor the failure object was there by the deadline. A retry looks again."""

    retryable = True


class FencedOff(InferenceError):
    """A later try of the same task instance has taken over its ledger: this process, left behind, stops here."""


class PlanReplaced(InferenceError):
    """A later plan of the same batch counts, not the one this task works on. A retry takes that one."""

    retryable = True


class InputChanged(InferenceError):
    """The input was written anew after it was planned: its ETag is another. A new plan takes it as it is now."""


class OutputMismatch(InferenceError):
    """The model answered another number of rows than there were records, so they cannot be joined."""


class TargetModelNotFound(InferenceError):
    """The endpoint's model prefix holds no artefact of that name: upload it, or mend the target model's name."""


class BatchFailed(InferenceError):
    """More records of a batch failed than are tolerated. A retry would find the same: the report says which."""


class BatchUnfinished(BatchFailed):
    """As above, but some failed for reasons that may pass. A retry does those again, and nothing else."""

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
    """AWS called the credentials or the signature expired or invalid, or the clock skewed.

    Keys that were made, rotated or written down just now are invalid for a moment.
    Fresh credentials were fetched at once where that is possible, and the request was sent again. A later retry helps.
    """

    retryable = True


class RequestRefused(ServiceError):
    """AWS refused the request (400): the message is the service's own."""


class PreconditionFailed(ServiceError):
    """A conditional write met an object that somebody else wrote meanwhile; nothing was changed."""


class Throttled(ServiceError):
    """AWS asked to slow down, or a limit of the account is reached. A later retry helps."""

    retryable = True


class ServiceUnavailable(ServiceError):
    """The service answered 5xx, did not answer in time, or nobody listens at that address. A later retry helps.

    So does one when there were no credentials: a metadata service that did not answer, or a file that is being written,
    looks like none at all.
    """

    retryable = True


class AnswerLost(ServiceUnavailable):
    """The request was sent, but no answer came: it may have been carried out. Sending it again may do it twice."""
