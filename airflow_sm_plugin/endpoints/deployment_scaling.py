"""The scaling of an endpoint's variants while an update changes them: refused, or taken down and put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.errors import words_of
from airflow_sm_plugin.endpoints.changes import (
    changing_variants,
    is_about_scaling,
    scaled_error,
    variant_names,
)
from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling
from airflow_sm_plugin.exceptions import AccessDenied, InvalidRequest, RequestRefused, SageMakerInferenceError
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.resources.scaling import unscalable_types

log = get_log(__name__)


@dataclass(eq=False)
class DeploymentScaling:
    """Scaling around an update: SageMaker refuses one that removes a scalable target or changes its instance type.

    ``served``, an argument of the methods, is DescribeEndpointConfig's answer for the endpoint's present configuration;
    None where it is not known.

    :param rescale: ``on_scaled="rescale"``: take the scaling down; else such an update is an error
    :param taken_down: the variants whose scaling this try, in any process, has taken down and not put back yet
    """

    noted: NotedScaling
    spec: EndpointConfigSpec
    rescale: bool
    taken_down: tuple[str, ...]
    _is_settled: bool = False

    def check(self, served: Mapping[str, Any] | None) -> None:
        """Raise EndpointScaled for an update that SageMaker would refuse, where ``rescale`` is off.

        Without the permission to describe the scaling, SageMaker's answer decides.

        :raises InvalidRequest: the scaling could not be put back
        """
        changing = served and changing_variants(served, self.spec.variants, with_pools=self.rescale)
        if not changing:
            return
        name, scaled = self.spec.endpoint_name, self._scaled(changing)
        if scaled and not self.rescale:
            raise scaled_error(name, scaled)
        for variant in self.spec.variants:
            fixed = unscalable_types(variant.parameters()) if variant.variant_name in scaled else []
            if fixed:
                raise InvalidRequest(
                    f"variant {variant.variant_name} of endpoint {name} scales, and would be moved to "
                    f"{', '.join(fixed)}: Application Auto Scaling does not scale t2 instances. Take another type, "
                    f"or take its scaling down before (SageMakerScaleEndpointOperator(action='remove'))"
                )

    def take_down(
        self, description: Mapping[str, Any], served: Mapping[str, Any] | None, *, was_refused: bool = False
    ) -> None:
        """Note the scaling of the variants that the update changes, then deregister them.

        Where those variants or their scaling are not known, nothing is taken down before SageMaker has refused.

        :raises InvalidRequest: the endpoint's tags have no room for the note, or hold an unreadable note
        :raises AccessDenied: a permission is missing; then nothing was taken down
        """
        if not self.rescale or (served is None and not was_refused):
            return
        changing = self._changing(description, served, with_pools=was_refused)
        try:
            targets = self.noted.variants.targets(self.spec.endpoint_name, changing)
        except AccessDenied:
            if was_refused:
                raise
            return
        if not targets:
            return
        names = (variant.variant_name for variant in targets)
        self.taken_down = tuple(dict.fromkeys([*self.taken_down, *names]))
        self._is_settled = False
        self.noted.take_down(str(description["EndpointArn"]), targets)

    def is_reason(
        self, refusal: RequestRefused, description: Mapping[str, Any], served: Mapping[str, Any] | None
    ) -> bool:
        """Decide whether scaling made SageMaker refuse an update; raise EndpointScaled then, unless ``rescale``."""
        cause = refusal.__context__
        code, message = words_of(cause) if isinstance(cause, ClientError) else ("", str(refusal))
        about_scaling = is_about_scaling(code, message)
        if about_scaling is False:
            return False
        scaled = self._scaled(self._changing(description, served, with_pools=True))
        if not scaled and about_scaling is None:
            return False
        if self.rescale:
            return True
        name, is_certain = self.spec.endpoint_name, about_scaling is not None
        raise scaled_error(name, scaled, refusal, is_certain=is_certain) from None

    def put_back(self, arn: str = "", *, serves: bool = True) -> None:
        """Put back the scaling that any deployment took down, also without ``rescale``: its loss was not asked for.

        :param arn: the endpoint's; empty where it is not known
        :param serves: whether the endpoint serves its configuration; else a failure to put back is a warning
        :raises SageMakerInferenceError: it cannot be put back, with ``rescale``; the note stays
        """
        try:
            self.noted.put_back(arn=arn, taken_down=self.taken_down)
        except SageMakerInferenceError as problem:
            if serves and self.rescale:
                raise
            self.noted.warn(problem, self.taken_down)
        self.taken_down, self._is_settled = (), True

    def put_back_after_failure(self) -> None:
        """Put back any try's scaling, as far as possible; without ``rescale`` the next deployment does that."""
        if self.rescale and not self._is_settled:
            self.put_back(serves=False)

    def put_back_at_once(self) -> None:
        """Put back, as far as possible, the scaling that this try took down, since its task is killed."""
        if self.taken_down:
            self.put_back(serves=False)

    def _scaled(self, variants: Sequence[str]) -> list[str]:
        name = self.spec.endpoint_name
        try:
            return [variant.variant_name for variant in self.noted.variants.registered(name, variants)]
        except AccessDenied as denied:
            log.info("whether endpoint %s scales is not known: %s", name, denied)
            return []

    def _changing(
        self, description: Mapping[str, Any], served: Mapping[str, Any] | None, *, with_pools: bool
    ) -> list[str]:
        """List the variants that the update changes; all where the configuration is not known."""
        if served is None:
            return variant_names(description)
        return changing_variants(served, self.spec.variants, with_pools=with_pools)
