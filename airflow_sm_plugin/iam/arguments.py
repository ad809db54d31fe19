"""The names that a user gave, checked, as parts of ARNs; a placeholder such as ``<account>`` where one is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from airflow_sm_plugin.core.names import content_stem
from airflow_sm_plugin.exceptions import InvalidRequest

WILDCARDS = "*?"


@dataclass(frozen=True)
class Argument:
    """A command-line argument.

    :param pattern: what a value must match
    :param form: a description of a valid value
    :param several: whether it can be repeated
    """

    about: str
    pattern: str
    form: str
    several: bool = True


_ARN = r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:(?:\d{12})?:.+"
_NAME = r"[A-Za-z0-9*?-]+"
_NAME_FORM = "letters, digits and hyphens, with * and ? as wildcards"

ARGUMENTS: Mapping[str, Argument] = {
    "account": Argument("id of the AWS account", r"\d{12}", "12 digits", several=False),
    "region": Argument(
        "AWS region", r"[a-z]{2,}(?:-[a-z]+)+-\d", "a region such as eu-west-1", several=False
    ),
    "partition": Argument("default: aws", r"aws[a-z-]*", "aws, aws-cn or aws-us-gov", several=False),
    "endpoint": Argument("endpoint's name, e.g. churn or 'churn*'", _NAME, _NAME_FORM),
    "endpoint-config": Argument(
        "configuration's name, for endpoints that were not deployed by this package; default: <endpoint>-*",
        _NAME,
        _NAME_FORM,
    ),
    "model": Argument("model's name, e.g. 'churn-*'", _NAME, _NAME_FORM),
    "bucket": Argument(
        "bucket of artefacts, inputs and results", r"[a-z0-9.*?-]{3,63}", "a bucket's name, without s3://"
    ),
    "prefix": Argument(
        "keys below which they are, e.g. scores/; default: the whole bucket",
        r"(?!/|s3:)[^<>\s]+",
        "the beginning of keys, without bucket and without a slash before it",
    ),
    "role": Argument(
        "execution role that models get, as the operators are given it: ARN or name",
        rf"{_ARN}|[\w+=,.@*?-]+",
        "a role's ARN or its name",
    ),
    "auto-ml-job": Argument("AutoML job's name", _NAME, _NAME_FORM),
    "model-package-group": Argument("model package group's name", _NAME, _NAME_FORM),
    "transform-job": Argument("transform job's name", _NAME, _NAME_FORM),
    "repository": Argument(
        "ARN or name of the image's ECR repository", rf"{_ARN}|[a-z0-9._/*?-]+", "an ARN or a name"
    ),
    "kms-key": Argument(
        "ARN or id of the key that encrypts results, or the bucket; without it no kms action is printed",
        r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+|(?!alias/)[\w-]+",
        "the ARN or the id of a key: IAM takes no alias",
    ),
    "queue": Argument("ARN or name of completion_queue", rf"{_ARN}|[\w.*?-]+", "an ARN or a name"),
    "topic": Argument(
        "ARN or name of an SNS topic of asynchronous endpoints", rf"{_ARN}|[\w.*?-]+", "an ARN or a name"
    ),
}


def checked(name: str, values: Sequence[str]) -> list[str]:
    """Check an argument's values.

    :raises InvalidRequest: a value is not valid
    """
    argument = ARGUMENTS[name]
    for value in values:
        if not re.fullmatch(argument.pattern, value):
            raise InvalidRequest(f"--{name} must be {argument.form}; not {value!r}")
    return list(dict.fromkeys(values))


def parts_of_arns(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Make the values of the names in :data:`~airflow_sm_plugin.iam.features.RESOURCES`.

    :param given: argument → its values
    :raises InvalidRequest: a value is not valid
    """
    values = {name: checked(name, given.get(name) or ()) for name in ARGUMENTS}

    def filled(name: str, missing: str = "") -> list[str]:
        return values[name] or [missing or f"<{name}>"]

    partition, account, region = filled("partition", "aws")[0], filled("account")[0], filled("region")[0]

    def arns(name: str, build: Callable[[str], str]) -> list[str]:
        return [value if value.startswith("arn:") else build(value) for value in filled(name)]

    def regional(service: str, kind: str = "") -> Callable[[str], str]:
        return lambda name: f"arn:{partition}:{service}:{region}:{account}:{kind}{name}"

    return {
        "partition": [partition],
        "account": [account],
        "region": [region],
        "endpoint": [name.lower() for name in filled("endpoint")],
        "endpoint_config": [
            name.lower() for name in values["endpoint-config"] or map(configs_of, filled("endpoint"))
        ],
        "log_endpoint": filled("endpoint"),
        "model": [name.lower() for name in filled("model")],
        "auto_ml_job": [name.lower() for name in filled("auto-ml-job")],
        "model_package_group": [name.lower() for name in filled("model-package-group")],
        "transform_job": [name.lower() for name in filled("transform-job")],
        "bucket": filled("bucket"),
        "prefix": values["prefix"] or ["" if values["bucket"] else "<prefix>"],
        "role": arns("role", lambda name: f"arn:{partition}:iam::{account}:role/{name}"),
        "repository": arns("repository", regional("ecr", "repository/")),
        "kms_key": arns("kms-key", regional("kms", "key/")),
        "queue": arns("queue", regional("sqs")),
        "topic": arns("topic", regional("sns")),
    }


def configs_of(endpoint: str) -> str:
    """Return the pattern of the configurations' names that the package derives from an endpoint's name."""
    if endpoint.endswith("*") or endpoint.startswith("<"):
        return endpoint.removesuffix("*") + ("*" if endpoint.endswith("*") else "-*")
    return f"{endpoint if set(endpoint) & set(WILDCARDS) else content_stem(endpoint)}-*"
