"""Scale the instances of a SageMaker endpoint with its load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.exceptions import AccessDenied, EndpointNotFound, InvalidRequest
from airflow_sm_plugin.links import EndpointConsoleLink, persist_endpoint
from airflow_sm_plugin.resources.scaling import ScaledVariant, Scaling, plan_scaling

if TYPE_CHECKING:
    from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
    from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

_ACTIONS = ("apply", "remove")


class SageMakerScaleEndpointOperator(SageMakerInferenceOperator):
    """Register a production variant with Application Auto Scaling, or deregister it. Both can be repeated.

    An **asynchronous** endpoint scales by target tracking on its backlog per instance. With ``min_capacity=0`` it
    scales in to no instance when idle. A step scaling policy with its CloudWatch alarm then starts the first instance
    when a request waits: target tracking alone can let a few requests wait for ever. A **real-time** endpoint scales by
    target tracking on invocations per instance, down to one instance. A serverless variant scales by itself.

    ``action="apply"`` puts the wanted policies and removes those of an earlier run of this operator that are no longer
    wanted; other policies remain. ``action="remove"`` deregisters the variant, which keeps its instances, and deletes
    its policies and our alarm; a missing variant or endpoint is no error.

    ``SageMakerDeployEndpointOperator`` records scaling that it removed and has not restored in the endpoint's tags.
    Both actions delete that record, so that no later deployment restores it. This needs ``sagemaker:DescribeEndpoint``,
    ``ListTags`` and ``DeleteTags``; without them the next deployment restores it.

    Returns on XCom: ``{"endpoint_name", "variant_name", "min_capacity", "max_capacity", "policies": {name: ARN},
    "alarm_names": [...], "removed": [...]}``; capacities are None after ``remove``. The alarms that Application Auto
    Scaling itself creates for target tracking are not listed.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param min_capacity: instances, 0 or more for an asynchronous endpoint, 1 or more for a real-time one; required to
        apply
    :param max_capacity: instances, 1 or more; required to apply
    :param variant_name: default ``AllTraffic``
    :param action: ``"apply"`` (default) or ``"remove"``
    :param target_backlog_per_instance: waiting requests for each instance, greater than 0; only for an asynchronous
        endpoint; default 5
    :param target_invocations_per_instance: invocations a minute for each instance, greater than 0; only for a
        real-time endpoint, where it is required
    :param scale_in_cooldown: seconds between two scale-ins; default 300
    :param scale_out_cooldown: seconds between two scale-outs, including the first from 0 instances; default 300
    :raises InvalidRequest: an argument breaks a limit or does not fit this endpoint, or the variant does not exist
    :raises EndpointNotFound: no such endpoint
    :raises EndpointNotInService: the endpoint has no variants, not yet or no longer
    :raises EndpointUnchangeable: the endpoint is Failed
    """

    not_templated = ()
    operator_extra_links = (EndpointConsoleLink(),)

    def __init__(
        self,
        *,
        endpoint_name: str,
        min_capacity: int | str | None = None,
        max_capacity: int | str | None = None,
        variant_name: str = "AllTraffic",
        action: str = "apply",
        target_backlog_per_instance: float | str | None = None,
        target_invocations_per_instance: float | str | None = None,
        scale_in_cooldown: int | str = 300,
        scale_out_cooldown: int | str = 300,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.min_capacity = min_capacity
        self.max_capacity = max_capacity
        self.variant_name = variant_name
        self.action = action
        self.target_backlog_per_instance = target_backlog_per_instance
        self.target_invocations_per_instance = target_invocations_per_instance
        self.scale_in_cooldown = scale_in_cooldown
        self.scale_out_cooldown = scale_out_cooldown

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
        from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling

        with self.reading_arguments():
            if self.action not in _ACTIONS:
                raise InvalidRequest(f"action must be {' or '.join(_ACTIONS)}, not {self.action!r}")
            variant = ScaledVariant(self.endpoint_name, self.variant_name).checked()
            scaler = EndpointScaling(self.aws)
            applies = self.action == "apply"
            with self.naming_what_is_left(variant.endpoint_name):
                result = self._apply(variant, scaler, context) if applies else self._remove(variant, scaler)
            NotedScaling(self.control_plane(), variant.endpoint_name, scaler).give_up([variant.variant_name])
            return {"endpoint_name": variant.endpoint_name, "variant_name": variant.variant_name, **result}

    def _apply(self, variant: ScaledVariant, scaler: EndpointScaling, context: Context) -> dict[str, Any]:
        scaling = Scaling.read(
            min_capacity=self.min_capacity,
            max_capacity=self.max_capacity,
            target_backlog_per_instance=self.target_backlog_per_instance,
            target_invocations_per_instance=self.target_invocations_per_instance,
            scale_in_cooldown=self.scale_in_cooldown,
            scale_out_cooldown=self.scale_out_cooldown,
        )
        hook = self.control_plane()
        description = hook.describe_endpoint(variant.endpoint_name)
        if description is None:
            raise EndpointNotFound(
                f"there is no endpoint {variant.endpoint_name} in {hook.conn_region_name}",
                do="deploy it first, or correct its name or region_name",
            )
        persist_endpoint(context, self.console(hook), endpoint_name=variant.endpoint_name)
        config = self._config(hook, description.get("EndpointConfigName"))
        applied = scaler.apply(plan_scaling(variant, scaling, description, config))
        return {
            "min_capacity": scaling.min_capacity,
            "max_capacity": scaling.max_capacity,
            "policies": dict(applied.policies),
            "alarm_names": list(applied.alarm_names),
            "removed": list(applied.removed),
        }

    def _config(self, hook: SageMakerControlPlaneHook, name: str | None) -> Mapping[str, Any] | None:
        """Describe the endpoint's configuration, where that is permitted: it shows variants that cannot scale."""
        try:
            return hook.configs.describe(name) if name else None
        except AccessDenied as denied:
            self.log.info("the configuration of endpoint %s is not known: %s", self.endpoint_name, denied)
            return None

    def _remove(self, variant: ScaledVariant, scaler: EndpointScaling) -> dict[str, Any]:
        removed = scaler.remove(variant.endpoint_name, [variant.variant_name])
        return {
            "min_capacity": None,
            "max_capacity": None,
            "policies": {},
            "alarm_names": [],
            "removed": removed,
        }
