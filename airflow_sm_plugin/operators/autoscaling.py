"""Scale the instances of a SageMaker endpoint with its work."""

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

_ACTIONS = ("apply", "remove")


class SageMakerScaleEndpointOperator(SageMakerInferenceOperator):
    """Register a production variant with Application Auto Scaling, or take it off again. Both may be repeated.

    An **asynchronous** endpoint scales by target tracking on its backlog per instance. With ``min_capacity=0`` it goes
    down to no instance at all when idle; a step scaling policy with its CloudWatch alarm wakes it when a request
    waits, since target tracking alone may let a few requests wait for ever. A **real-time** endpoint scales by target
    tracking on invocations per instance, down to one instance. DescribeEndpoint shows which it is; a serverless
    variant scales by itself.

    ``action="apply"`` puts the wanted policies and removes those of an earlier run of this operator that are no longer
    wanted; policies that others made are left alone. ``action="remove"`` deregisters the variant, which keeps its
    instances, and deletes its policies and our alarm; a missing one is fine, a missing endpoint too.

    Both delete the note, in the endpoint's tags, of scaling that ``SageMakerDeployEndpointOperator`` took down before
    and has not put back, so that no later deployment does (asks for ``sagemaker:DescribeEndpoint``, ``ListTags`` and
    ``DeleteTags``; without them the next deployment puts it back).

    Returns on XCom: ``{"endpoint_name", "variant_name", "min_capacity", "max_capacity", "policies": {name: ARN},
    "alarm_names": [...], "removed": [...]}``; capacities are None after ``remove``. The alarms that Application Auto
    Scaling makes for target tracking are its own and not listed.

    :param endpoint_name: the endpoint's name
    :param min_capacity: instances, 0 or more for an asynchronous endpoint, 1 or more for a real-time one; needed to
        apply
    :param max_capacity: instances, 1 or more; needed to apply
    :param variant_name: default ``AllTraffic``
    :param action: ``"apply"``, the default, or ``"remove"``
    :param target_backlog_per_instance: waiting requests for each instance, greater than 0; only for an asynchronous
        endpoint; default 5
    :param target_invocations_per_instance: invocations a minute for each instance, greater than 0; only for a
        real-time endpoint, which needs it
    :param scale_in_cooldown: seconds between two scale-ins; default 300
    :param scale_out_cooldown: seconds between two scale-outs, waking from zero included; default 300
    :raises InvalidRequest: an argument breaks a limit or does not fit this endpoint, or it has no such variant; not
        retried
    :raises EndpointNotFound: there is no such endpoint; not retried
    :raises EndpointNotInService: it has no variants yet or no more; retried
    :raises EndpointUnchangeable: it is Failed; not retried
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
        with self.reading_arguments():
            if self.action not in _ACTIONS:
                raise InvalidRequest(f"action must be {' or '.join(_ACTIONS)}, not {self.action!r}")
            variant = ScaledVariant(self.endpoint_name, self.variant_name).checked()
            return self._apply(variant, context) if self.action == "apply" else self._remove(variant)

    def _apply(self, variant: ScaledVariant, context: Context) -> dict[str, Any]:
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
                f"there is no endpoint {variant.endpoint_name} in {hook.conn_region_name}: deploy it first"
            )
        persist_endpoint(context, region_name=hook.conn_region_name, endpoint_name=variant.endpoint_name)
        plan = plan_scaling(variant, scaling, description, self._config_of(description))
        scaling_hook = self._scaling()
        applied = scaling_hook.apply(plan)
        self._give_up_noted(variant, scaling_hook)
        return {
            "endpoint_name": variant.endpoint_name,
            "variant_name": variant.variant_name,
            "min_capacity": scaling.min_capacity,
            "max_capacity": scaling.max_capacity,
            "policies": dict(applied.policies),
            "alarm_names": list(applied.alarm_names),
            "removed": list(applied.removed),
        }

    def _config_of(self, description: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Describe the endpoint's configuration, which holds what does not scale; None if it is not known."""
        name = description.get("EndpointConfigName")
        try:
            return self.control_plane().configs.describe(str(name)) if name else None
        except AccessDenied as denied:
            self.log.info("the configuration of endpoint %s is not known: %s", self.endpoint_name, denied)
            return None

    def _remove(self, variant: ScaledVariant) -> dict[str, Any]:
        scaling_hook = self._scaling()
        removed = scaling_hook.remove(variant.endpoint_name, [variant.variant_name])
        self._give_up_noted(variant, scaling_hook)
        return {
            "endpoint_name": variant.endpoint_name,
            "variant_name": variant.variant_name,
            "min_capacity": None,
            "max_capacity": None,
            "policies": {},
            "alarm_names": [],
            "removed": removed,
        }

    def _give_up_noted(self, variant: ScaledVariant, scaling: EndpointScaling) -> None:
        """Have no later deployment put back the variant's scaling that an earlier one took down."""
        from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling

        NotedScaling(self.control_plane(), variant.endpoint_name, scaling).give_up([variant.variant_name])

    def _scaling(self) -> EndpointScaling:
        from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling

        return EndpointScaling(self.aws)
