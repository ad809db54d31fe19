"""Which variants of an endpoint are registered with moto's Application Auto Scaling, and the end of that."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.state import Record, Region

log = logging.getLogger(__name__)

FOLLOWER = "scaling-follower"
"""The table that is empty while nothing is registered: then nobody has to be asked."""


def of_endpoint(region: Region, name: str) -> set[str]:
    """Return the names of the endpoint's variants that are scalable targets."""
    return {str(target["ResourceId"]).rpartition("/")[2] for target in _targets(region, name)}


def deregister(region: Region, name: str) -> None:
    """Deregister all variants of an endpoint, as SageMaker does where the caller of DeleteEndpoint is permitted to."""
    client = region.aws.autoscaling(region.name)
    for target in list(_targets(region, name)):
        try:
            client.deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=target["ResourceId"],
                ScalableDimension=target["ScalableDimension"],
            )
        except (BotoCoreError, ClientError) as error:
            log.warning("%s stays registered: %s", target["ResourceId"], type(error).__name__)


def _targets(region: Region, name: str) -> Iterator[Record]:
    with region.table(FOLLOWER) as followers:
        if not followers:
            return
    pages = region.aws.autoscaling(region.name).get_paginator("describe_scalable_targets")
    for page in pages.paginate(ServiceNamespace="sagemaker"):
        for target in page["ScalableTargets"]:
            if str(target["ResourceId"]).startswith(f"endpoint/{name}/variant/"):
                yield dict(target)
