"""The errors the embedded SageMaker answers with.

::

    ServiceFailure                    code, HTTP status and message as the service writes them
    ├── ValidationFailure           ValidationException (control plane) or ValidationError (runtime), 400
    ├── ResourceNotFoundFailure     ResourceNotFound, 400 (Describe of a missing AutoML, transform, … job)
    ├── ResourceInUseFailure        ResourceInUse, 400 (the name of another job)
    ├── RecordedFailure               code, status and body of a row of recorded_answers.json (recorded.py)
    ├── UnknownOperationFailure     UnknownOperationException, 400: neither this service nor moto has the operation
    │   └── UnknownPathFailure      the same, 404, where method and path name the operation
    ├── MissingAuthenticationFailure MissingAuthenticationToken, 403: AWS requires a signature
    ├── AccessDeniedFailure         AccessDenied, 403: this client is not permitted to use the embedded SageMaker
    ├── NotAuthorizedFailure        AccessDeniedException or AccessDenied: the access key's policy permits no such call
    ├── InvalidParameterFailure     InvalidParameterException, 400 (Resource Groups Tagging API)
    ├── TemplateFailure             ValidationError, 400 (CloudFormation)
    ├── S3Failure                   S3's own code: MalformedXML, NoSuchUpload, InvalidArgument, …
    └── ModelFailure                ModelError, 424: the container raised, answered an error, or timed out
"""

from __future__ import annotations


class ServiceFailure(Exception):
    """An error answer of the service; ``fields`` are further top-level keys of its body."""

    code: str = "InternalFailure"
    status: int = 500

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def code_for(self, service: str) -> str:
        return "InternalError" if service == "s3" and self.code == ServiceFailure.code else self.code

    def body_for(self, service: str) -> dict[str, object]:
        code = self.code_for(service)
        if service == "sagemaker":
            return {"__type": code, "message": self.message, **self.fields}
        return {"ErrorCode": code, "Message": self.message, **self.fields}


class ValidationFailure(ServiceFailure):
    """The request is wrong; the control plane says ValidationException, the runtime ValidationError."""

    code = "ValidationException"
    status = 400

    def code_for(self, service: str) -> str:
        return "ValidationError" if service == "sagemaker-runtime" else self.code


class ResourceNotFoundFailure(ServiceFailure):
    """The named job does not exist."""

    code = "ResourceNotFound"
    status = 400


class ResourceInUseFailure(ServiceFailure):
    """Another job has the name."""

    code = "ResourceInUse"
    status = 400


class InvalidParameterFailure(ServiceFailure):
    """A parameter of the Resource Groups Tagging API is wrong."""

    code = "InvalidParameterException"
    status = 400


class TemplateFailure(ServiceFailure):
    """A template of CloudFormation cannot be deployed here."""

    code = "ValidationError"
    status = 400


class S3Failure(ServiceFailure):
    """A request of S3 is wrong. Retrying does not help."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class UnknownOperationFailure(ServiceFailure):
    """Neither this service nor moto knows the operation. Retrying does not help."""

    code = "UnknownOperationException"
    status = 400


class UnknownPathFailure(UnknownOperationFailure):
    """No operation of the service has this HTTP method and path. Retrying does not help."""

    status = 404


class MissingAuthenticationFailure(ServiceFailure):
    """The request is not signed, or its Authorization header cannot be read. Retrying does not help."""

    code = "MissingAuthenticationToken"
    status = 403


class AccessDeniedFailure(ServiceFailure):
    """The request comes from a web page, or for a host name that is not served. Retrying does not help."""

    code = "AccessDenied"
    status = 403


class NotAuthorizedFailure(ServiceFailure):
    """The caller's identity policies do not permit the call. Retrying does not help."""

    status = 403

    def __init__(self, message: str, *, service: str) -> None:
        super().__init__(message)
        self.code = "AccessDenied" if service in _ACCESS_DENIED else "AccessDeniedException"
        self.status = 400 if service in _JSON_DENIALS else 403


_ACCESS_DENIED = ("s3", "sqs", "sns", "iam", "sts", "monitoring")
"""Services whose code has no "Exception" at its end."""
_JSON_DENIALS = ("sagemaker", "logs", "application-autoscaling", "tagging")
"""Services of the protocol JSON 1.1, where only the code tells what happened."""


class ModelFailure(ServiceFailure):
    """The container behind the endpoint raised, answered an error, or did not answer in time."""

    code = "ModelError"
    status = 424

    def __init__(
        self, message: str, *, original_status: int, original_message: str, log_stream_arn: str
    ) -> None:
        super().__init__(
            message,
            OriginalStatusCode=original_status,
            OriginalMessage=original_message,
            LogStreamArn=log_stream_arn,
        )
        self.original_status = original_status
        self.original_message = original_message
