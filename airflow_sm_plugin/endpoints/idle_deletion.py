"""Find endpoints that our DAGs made, and delete the idle ones. ``idleness`` decides; others' resources stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.core.names import ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.endpoints.deletion import EndpointDeletion, EndpointUsage
from airflow_sm_plugin.endpoints.idleness import IdleDecision, MadeResource, RunState, SeenEndpoint, decide
from airflow_sm_plugin.endpoints.noted_scaling import remove_for_good
from airflow_sm_plugin.exceptions import AccessDenied, EndpointTakenOver
from airflow_sm_plugin.hooks.calls import pages_of
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.endpoint_usage import EndpointUsageHook
from airflow_sm_plugin.hooks.tagged_resources import TaggedResourcesHook
from airflow_sm_plugin.resources.made_in import MadeIn, creator_in, deployer_in

log = get_log(__name__)

_LOOKBACK = 14 * 24 * 3600.0
"""Seconds for which the table tells since when an endpoint is idle. CloudWatch has hours for over a year."""
_COARSE = 3 * 3600.0
"""Up to so many idle seconds, only the time in question is read, by the minute."""


class _Spared(EndpointTakenOver):
    """The endpoint changed after the decision. The text is the new reason to keep it."""


@dataclass(eq=False)
class IdleEndpoints:
    """The endpoints of one account and region that our operators made.

    :param run_state: asks Airflow for the state of a task instance's DAG run
    :param idle_seconds: how long an endpoint must not have been invoked
    """

    aws: AwsConnection
    hook: SageMakerControlPlaneHook
    run_state: Callable[[MadeIn], RunState]
    idle_seconds: float

    def names(self) -> list[str]:
        """List the names of our endpoints, and of endpoints that are gone but left configurations of ours.

        :raises AccessDenied: ``tag:GetResources`` or ``sagemaker:ListEndpoints`` is not permitted
        """
        tagged = TaggedResourcesHook(**self.aws.hook_arguments()).with_tag(
            OWNER_TAG, ["sagemaker:endpoint", "sagemaker:endpoint-config"]
        )
        with translated("sagemaker:ListEndpoints"):
            pages = pages_of(self.hook.client, "list_endpoints", PaginationConfig={"PageSize": 100})
            # An ARN has the name in lower case.
            existing = {
                each["EndpointArn"]: str(each["EndpointName"]) for page in pages for each in page["Endpoints"]
            }
        ours = {name for arn, name in existing.items() if arn in tagged}
        left = {tags[ENDPOINT_TAG] for tags in tagged.values() if ENDPOINT_TAG in tags}
        return sorted(ours | (left - set(existing.values())))

    def see(self, name: str) -> tuple[SeenEndpoint, IdleDecision]:
        """Read what is there under a name, and decide about it. Tags are read last."""
        seen, _ = self._seen(name)
        return seen, decide(seen, now=time.time(), idle_seconds=self.idle_seconds)

    def delete(
        self, name: str, *, with_models: bool, max_wait: float, poll_interval: float
    ) -> tuple[list[str], str]:
        """Decide again, then delete: endpoint, scaling, models, configurations.

        Scaling after the endpoint, so that one that is spared keeps it; configurations last, so that what a kill leaves
        in between is found by them.

        :return: what was deleted, and the reason why the rest stays, if any
        """
        seen, description = self._seen(name)
        decision = decide(seen, now=time.time(), idle_seconds=self.idle_seconds)
        if not decision.delete:
            return [], decision.reason
        deletion = EndpointDeletion(self.hook, name)
        if not deletion.is_of(description):
            return [], "it was created again meanwhile"
        try:
            existed = deletion.delete_endpoint(
                max_wait=max_wait, poll_interval=poll_interval, check=lambda: self._check(name, description)
            )
        except _Spared as reason:
            return [], str(reason)
        deleted = [f"endpoint {name}"] if existed else []
        deleted += [f"scaling {resource}" for resource in remove_for_good(self.hook, self.aws, name)]
        if with_models:
            models = deletion.delete_models([], of_configs=True)
            deleted += [f"model {model}" for model, was_there in models.items() if was_there]
        configs = deletion.delete_configs()
        deleted += [f"endpoint configuration {config}" for config, was_there in configs.items() if was_there]
        return deleted, ""

    def _check(self, name: str, described: Mapping[str, Any] | None) -> None:
        """Decide once more, immediately before DeleteEndpoint."""
        seen, description = self._seen(name)
        decision = decide(seen, now=time.time(), idle_seconds=self.idle_seconds)
        if not decision.delete:
            raise _Spared(decision.reason)
        if (description or {}).get("CreationTime") != (described or {}).get("CreationTime"):
            raise _Spared("it was created again meanwhile")

    def _seen(self, name: str) -> tuple[SeenEndpoint, Mapping[str, Any] | None]:
        description = self.hook.describe_endpoint(name)
        if description is None:
            resources = list(self._left(name))
            objection = self._use_of([resource.name for resource in resources])
            seen = SeenEndpoint(name=name, status=None, resources=resources, objection=objection)
        else:
            seen = self._with_usage(self._existing(name, description), description)
        makers = {made for resource in seen.resources for made in resource.made_in if made is not None}
        return replace(seen, runs={made: self.run_state(made) for made in makers}), description

    def _existing(self, name: str, description: Mapping[str, Any]) -> SeenEndpoint:
        status = str(description["EndpointStatus"])
        config = str(description.get("EndpointConfigName") or "")
        objection = self._objection(name, config)
        tags = self.hook.tags_of(description["EndpointArn"])
        if tags is None:
            unread = "its tags cannot be read (sagemaker:ListTags)"
            return SeenEndpoint(name=name, status=status, resources=(), objection=unread)
        if OWNER_TAG not in tags:
            return SeenEndpoint(name=name, status=status, resources=())
        changed = max(description["CreationTime"], description["LastModifiedTime"]).timestamp()
        made = list(dict.fromkeys([creator_in(tags), deployer_in(tags)]))
        resource = MadeResource(name=name, made_in=made, changed_at=changed)
        return SeenEndpoint(name=name, status=status, resources=[resource], objection=objection)

    def _objection(self, name: str, config: str) -> str:
        """Return why the endpoint is no longer as our operators left it."""
        if not config or self.hook.configs.is_made_for(name, config):
            return "" if config else "DescribeEndpoint does not name its configuration"
        return f"it has configuration {config}, which our operators did not make for it, or which is gone"

    def _left(self, name: str) -> Iterator[MadeResource]:
        for config in self.hook.configs.made_for(name):
            description = self.hook.configs.describe(config)
            if description is not None:
                tags = self.hook.tags_of(description["EndpointConfigArn"]) or {}
                created = description["CreationTime"].timestamp()
                yield MadeResource(name=config, made_in=[creator_in(tags)], changed_at=created)

    def _use_of(self, configs: Sequence[str]) -> str:
        """Return why configurations without their own endpoint are in use."""
        try:
            used = EndpointUsage(self.hook).of_configs(configs)
        except AccessDenied as denied:
            return f"not known whether an endpoint uses its configurations: {denied.as_sentence}"
        return f"another endpoint uses configuration {', '.join(sorted(used))}" if used else ""

    def _with_usage(self, seen: SeenEndpoint, description: Mapping[str, Any]) -> SeenEndpoint:
        if not seen.resources:
            return seen
        names = [variant["VariantName"] for variant in description.get("ProductionVariants") or ()]
        if not names and seen.status != "Failed":
            return replace(seen, usage_unknown="DescribeEndpoint names no variant")
        lookback = self.idle_seconds if self.idle_seconds <= _COARSE else max(self.idle_seconds, _LOOKBACK)
        try:
            used = self._usage.last_used({seen.name: names}, seconds=lookback, now=time.time())
        except AccessDenied as denied:
            return replace(seen, usage_unknown=denied.as_sentence)
        if seen.name not in used:
            return replace(seen, usage_unknown="CloudWatch did not answer completely")
        return replace(seen, last_used=used[seen.name])

    @cached_property
    def _usage(self) -> EndpointUsageHook:
        return EndpointUsageHook(**self.aws.hook_arguments())
